package kpop

import (
	"bytes"
	"log/slog"
	"strings"
)

// The dialogue trace hides secrets by position: a table's row says how many
// arguments of a verb may be seen. A line that is no known command is not
// shown at all, since it may be a password typed at the wrong time; SASL
// responses, challenges and message text are shown by their length only.

// traceClient writes a command.
func (c *conn) traceClient(s state, cmd *command) {
	arguments, known := s.shown(cmd.verb)
	if !known {
		c.traceLine("C", "(not a command)")
		return
	}
	var line strings.Builder
	line.Write(cmd.verb)
	for i := 0; i < min(cmd.n, len(cmd.arg)); i++ {
		line.WriteByte(' ')
		if i >= arguments {
			line.WriteString("***")
			break
		}
		line.Write(cmd.arg[i])
	}
	if cmd.n > len(cmd.arg) {
		line.WriteString(" ***")
	}
	c.traceLine("C", line.String())
}

// traceSecret writes that n octets of a SASL response or challenge passed.
func (c *conn) traceSecret(side string, n int) {
	if c.trace {
		c.logAttrs(slog.LevelInfo, "trace", slog.String("side", side), slog.String("line", "***"), slog.Int("octets", n))
	}
}

func (c *conn) traceServer(line []byte) { c.traceLine("S", string(bytes.TrimRight(line, "\r\n"))) }

func (c *conn) traceData(octets int64) {
	c.logAttrs(slog.LevelInfo, "trace", slog.String("side", "S"), slog.String("line", "(message)"), slog.Int64("octets", octets))
}

func (c *conn) traceLine(side, line string) {
	c.logAttrs(slog.LevelInfo, "trace", slog.String("side", side), slog.String("line", line))
}

// retrace asks whether this dialogue is wanted.
func (c *conn) retrace() {
	c.asked = c.srv.retraced.Load()
	if c.srv.Trace == nil {
		return
	}
	user := ""
	if in := c.login.Load(); in != nil {
		user = in.account.User
	}
	c.trace = c.srv.Trace(user, c.raw.RemoteAddr())
}

// traceUser turns the trace on when it is wanted for the user that is claimed.
func (c *conn) traceUser(user string) {
	if !c.trace && c.srv.Trace != nil {
		c.trace = c.srv.Trace(user, c.raw.RemoteAddr())
	}
}

// Retrace makes every session ask Trace again, at its next command.
func (s *Server) Retrace() { s.retraced.Add(1) }
