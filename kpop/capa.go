package kpop

import (
	"context"
	"strconv"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// sendCapa answers CAPA (RFC 2449 section 5). What can be used in AUTHORIZATION
// is announced in both states, as the RFCs that define it say, but for STLS;
// account is nil before login. IMPLEMENTATION is for those who have logged in.
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
	if account == nil && c.stlsAllowed() {
		c.putString("STLS\r\n") // RFC 2595 section 4: where it is permitted, and nowhere else
	}
	if account != nil {
		c.capaTimes(account.Retention, account.LoginDelay, "")
		if c.pop4 {
			c.putString(capaPOP4)
		}
		c.capaImplementation()
	} else if a := c.port.Announce; a.PerUser {
		c.capaTimes(a.Retention, a.LoginDelay, " USER")
	} else {
		c.capaTimes(a.Retention, a.LoginDelay, "")
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

// capaTimes announces how long messages are kept, in whole days (RFC 2449
// section 6.7), and how soon a client may come back (section 6.5). user is the
// argument that says that it depends on who logs in.
func (c *conn) capaTimes(retention, delay time.Duration, user string) {
	if retention != 0 {
		c.putString("EXPIRE ")
		if retention < 0 {
			c.putString("NEVER")
		} else {
			c.putNumber(int64(retention / (24 * time.Hour)))
		}
		c.putString(user)
		c.putString("\r\n")
	}
	if delay > 0 {
		c.putString("LOGIN-DELAY ")
		c.putNumber(int64((delay + time.Second - 1) / time.Second))
		c.putString(user)
		c.putString("\r\n")
	}
}

func (c *conn) capaImplementation() {
	if c.srv.Implementation != "" {
		c.putString("IMPLEMENTATION ")
		c.putString(c.srv.Implementation)
		c.putString("\r\n")
	}
}

func (c *conn) putNumber(v int64) {
	c.room(24)
	c.out = strconv.AppendInt(c.out, v, 10)
}

func (t *transaction) capa(context.Context, *command) (state, error) {
	t.sendCapa(t.account)
	return t, nil
}
