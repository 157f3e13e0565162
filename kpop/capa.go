package kpop

import (
	"context"
	"strconv"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// sendCapa answers CAPA (RFC 2449 section 5). What can be used in AUTHORIZATION
// is announced in both states, as the RFCs that define it say; account is nil
// before login. IMPLEMENTATION is for those who have logged in.
func (c *conn) sendCapa(account *auth.Account) {
	c.ok("Capability list follows")
	c.putString("TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n")
	if c.userAllowed() {
		c.putString("USER\r\n")
		c.putString("UTF8 USER\r\n") // RFC 6856 section 2.2
	} else {
		c.putString("UTF8\r\n")
	}
	c.putString("LANG\r\n") // RFC 6856 section 3
	if c.port.Preamble == nil {
		c.capaSASL()
	}
	if c.stlsAllowed() {
		c.putString("STLS\r\n") // RFC 2595 section 4
	}
	if account != nil {
		c.capaAccount(account)
	}
	c.putString(".\r\n")
}

// capaSASL lists the mechanisms (RFC 5034 section 3), none when none can be used.
func (c *conn) capaSASL() {
	peer := c.peer()
	begun := false
	for i := range c.port.Mechanisms {
		m := &c.port.Mechanisms[i]
		if !c.offers(m, peer) {
			continue
		}
		if !begun {
			c.putString("SASL")
			begun = true
		}
		c.putString(" ")
		c.putString(m.Name)
	}
	if begun {
		c.putString("\r\n")
	}
}

func (c *conn) capaAccount(account *auth.Account) {
	switch days := int64(account.Retention / (24 * time.Hour)); { // RFC 2449 section 6.7
	case account.Retention < 0:
		c.putString("EXPIRE NEVER\r\n")
	case account.Retention > 0:
		c.capaNumber("EXPIRE ", days)
	}
	if account.LoginDelay > 0 { // RFC 2449 section 6.5
		c.capaNumber("LOGIN-DELAY ", int64((account.LoginDelay+time.Second-1)/time.Second))
	}
	if c.srv.Implementation != "" {
		c.putString("IMPLEMENTATION ")
		c.putString(c.srv.Implementation)
		c.putString("\r\n")
	}
}

func (c *conn) capaNumber(tag string, v int64) {
	c.putString(tag)
	c.room(24)
	c.out = strconv.AppendInt(c.out, v, 10)
	c.putString("\r\n")
}

func (t *transaction) capa(context.Context, *command) (state, error) {
	t.sendCapa(&t.account)
	return t, nil
}
