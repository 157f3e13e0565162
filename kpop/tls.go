package kpop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
)

// canSTLS says whether STLS may be used now (RFC 2595 section 4).
func (c *conn) canSTLS() bool { return c.port.TLS != nil && c.peer.TLS == nil && !c.layered }

var errInjected = errors.New("kpop: octets behind STLS before the handshake")

// upgrade answers STLS and does the handshake. Whatever the client sent behind
// the command came in clear and may be an attacker's: it ends the connection.
// So does a failed handshake; nothing goes on in clear after it.
func (c *conn) upgrade(ctx context.Context) error {
	if !c.canSTLS() {
		return errTLSUnavailable
	}
	if c.in != nil && c.inFrom < c.inTo {
		return errInjected
	}
	if err := c.reply("+OK begin TLS"); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	return c.handshake(ctx)
}

// handshake puts TLS over the connection as it is.
func (c *conn) handshake(ctx context.Context) error {
	if err := c.raw.SetDeadline(c.limit); err != nil {
		return err
	}
	t := tls.Server(c.raw, c.port.TLS())
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("kpop: TLS handshake: %w", err)
	}
	c.rw = t
	c.peer.TLS = tlsState(t)
	return nil
}

// stls gives back a fresh AUTHORIZATION: the user name and the APOP stamp said
// in clear die with the old value (RFC 2595 section 4).
func (a *authorization) stls(ctx context.Context, _ [][]byte) (state, error) {
	if err := a.upgrade(ctx); err != nil {
		return nil, err
	}
	return &authorization{conn: a.conn}, nil
}
