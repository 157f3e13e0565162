package kpop

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// A state is where a session stands. do runs one line and gives the next state:
// nil with an error means stay, nil without one means hang up.
type state interface {
	do(ctx context.Context, line []byte) (state, error)

	// lineLimit is the longest line taken, in octets.
	lineLimit() int

	// close leaves without UPDATE (RFC 1939 section 6: a session that ends
	// otherwise than by QUIT removes nothing).
	close() error
}

// run is the only loop: it reads lines, hands them to the state, and is the one
// place that turns a refusal into -ERR and counts bad commands.
func (c *conn) run(ctx context.Context, s state) (ended error) {
	defer func() {
		if err := s.close(); err != nil {
			c.log.Warn("maildrop did not close cleanly", "error", err)
		}
	}()
	for {
		line, err := c.readLine(s.lineLimit())
		if errors.Is(err, errLong) {
			err = c.refuse(errLineTooLong)
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		next, err := c.dispatch(ctx, s, line)
		if err != nil {
			return err
		}
		if next == nil {
			return c.flush()
		}
		s = next
	}
}

// dispatch runs one line. On a refusal the state stays.
func (c *conn) dispatch(ctx context.Context, s state, line []byte) (state, error) {
	if isUnprintable(line) {
		return s, c.refuse(errOctets)
	}
	began := time.Time{}
	debug := c.log.Enabled(ctx, slog.LevelDebug)
	if debug {
		began = time.Now()
	}
	next, err := s.do(ctx, line)
	if debug {
		c.log.Debug("command", "verb", safeVerb(line), "error", err, "duration", time.Since(began))
	}
	var r *refusal
	switch {
	case errors.As(err, &r):
		if next == nil {
			next = s
		}
		return next, c.refuse(r)
	case err != nil:
		return s, err
	}
	c.badCommands = 0
	return next, nil
}

// refuse answers -ERR and hangs up on a client that knows no POP3: what an HTTP
// request or a scanner sends must never come to the command in its body.
func (c *conn) refuse(r *refusal) error {
	if err := c.reply("-ERR ", r.text); err != nil {
		return err
	}
	if !r.bad {
		return nil
	}
	c.badCommands++
	if c.badCommands < c.server.Limits.badCommands(!c.limit.IsZero()) {
		return nil
	}
	c.log.Info("too many bad commands; hanging up", "count", c.badCommands)
	return errors.Join(c.flush(), errBadClient)
}

var errBadClient = errors.New("kpop: too many bad commands")

// safeVerb is a line's verb for the log when it is one, and never anything that
// could be part of a secret.
func safeVerb(line []byte) string {
	n := 0
	for n < len(line) && n < maxVerb && line[n] != ' ' {
		if c := line[n] | 0x20; c < 'a' || c > 'z' {
			return "?"
		}
		n++
	}
	if n > 4 {
		return "?"
	}
	return string(line[:n])
}
