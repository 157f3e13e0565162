package kpop_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop"
)

// TestReconfigure: an open session keeps its terms, the next has the new ones.
func TestReconfigure(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice", "one\r\n").fill("bob"), nil)
	old := r.login()
	refuse := auth.DirectoryFunc(func(context.Context, auth.Identity) (auth.Account, error) { return auth.Account{}, auth.ErrDenied })
	r.server.Reconfigure(kpop.Change{
		Hostname: "new.test", Directory: refuse, Limits: kpop.Limits{FailureDelay: -1},
		Ports: []*kpop.Port{{Name: "pop3", PasswordInClear: true, Password: password, Mechanisms: []auth.Mechanism{plain}}},
	})
	c := r.dial()
	c.want("+OK new.test POP3 server ready")
	c.do("USER alice", "+OK PASS please")
	c.do("PASS "+secret, "-ERR [AUTH] Authentication failed")
	c.do("AUTH X-STEPS", "-ERR Unknown authentication mechanism")
	old.do("STAT", "+OK 1 5")
	old.do("QUIT", "+OK Goodbye")

	r.server.Reconfigure(kpop.Change{Hostname: "third.test", Directory: auth.DirectoryFunc(lookup), Limits: kpop.Limits{MaxConnections: 1}})
	again := r.dial()
	again.want("-ERR [SYS/TEMP] Too many connections, try again later")
}

// TestTraceOfRunningSession: a trace that is asked for later sees the sessions
// that are there already, and ends when it is called off.
func TestTraceOfRunningSession(t *testing.T) {
	t.Parallel()
	var wanted atomic.Pointer[string]
	nobody, alice := "", "alice"
	wanted.Store(&nobody)
	r := newRig(t, newStore().fill("alice", "one\r\n").fill("bob"), func(s *kpop.Server, _ *kpop.Port) {
		s.Trace = func(user string, _ net.Addr) bool { return user != "" && user == *wanted.Load() }
	})
	c := r.login()
	c.do("LIST 1", "+OK 1 5")
	wanted.Store(&alice)
	r.server.Retrace()
	c.do("UIDL 1", "+OK 1 uid-1")
	wanted.Store(&nobody)
	r.server.Retrace()
	c.do("TOP 1 0", "+OK")
	c.dots()
	log := r.log.String()
	if strings.Contains(log, "LIST 1") || !strings.Contains(log, `side=C line="UIDL 1"`) || strings.Contains(log, "TOP 1 0") {
		t.Error(log)
	}
}

// TestGoodbyeIsNotLost: a client that goes on sending behind QUIT still reads
// the replies before the connection is closed. Octets that nobody reads would
// make the kernel reset it.
func TestGoodbyeIsNotLost(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"clear", "tls"} {
		t.Run(port, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, newStore().fill("alice", "one\r\n"), func(_ *kpop.Server, p *kpop.Port) { p.TLS = testTLS })
			for range 20 {
				c := r.dial()
				c.line()
				if port == "tls" {
					c.do("STLS", "+OK Begin TLS")
					if err := c.startTLS(); err != nil {
						t.Fatal(err)
					}
				}
				c.do("USER alice", "+OK PASS please")
				c.do("PASS "+secret, "+OK Maildrop is locked and ready")
				c.send("QUIT\r\n")
				_, _ = c.Conn.Write(bytes.Repeat([]byte("NOOP\r\n"), 2000))
				all, err := io.ReadAll(c.in)
				if string(all) != "+OK Goodbye\r\n" || err != nil {
					t.Fatalf("%q, %v", all, err)
				}
				_ = c.Close()
			}
		})
	}
}

// TestUserIsFreeWhileClientLingers: one that does not close after QUIT counts no
// more among its user's sessions.
func TestUserIsFreeWhileClientLingers(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice"), func(s *kpop.Server, _ *kpop.Port) { s.Limits.MaxPerUser = 1 })
	for range 5 {
		r.login().do("QUIT", "+OK Goodbye")
	}
}

// TestLoginMemory: those who have not logged in share the memory for long lines;
// what one gives back another can have.
func TestLoginMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice"), func(s *kpop.Server, _ *kpop.Port) { s.Limits.LoginMemory = 100 << 10 })
	half := strings.Repeat("eHh4", 10<<10) // 40 KiB, for which 64 are taken
	first := r.dial()
	first.line()
	first.do("AUTH X-STEPS", "+ Zmlyc3Q=")
	first.do("", "+ c2Vjb25k")
	first.send(half)
	second := r.dial()
	second.line()
	eventually(t, "the memory is used up", func() bool {
		c := r.dial()
		c.line()
		c.send("AUTH X-STEPS\r\n\r\n" + half)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(c.in)
		return strings.Contains(string(all), "-ERR [SYS/TEMP] Too many connections")
	})
	second.do("AUTH PLAIN AGFsaWNlAHRhbnN0YWFm", "+OK Maildrop is locked and ready") // short ones need none
	second.do("QUIT", "+OK Goodbye")
	first.do("", "+OK Maildrop is locked and ready")
	first.do("QUIT", "+OK Goodbye")
	eventually(t, "sessions over", func() bool { return len(r.server.Sessions()) == 0 })
	c := r.dial()
	c.line()
	c.do("AUTH X-STEPS", "+ Zmlyc3Q=")
	c.do("", "+ c2Vjb25k")
	c.do(half, "+OK Maildrop is locked and ready")
}

// TestTurnedAwayIsTold: a client that speaks first, as one of KPOP does, still
// reads why it is not served.
func TestTurnedAwayIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore(), func(s *kpop.Server, _ *kpop.Port) { s.Limits.MaxConnections = 1 })
	r.dial().line()
	for range 20 {
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{TB: t}
		c.wrap(nc)
		_, _ = c.Write(bytes.Repeat([]byte("ticket"), 1000))
		all, err := io.ReadAll(c.in)
		if !strings.HasPrefix(string(all), "-ERR [SYS/TEMP]") || err != nil {
			t.Fatalf("%q, %v", all, err)
		}
		_ = c.Close()
	}
}
