package kpop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// A state is where a session stands (RFC 1939 section 3).
type state interface {
	// do runs one command and gives the state after it. A *refusal leaves the
	// state as it was; nil is the end.
	do(ctx context.Context, cmd *command) (state, error)
	shown(verb []byte) (arguments int, known bool)
	// longLine says whether line may be an AUTH command, longer than others.
	longLine(line []byte) bool
}

// run is the session's only loop. It says how the session ended, or in which
// state the client became silent; what a login holds is given back by
// conn.leave.
func (c *conn) run(ctx context.Context, s state) (how string, silent state) {
	for {
		next, err := c.step(ctx, s)
		switch {
		case err == nil && next == nil:
			return "quit", nil
		case err == errSilent:
			return "", s
		}
		if end := c.settle(err); end != nil {
			return end.how, nil
		}
		s = next
	}
}

// step reads and runs one command.
func (c *conn) step(ctx context.Context, s state) (state, error) {
	line, err := c.readLine(s)
	if err != nil {
		return s, err
	}
	if c.first {
		c.first = false
		if end := c.foreign(line); end != nil {
			return s, end
		}
	}
	cmd := &c.cmd
	if r := cmd.parse(line); r != nil {
		return s, r
	}
	if c.asked != c.srv.retraced.Load() {
		c.retrace()
	}
	if c.trace {
		c.traceClient(s, cmd)
	}
	if c.srv.Observer.Command == nil {
		return s.do(ctx, cmd)
	}
	return c.timed(ctx, s, cmd)
}

// timed runs cmd and tells the observer. Unknown verbs are told as one: a
// client must not choose the names of counters.
func (c *conn) timed(ctx context.Context, s state, cmd *command) (state, error) {
	verb := "unknown"
	if _, known := s.shown(cmd.verb); known {
		if string(cmd.verb) != c.verb {
			c.verb = string(cmd.verb) // no allocation for each of a row
		}
		verb = c.verb
	}
	began := time.Now()
	next, err := s.do(ctx, cmd)
	c.srv.Observer.Command(verb, time.Since(began))
	return next, err
}

// settle answers for err and counts bad commands; it returns an ending when the
// session cannot go on.
func (c *conn) settle(err error) *ending {
	if err == nil {
		if c.loggedIn {
			c.bad = 0
		}
		return c.broken()
	}
	var r *refusal
	if errors.As(err, &r) {
		c.no(r)
		if r.bad {
			return c.countBad()
		}
		return c.broken()
	}
	end := c.ending(err)
	if end.reply != nil {
		c.no(end.reply)
	}
	return end
}

func (c *conn) countBad() *ending {
	c.bad++
	most := c.terms.limits.BadCommandsLogin
	if c.loggedIn {
		most = c.terms.limits.BadCommands
	}
	if c.bad >= most {
		return &ending{how: "too many bad commands"}
	}
	return c.broken()
}

// broken is not nil when output has failed.
func (c *conn) broken() *ending {
	if c.wrErr == nil {
		return nil
	}
	return c.ending(c.wrErr)
}

// ending puts an error of the connection into words.
func (c *conn) ending(err error) *ending {
	var end *ending
	switch {
	case errors.As(err, &end):
		return end
	case errors.Is(err, io.EOF):
		return &ending{how: "closed by client"}
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.loggedIn:
		return &ending{how: "login timeout"}
	case errors.Is(err, os.ErrDeadlineExceeded) && c.wrErr != nil:
		return &ending{how: "client takes no output"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &ending{how: "idle timeout"}
	case errors.Is(err, net.ErrClosed):
		return &ending{how: "closed by server"}
	}
	return &ending{how: "connection lost: " + err.Error()}
}

// foreign recognises another protocol by a connection's first line. A browser
// can be made to send POP3 commands in the body of a POST; such a connection
// must end before them.
func (c *conn) foreign(line []byte) *ending {
	switch {
	case len(line) > 1 && line[0] == 0x16 && line[1] == 3:
		return &ending{how: "TLS ClientHello on a port without implicit TLS", reply: &refusal{text: "TLS starts with STLS here"}}
	case bytes.Contains(line, []byte(" HTTP/")):
		return &ending{how: "HTTP request", reply: &refusal{text: "This is a POP3 server"}}
	case len(line) > 0 && line[0] == 0 && c.port.Preamble != nil:
		return &ending{how: "Kerberos sendauth behind the ticket", reply: refOctets}
	case len(line) > 0 && line[0] == 0:
		return &ending{how: "Kerberos sendauth on a POP3 port", reply: &refusal{text: "KPOP is not spoken on this port"}}
	}
	return nil
}
