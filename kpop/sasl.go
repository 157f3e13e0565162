package kpop

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// saslRounds bounds a dialogue that never ends.
const saslRounds = 32

// offers says whether mechanism m can be used now.
func (c *conn) offers(m *auth.Mechanism, peer auth.Peer) bool {
	switch {
	case c.port.RequireTLS && c.tls == nil:
		return false
	case m.Plaintext && !c.passwordsAllowed():
		return false
	}
	return m.Usable == nil || m.Usable(peer)
}

// auth is the AUTH command (RFC 5034 section 4). Without argument it lists the
// mechanisms, an older habit that clients keep.
func (a *authorization) auth(ctx context.Context, cmd *command) (state, error) {
	peer := a.peer()
	if cmd.n == 0 {
		a.listMechanisms(peer)
		return a, nil
	}
	m := a.mechanism(string(cmd.arg[0]), peer)
	if m == nil {
		return a, refMechanism
	}
	response, err := initialResponse(cmd)
	if err != nil {
		return a, err
	}
	ctx, cancel := a.loginContext(ctx)
	defer cancel()
	x := m.Begin(peer)
	id, began, err := a.dialogue(ctx, x, response)
	var r *refusal
	if err != nil && (isConnError(err) || errors.As(err, &r)) {
		return a, err
	}
	next, err := a.proved(ctx, a, began, mechanismIdentity(id, m.Name), err)
	if err == nil {
		err = a.held.layer(x)
	}
	return next, err
}

func mechanismIdentity(id *auth.Identity, mechanism string) auth.Identity {
	if id == nil {
		return auth.Identity{Mechanism: mechanism}
	}
	return *id
}

func (a *authorization) listMechanisms(peer auth.Peer) {
	a.ok("Mechanisms follow")
	for i := range a.port.Mechanisms {
		if m := &a.port.Mechanisms[i]; a.offers(m, peer) {
			a.putString(m.Name)
			a.putString("\r\n")
		}
	}
	a.putString(".\r\n")
}

func (a *authorization) mechanism(name string, peer auth.Peer) *auth.Mechanism {
	for i := range a.port.Mechanisms {
		if m := &a.port.Mechanisms[i]; strings.EqualFold(m.Name, name) && a.offers(m, peer) {
			return m
		}
	}
	return nil
}

// initialResponse is nil without one, and empty but not nil for "=" (RFC 5034
// section 4).
func initialResponse(cmd *command) ([]byte, error) {
	switch {
	case cmd.n < 2:
		return nil, nil
	case string(cmd.arg[1]) == "=":
		return []byte{}, nil
	}
	return decode(cmd.arg[1])
}

// connError marks an error of the connection among those of an exchange.
type connError struct{ error }

func (e connError) Unwrap() error { return e.error }

func isConnError(err error) bool {
	var c connError
	return errors.As(err, &c)
}

// dialogue runs an exchange to its identity, and tells when the client's last line was
// there: were the time until a refusal counted from AUTH, a client could wait until
// just before a multiple of the delay, and would learn on which side of it the answer
// was ready.
func (a *authorization) dialogue(ctx context.Context, x auth.Exchange, response []byte) (*auth.Identity, time.Time, error) {
	asked := time.Now()
	for range saslRounds {
		challenge, id, err := x.Next(ctx, response)
		if err != nil || id != nil {
			return id, asked, err
		}
		a.challenge(challenge)
		if response, err = a.response(); err != nil {
			return nil, asked, err
		}
		asked = time.Now()
	}
	return nil, asked, fmt.Errorf("kpop: no end after %d rounds: %w", saslRounds, auth.ErrProtocol)
}

// challenge sends "+ " and base64; an empty challenge keeps the blank, which
// clients insist on.
func (a *authorization) challenge(p []byte) {
	a.putString("+ ")
	text := base64.StdEncoding.AppendEncode(nil, p)
	a.traceSecret("S", len(text))
	a.put(text)
	a.putString("\r\n")
}

// response reads the client's line: base64, or "*" to cancel (RFC 5034 section 4).
func (a *authorization) response() ([]byte, error) {
	line, err := a.readLimited(func([]byte) int { return a.terms.limits.SASLLine })
	var r *refusal
	switch {
	case errors.As(err, &r):
		return nil, r
	case err != nil:
		return nil, connError{err}
	}
	a.traceSecret("C", len(line))
	if string(line) == "*" {
		return nil, refCancelled
	}
	return decode(line)
}

// decode is strict: no line ends, which the library would skip, and no bits
// behind the end.
func decode(text []byte) ([]byte, error) {
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(raw, text)
	if err != nil || bytes.IndexByte(text, '\r') >= 0 {
		return nil, &refusal{text: refProtocol.text, bad: true}
	}
	return raw[:n], nil
}

// layer puts the negotiated security layer, if any, between the session and
// the connection (RFC 4422 section 3.7). The reply to AUTH goes out in clear
// before; what the client has sent behind its last response is the layer's. What
// was said in clear before, UTF8 and LANG, is forgotten (RFC 5034 section 4), as it
// is by STLS: anybody on the way could have said it.
func (t *transaction) layer(x auth.Exchange) error {
	layered, ok := x.(auth.Layered)
	if !ok {
		return nil
	}
	held := &heldConn{Conn: t.nc}
	if t.tls == nil {
		held.Conn = patientConn{t.raw, t.conn}
	}
	wrapped := layered.Layer(held)
	if wrapped == nil {
		return nil
	}
	if err := t.flush(); err != nil {
		return err
	}
	held.left = bytes.Clone(t.in[t.r:t.w])
	t.releaseIn()
	t.nc, t.direct, t.ready, t.layered = wrapped, nil, nil, true
	t.utf8, t.lang = false, nil
	return nil
}

// A heldConn is a connection whose next octets were read already.
type heldConn struct {
	net.Conn
	left []byte
}

func (h *heldConn) Read(p []byte) (int, error) {
	if len(h.left) == 0 {
		return h.Conn.Read(p)
	}
	n := copy(p, h.left)
	if h.left = h.left[n:]; len(h.left) == 0 {
		h.left = nil
	}
	return n, nil
}
