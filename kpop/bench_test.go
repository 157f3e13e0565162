package kpop_test

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
)

// bench runs a command whose reply has the given length, pipelined in batches.
func bench(b *testing.B, c *client, command string, reply int64) {
	const batch = 50
	b.SetBytes(reply)
	b.ReportAllocs()
	b.ResetTimer()
	_ = c.SetDeadline(time.Time{})
	all := strings.Repeat(command, batch)
	for n := b.N; n > 0; n -= batch {
		part := min(n, batch)
		c.send(all[:len(command)*part])
		if _, err := io.CopyN(io.Discard, c.in, reply*int64(part)); err != nil {
			b.Fatal(err)
		}
	}
}

// replyLength asks once.
func replyLength(c *client, command string) int64 {
	c.send(command)
	return int64(len(c.line()) + 2 + len(c.dots()) + 3)
}

func benchLogin(b *testing.B, store *memStore, change func(*kpop.Server, *kpop.Port)) *client {
	return newRig(b, store, change).login()
}

var benchLine = strings.Repeat("x", 76) + "\r\n"

func BenchmarkRetr(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 10 << 20} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			c := benchLogin(b, newStore().fill("alice", strings.Repeat(benchLine, size/len(benchLine))), nil)
			bench(b, c, "RETR 1\r\n", replyLength(c, "RETR 1\r\n"))
		})
	}
}

// BenchmarkRetrFile: the kernel sends, after a search for dots or knowing them.
func BenchmarkRetrFile(b *testing.B) {
	for _, size := range []int{64 << 10, 128 << 10, 256 << 10, 1 << 20, 10 << 20} {
		for name, forget := range map[string]bool{"searched": true, "known": false} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, name), func(b *testing.B) {
				store := newStore().fill("alice", strings.Repeat(benchLine, size/len(benchLine)))
				store.toFiles(b, "alice")
				store.forget = forget
				c := benchLogin(b, store, nil)
				bench(b, c, "RETR 1\r\n", replyLength(c, "RETR 1\r\n"))
			})
		}
	}
}

// BenchmarkLegacy compares, for a client with and without UTF8, a message that
// has no 8-bit header (they must cost the same) with one that has.
func BenchmarkLegacy(b *testing.B) {
	body := "\r\n" + strings.Repeat(benchLine, 50)
	for _, test := range []struct{ name, login, message string }{
		{"ascii", "", "Subject: x\r\n" + body},
		{"ascii/UTF8", "UTF8\r\n", "Subject: x\r\n" + body},
		{"8-bit", "", "Subject: \u00fc\r\n" + body},
		{"8-bit/UTF8", "UTF8\r\n", "Subject: \u00fc\r\n" + body},
	} {
		b.Run(test.name, func(b *testing.B) {
			c := newRig(b, newStore().fill("alice", test.message), nil).dial()
			c.line()
			c.send(test.login + "USER alice\r\nPASS " + secret + "\r\n")
			for range 2 + strings.Count(test.login, "\n") {
				c.line()
			}
			bench(b, c, "RETR 1\r\n", replyLength(c, "RETR 1\r\n"))
		})
	}
}

func BenchmarkTop(b *testing.B) {
	head := strings.Repeat("X-Header: "+benchLine, 20) + "\r\n"
	c := benchLogin(b, newStore().fill("alice", head+strings.Repeat(benchLine, 40)), nil)
	bench(b, c, "TOP 1 0\r\n", replyLength(c, "TOP 1 0\r\n"))
}

// BenchmarkDot: every line has to be stuffed, or made to end in CRLF.
func BenchmarkDot(b *testing.B) {
	for name, line := range map[string]string{"stuffed": "." + benchLine, "bare": strings.Repeat("x", 77) + "\n"} {
		b.Run(name, func(b *testing.B) {
			c := benchLogin(b, newStore().fill("alice", strings.Repeat(line, 10<<20/len(line))), nil)
			bench(b, c, "RETR 1\r\n", replyLength(c, "RETR 1\r\n"))
		})
	}
}

func BenchmarkList100k(b *testing.B) {
	store := newStore().fill("alice", make([]string, 100_000)...)
	c := benchLogin(b, store, nil)
	for _, command := range []string{"LIST\r\n", "UIDL\r\n"} {
		b.Run(command[:4], func(b *testing.B) { bench(b, c, command, replyLength(c, command)) })
	}
}

func BenchmarkStat(b *testing.B) {
	c := benchLogin(b, newStore().fill("alice", "one\r\n"), nil)
	bench(b, c, "STAT\r\n", int64(len("+OK 1 5\r\n")))
}

// BenchmarkIdle reports the memory of a session that waits for its client: heap
// and stack of the server's side. It needs descriptors for b.N clients.
func BenchmarkIdle(b *testing.B) {
	for _, kind := range []string{"clear", "TLS"} {
		b.Run(kind, func(b *testing.B) {
			b.ReportMetric(idleOctets(b, kind == "TLS", 400), "B/session")
		})
	}
}

// TestIdleMemory holds an idle session to its bound, with room for the client's
// end and for the race detector, but not for a buffer that was kept.
func TestIdleMemory(t *testing.T) {
	if got := idleOctets(t, false, 200); got > 12<<10 {
		t.Errorf("an idle session costs %.0f octets", got)
	}
}

// idleOctets is what a waiting session costs, with its client's end, which is
// a socket and for TLS the client's half of it too.
func idleOctets(tb testing.TB, secure bool, sessions int) float64 {
	tb.Helper()
	store := newStore()
	r := newRig(tb, store, func(s *kpop.Server, p *kpop.Port) {
		s.Limits.RestAfter, s.Limits.MaxPerUser, s.Log = 20*time.Millisecond, -1, nil
		if secure {
			p.TLS, p.Implicit = testTLS, true
		}
	})
	_ = testTLS()
	const warm = 50 // sessions that are not counted: the server's own memory
	var before int64
	clients := make([]*client, warm+sessions)
	for i := range clients {
		if i == warm {
			eventually(tb, "warm", func() bool { return store.rests.Load() >= warm })
			before = inUse()
		}
		name := fmt.Sprint("u", i)
		store.fill(name, "one\r\n")
		clients[i] = r.dial()
		if secure {
			if err := clients[i].startTLS(); err != nil {
				tb.Fatal(err)
			}
		}
		clients[i].line()
		clients[i].do("USER "+name, "+OK PASS please")
		clients[i].do("PASS "+secret, "+OK Maildrop is locked and ready")
		clients[i].in = nil
	}
	eventually(tb, "all at rest", func() bool { return store.rests.Load() >= int64(len(clients)) })
	used := float64(inUse()-before) / float64(sessions)
	runtime.KeepAlive(clients)
	return used
}

func inUse() int64 {
	for range 3 { // pools and stacks shrink by and by
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestRetrAllocates holds the hot paths to no allocation for each command.
func TestRetrAllocates(t *testing.T) {
	c := newRig(t, newStore().fill("alice", strings.Repeat(benchLine, 50)), func(s *kpop.Server, _ *kpop.Port) { s.Log = nil }).login()
	for _, command := range []string{"RETR 1\r\n", "TOP 1 2\r\n", "LIST\r\n", "UIDL\r\n"} {
		reply := replyLength(c, command)
		per := testing.AllocsPerRun(200, func() {
			c.send(command)
			if _, err := io.CopyN(io.Discard, c.in, reply); err != nil {
				t.Fatal(err)
			}
		})
		if per > 4 { // the client's own
			t.Errorf("%q: %v allocations", command, per)
		}
	}
}

var _ mailstore.Rester = (*memDrop)(nil)

// BenchmarkLogin is a session that only looks, the log's lines included.
func BenchmarkLogin(b *testing.B) {
	r := newRig(b, newStore().fill("alice", "one\r\n"), func(s *kpop.Server, _ *kpop.Port) {
		s.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	})
	b.ReportAllocs()
	for b.Loop() {
		c := r.login()
		c.do("STAT", "+OK 1 5")
		c.do("QUIT", "+OK Goodbye")
		if _, err := c.in.ReadByte(); err != io.EOF {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
