package kpop

import (
	"context"
	"net"

	"github.com/kpopd/kpopd/auth"
)

// kpopMechanism is what logs and metrics call a login by ticket in a Preamble, let
// in or refused.
const kpopMechanism = "KPOP"

// preamble proves the ticket; the Preamble has answered its own refusals.
func (c *conn) preamble(ctx context.Context) (state, error) {
	by := c.since.Add(c.terms.limits.LoginTimeout)
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	id, err := c.port.Preamble(ctx, preambleConn{c.nc, c}, c.peer())
	if err != nil {
		c.refusedLogin(&auth.Identity{Mechanism: kpopMechanism}, loginRefusal(err), err)
		return nil, &ending{how: "preamble failed"}
	}
	if err := c.raw.SetDeadline(by); err != nil { // the Preamble may have set others
		return nil, c.ending(err)
	}
	c.ok(c.terms.hostname + " KPOP" + c.banner() + " server ready")
	return &ticketed{conn: c, ticket: *id}, nil
}

// A preambleConn is the connection as a Preamble has it, through the session's
// buffers: what it writes goes out when it reads, or with the greeting. That is
// a segment less for each login, and half of the reads (the scenario "KPOP login"
// of make bench).
type preambleConn struct {
	net.Conn
	c *conn
}

// Read gives what is buffered, or waits for more.
func (p preambleConn) Read(b []byte) (int, error) {
	c := p.c
	if c.r == c.w {
		if err := c.flush(); err != nil {
			return 0, err
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.in[c.r:c.w])
	c.r += n
	return n, nil
}

// Write gathers b. An error of the connection comes at a later call.
func (p preambleConn) Write(b []byte) (int, error) {
	p.c.put(b)
	return len(b), p.c.wrErr
}
