package kpop

import (
	"crypto/tls"
	"fmt"
)

// stlsAllowed says whether STLS can be used now: not under TLS (RFC 2595
// section 4) and not under a SASL security layer.
func (c *conn) stlsAllowed() bool {
	return c.port.TLS != nil && c.tls == nil && !c.layered
}

// upgrade answers STLS and makes the handshake (RFC 2595 section 4). Octets
// that came behind the command in clear are an injection: they would be taken
// for what the client said under TLS. The connection ends then, as it does
// when the handshake fails; nothing ever goes on in clear.
func (c *conn) upgrade() error {
	if !c.stlsAllowed() {
		return refNoSTLS
	}
	if c.r < c.w {
		return &ending{how: "octets behind STLS", reply: &refusal{text: "Nothing may follow STLS"}}
	}
	c.ok("Begin TLS")
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.startTLS(); err != nil {
		return &ending{how: "TLS handshake failed: " + err.Error()}
	}
	return nil
}

// startTLS makes the handshake within the login's deadline.
func (c *conn) startTLS() error {
	c.releaseIn()
	secure := tls.Server(patientConn{c.raw, c}, c.port.TLS())
	if err := secure.Handshake(); err != nil {
		return err
	}
	c.tls, c.nc, c.direct, c.ready = secure, secure, nil, nil
	c.utf8, c.lang = false, nil
	state := secure.ConnectionState()
	name := fmt.Sprintf("%s %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	c.secured.Store(&name)
	return nil
}
