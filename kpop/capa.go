package kpop

import (
	"strconv"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// capaState is what of CAPA depends on the state and the connection.
type capaState struct {
	passwords bool
	stls      bool
	sasl      []auth.Mechanism
	account   *auth.Account // after login
}

// capabilities answers CAPA (RFC 2449 section 5). Each line stands there
// exactly when what it names can be used.
func (c *conn) capabilities(s capaState) error {
	b := append(*c.output(), "+OK capabilities follow\r\n"...)
	if len(s.sasl) > 0 {
		b = append(b, "SASL"...)
		for _, m := range s.sasl {
			b = append(append(b, ' '), m.Name...)
		}
		b = append(b, "\r\n"...)
	}
	if s.stls {
		b = append(b, "STLS\r\n"...) // RFC 2595 section 4
	}
	if s.passwords {
		b = append(b, "USER\r\n"...)
	}
	b = append(b, "TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n"...)
	if s.account != nil {
		b = appendAccount(b, s.account)
	}
	*c.out = append(b, "IMPLEMENTATION kpopd\r\n.\r\n"...)
	return c.relieve()
}

// appendAccount announces the account's terms (RFC 2449 sections 6.5, 6.7).
func appendAccount(b []byte, a *auth.Account) []byte {
	const day = 24 * time.Hour
	switch {
	case a.Retention < 0:
		b = append(b, "EXPIRE NEVER\r\n"...)
	case a.Retention > 0:
		b = strconv.AppendInt(append(b, "EXPIRE "...), int64(a.Retention/day), 10)
		b = append(b, "\r\n"...)
	}
	if a.LoginDelay > 0 {
		b = strconv.AppendInt(append(b, "LOGIN-DELAY "...), int64(a.LoginDelay/time.Second), 10)
		b = append(b, "\r\n"...)
	}
	return b
}

// mechanisms are those that can be used on this connection now, in order.
func (c *conn) mechanisms() []auth.Mechanism {
	var out []auth.Mechanism
	for _, m := range c.port.Mechanisms {
		if m.Plaintext && c.peer.TLS == nil && !c.port.PasswordInClear {
			continue
		}
		if m.Usable == nil || m.Usable(c.peer) {
			out = append(out, m)
		}
	}
	return out
}
