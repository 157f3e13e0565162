package kpop_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/kpop"
)

// parkRig has sessions parked after 20 ms of silence.
func parkRig(t *testing.T, store *memStore, secure bool) *rig {
	t.Helper()
	return newRig(t, store, func(s *kpop.Server, p *kpop.Port) {
		s.Limits.RestAfter, p.TLS = 20*time.Millisecond, testTLS
		p.Implicit = secure
	})
}

// loginOver logs alice in, over TLS when it is wanted.
func (r *rig) loginOver(t *testing.T, secure bool) *client {
	t.Helper()
	if !secure {
		return r.login()
	}
	c := r.dial()
	if err := c.startTLS(); err != nil {
		t.Fatal(err)
	}
	c.line()
	c.do("USER alice", "+OK PASS please")
	c.do("PASS "+secret, "+OK Maildrop is locked and ready")
	return c
}

// TestPark: a session goes on after each silence with what it had, also when a
// command comes in pieces, and ends as any other.
func TestPark(t *testing.T) {
	for name, secure := range map[string]bool{"clear": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			store := newStore().fill("alice", "one\r\n", "two\r\n")
			c := parkRig(t, store, secure).loginOver(t, secure)
			thenSilence := func(command, reply string) {
				t.Helper()
				before := store.rests.Load()
				c.do(command, reply)
				eventually(t, "silence", func() bool { return store.rests.Load() > before })
			}
			thenSilence("DELE 1", "+OK Marked")
			thenSilence("STAT", "+OK 1 5")
			c.send("LI")
			c.send("ST 2\r\nNOOP\r\n")
			c.want("+OK 2 5")
			c.want("+OK Nothing done")
			thenSilence("NOOP", "+OK Nothing done")
			c.do("QUIT", "+OK Goodbye")
			c.wantEOF()
			if got := store.uids("alice"); len(got) != 1 || got[0] != 2 {
				t.Errorf("left: %v", got)
			}
		})
	}
}

// TestParkedEnds: a parked session whose client hangs up, or that is kicked,
// gives its maildrop back and removes nothing.
func TestParkedEnds(t *testing.T) {
	for name, end := range map[string]func(*rig, *client){
		"client": func(_ *rig, c *client) { _ = c.Close() },
		"kick":   func(r *rig, _ *client) { r.server.Kick(r.server.Sessions()[0].ID) },
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore().fill("alice", "one\r\n")
			r := parkRig(t, store, false)
			c := r.login()
			c.do("DELE 1", "+OK Marked")
			eventually(t, "silence", func() bool { return store.rests.Load() > 0 })
			end(r, c)
			eventually(t, "end", func() bool { return len(r.server.Sessions()) == 0 })
			r.login().do("STAT", "+OK 1 5")
		})
	}
}

// TestParkedMany: parked sessions have no goroutine, and each goes on by itself,
// also when many do so at once while others are kicked.
func TestParkedMany(t *testing.T) {
	const sessions = 120
	store := newStore()
	r := newRig(t, store, func(s *kpop.Server, _ *kpop.Port) {
		s.Limits.RestAfter, s.Limits.MaxPerUser = 20*time.Millisecond, -1
	})
	before := runtime.NumGoroutine()
	clients := make([]*client, sessions)
	for i := range clients {
		name := fmt.Sprint("u", i)
		store.fill(name, "one\r\n")
		clients[i] = r.dial()
		clients[i].line()
		clients[i].do("USER "+name, "+OK PASS please")
		clients[i].do("PASS "+secret, "+OK Maildrop is locked and ready")
	}
	for range 2 {
		eventually(t, "goroutines", func() bool { return runtime.NumGoroutine() < before+sessions/4 })
		for _, c := range clients {
			c.send("STAT\r\n")
		}
		for _, c := range clients {
			c.want("+OK 1 5")
		}
	}
	for i, session := range r.server.Sessions() {
		if i%2 == 0 {
			r.server.Kick(session.ID)
		}
	}
	eventually(t, "kicked", func() bool { return len(r.server.Sessions()) == sessions/2 })
	for i, c := range clients {
		if i%2 == 0 {
			c.wantEOF()
		} else {
			c.do("QUIT", "+OK Goodbye")
		}
	}
	eventually(t, "end", func() bool { return len(r.server.Sessions()) == 0 })
}

// TestParkedTrickle: octets without a line end do not put the idle timeout off.
func TestParkedTrickle(t *testing.T) {
	store := newStore().fill("alice", "one\r\n")
	r := newRig(t, store, func(s *kpop.Server, _ *kpop.Port) {
		s.Limits.RestAfter, s.Limits.IdleTimeout = 20*time.Millisecond, 500*time.Millisecond
	})
	c := r.login()
	eventually(t, "silence", func() bool { return store.rests.Load() > 0 })
	polls := 0
	eventually(t, "end", func() bool {
		if polls++; polls%50 == 0 {
			_, _ = c.Write([]byte("N")) // it may be closed by now
		}
		return len(r.server.Sessions()) == 0
	})
	if !strings.Contains(r.log.String(), `end="idle timeout"`) {
		t.Error(r.log.String())
	}
}
