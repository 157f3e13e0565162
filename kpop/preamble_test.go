package kpop_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop"
)

// asking is a Preamble that asks before it takes the ticket, sets deadlines of
// its own, and answers.
func asking(ctx context.Context, nc net.Conn, peer auth.Peer) (*auth.Identity, error) {
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(nc, "who?\r\n")
	id, err := ticket(ctx, nc, peer)
	if err != nil {
		return nil, err
	}
	_, _ = io.WriteString(nc, "welcome\r\n")
	return id, nc.SetDeadline(time.Time{})
}

func connect(t *testing.T, r *rig) *client {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &client{TB: t, Conn: nc, in: bufio.NewReader(nc)}
}

// TestPreambleDialogue: what a Preamble writes is there when it reads, its last
// words come before the greeting, and what the client has sent behind its
// ticket is the session's.
func TestPreambleDialogue(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice", "one\r\n"), func(_ *kpop.Server, p *kpop.Port) { p.Preamble = asking })
	c := connect(t, r)
	c.want("who?")
	c.send("alice\nUSER alice\r\nPASS x\r\n")
	for _, line := range []string{"welcome", "+OK pop.test KPOP server ready", "+OK PASS please", "+OK Maildrop is locked and ready"} {
		c.want(line)
	}
	c.do("QUIT", "+OK Goodbye")

	c = connect(t, r)
	c.want("who?")
	c.send("expired\n")
	c.want("-ERR [AUTH] Ticket expired")
	c.wantEOF()
}

// TestLoginTimeoutAfterTicket: a ticket does not buy time without end, whatever
// deadlines the Preamble has set.
func TestLoginTimeoutAfterTicket(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore(), func(s *kpop.Server, p *kpop.Port) {
		s.Limits.LoginTimeout, p.Preamble = 3*time.Second, asking
	})
	c := connect(t, r)
	c.want("who?")
	c.send("alice\n")
	c.want("welcome")
	c.want("+OK pop.test KPOP server ready")
	c.wantEOF()
	eventually(t, "log", func() bool { return strings.Contains(r.log.String(), `end="login timeout"`) })
}
