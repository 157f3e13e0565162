package kpop_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
)

const busy = "-ERR [SYS/TEMP] Too many connections, try again later"

func bufioOver(nc net.Conn) *bufio.Reader { return bufio.NewReader(nc) }

// A heldReader is a connection that is read through a buffer.
type heldReader struct {
	net.Conn
	in *bufio.Reader
}

func (h heldReader) Read(p []byte) (int, error) { return h.in.Read(p) }

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]kpop.Limits{
		"all":             {MaxConnections: 2},
		"unauthenticated": {MaxUnauthenticated: 2},
		"prefix":          {MaxPerPrefix: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var away atomic.Int64
			r := newRig(t, newStore().fill("alice"), func(s *kpop.Server, _ *kpop.Port) {
				s.Limits = limits
				s.Observer.TurnedAway = func(string, net.Addr, string) { away.Add(1) }
			})
			first, second := r.dial(), r.dial()
			first.line()
			second.line()
			third := r.dial()
			third.want(busy)
			third.wantEOF()
			if away.Load() != 1 {
				t.Error("turned away", away.Load())
			}
			if name == "unauthenticated" {
				first.do("USER alice", "+OK PASS please")
				first.do("PASS "+secret, "+OK Maildrop is locked and ready")
			} else {
				first.do("QUIT", "+OK Goodbye")
				eventually(t, "gone", func() bool { return len(r.server.Sessions()) == 1 })
			}
			r.dial().want("+OK pop.test POP3 server ready")
		})
	}
}

func TestUserLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice"), func(s *kpop.Server, _ *kpop.Port) { s.Limits.MaxPerUser = 1 })
	first := r.login()
	c := r.dial()
	c.line()
	c.do("USER alice", "+OK PASS please")
	c.do("PASS "+secret, "-ERR [SYS/TEMP] Too many sessions of this user")
	first.do("QUIT", "+OK Goodbye")
	eventually(t, "gone", func() bool { return len(r.server.Sessions()) == 1 })
	c.do("USER alice", "+OK PASS please")
	c.do("PASS "+secret, "+OK Maildrop is locked and ready")
}

// TestLoginTimeout: octets do not renew it.
func TestLoginTimeout(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	r := newRig(t, newStore(), func(s *kpop.Server, _ *kpop.Port) { s.Limits.LoginTimeout = limit })
	c := r.dial()
	began := time.Now()
	go func() {
		for _, err := io.WriteString(c.Conn, "C"); err == nil; _, err = io.WriteString(c.Conn, "A") {
			time.Sleep(limit / 10)
		}
	}()
	_, _ = io.ReadAll(c.in)
	if took := time.Since(began); took < limit*9/10 || took > 20*limit {
		t.Error("took", took)
	}
	eventually(t, "log", func() bool { return strings.Contains(r.log.String(), `end="login timeout"`) })
}

func TestIdleTimeoutAndRest(t *testing.T) {
	t.Parallel()
	store := newStore().fill("alice", "one\r\n")
	r := newRig(t, store, func(s *kpop.Server, p *kpop.Port) {
		s.Limits.IdleTimeout, s.Limits.RestAfter = 600*time.Millisecond, 50*time.Millisecond
	})
	c := r.login()
	c.do("DELE 1", "+OK Marked")
	eventually(t, "rest", func() bool { return store.rests.Load() == 1 })
	c.do("STAT", "+OK 0 0")
	eventually(t, "second rest", func() bool { return store.rests.Load() == 2 })
	began := time.Now()
	c.send("NO")
	c.wantEOF() // silently, RFC 1939 section 3, and with the mark lost
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Error("too early:", took)
	}
	eventually(t, "log", func() bool { return strings.Contains(r.log.String(), `end="idle timeout"`) })
	if len(store.uids("alice")) != 1 {
		t.Error("a timeout deleted a message")
	}
	if store.rests.Load() > 2 {
		t.Error("rested", store.rests.Load())
	}
}

func TestIdleTLSRests(t *testing.T) {
	t.Parallel()
	store := newStore().fill("alice", "one\r\n")
	r := newRig(t, store, func(s *kpop.Server, p *kpop.Port) {
		s.Limits.RestAfter, p.TLS, p.Implicit = 50*time.Millisecond, testTLS, true
	})
	c := r.dial()
	if err := c.startTLS(); err != nil {
		t.Fatal(err)
	}
	c.line()
	c.do("USER alice", "+OK PASS please")
	c.do("PASS "+secret, "+OK Maildrop is locked and ready")
	for i := range int64(3) {
		eventually(t, "rest", func() bool { return store.rests.Load() == i+1 })
		c.do("STAT", "+OK 1 5")
	}
}

// TestClientTakesNoOutput: who asks and does not read loses the connection.
func TestClientTakesNoOutput(t *testing.T) {
	t.Parallel()
	store := newStore().fill("alice", strings.Repeat("line\r\n", 4<<20))
	r := newRig(t, store, func(s *kpop.Server, _ *kpop.Port) { s.Limits.WriteTimeout = 200 * time.Millisecond })
	c := r.login()
	c.send("RETR 1\r\n")
	eventually(t, "closed", func() bool { return len(r.server.Sessions()) == 0 })
	if store.opened.Load() != 0 {
		t.Error("the maildrop is still held")
	}
	eventually(t, "log", func() bool { return strings.Contains(r.log.String(), `end="client takes no output"`) })
	if strings.Contains(r.log.String(), "level=WARN") {
		t.Errorf("the operator is warned of a client:\n%s", r.log)
	}
}

// TestLineLengths: a line of just the limit, its end included, is taken; one octet
// more is not, and is no part of the next.
func TestLineLengths(t *testing.T) {
	t.Parallel()
	const command, response = 100, 1000
	r := newRig(t, newStore().fill("alice"), func(s *kpop.Server, _ *kpop.Port) {
		s.Limits.LineLength, s.Limits.SASLLine, s.Limits.BadCommandsLogin = command, response, 100
	})
	c := r.dial()
	c.line()
	padded := func(text string, octets int) string {
		return text + strings.Repeat("A", octets-len(text)-len("\r\n"))
	}
	for _, line := range []struct {
		text   string
		octets int
		taken  string
	}{
		{"USER ", command, "+OK PASS please"},
		{"AUTH PLAIN ", response, "-ERR Malformed authentication response"},
		{"", response, "-ERR Malformed authentication response"}, // to a challenge
	} {
		for over, want := range []string{line.taken, "-ERR Line too long"} {
			if line.text == "" {
				c.do("AUTH PLAIN", "+ ")
			}
			c.do(padded(line.text, line.octets+over), want)
			c.do("APOP", "-ERR Syntax error")
		}
	}
}

// TestSlowClientIsServed: who takes a little at a time keeps the connection,
// however long one piece of the message lasts.
func TestSlowClientIsServed(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"clear": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore().fill("alice", strings.Repeat("line\r\n", 600<<10/6))
			store.toFiles(t, "alice")
			r := newRig(t, store, func(s *kpop.Server, p *kpop.Port) {
				s.Limits.WriteTimeout, p.TLS, p.Implicit = 2*time.Second, testTLS, secure
			})
			nc := r.dialSlowly(t)
			if secure {
				nc = tls.Client(nc, &tls.Config{RootCAs: testRoots(), ServerName: "pop.test", MinVersion: tls.VersionTLS12})
			}
			_, _ = io.WriteString(nc, "USER alice\r\nPASS "+secret+"\r\nRETR 1\r\n")
			var all []byte
			for buffer := make([]byte, slowPiece); !bytes.HasSuffix(all, []byte("\r\n.\r\n")); {
				n, err := nc.Read(buffer)
				if all = append(all, buffer[:n]...); err != nil {
					t.Fatalf("after %d octets: %v", len(all), err)
				}
			}
		})
	}
}

const slowPiece = 32 << 10

// dialSlowly serves the port on a socket of its own, with small buffers, and
// connects to it by one that takes a piece five times a second.
func (r *rig) dialSlowly(t *testing.T) net.Conn {
	t.Helper()
	small := func(option int) func(string, string, syscall.RawConn) error {
		return func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, slowPiece) })
		}
	}
	l, err := (&net.ListenConfig{Control: small(unix.SO_SNDBUF)}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.server.Serve(context.Background(), l, r.port) }()
	nc, err := (&net.Dialer{Control: small(unix.SO_RCVBUF)}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	pace := time.NewTicker(200 * time.Millisecond)
	t.Cleanup(func() {
		pace.Stop()
		_ = nc.Close()
	})
	return slowConn{nc, pace.C}
}

// A slowConn reads a piece at each tick.
type slowConn struct {
	net.Conn
	pace <-chan time.Time
}

func (c slowConn) Read(p []byte) (int, error) {
	<-c.pace
	return c.Conn.Read(p[:min(len(p), slowPiece)])
}

func TestRefuseHook(t *testing.T) {
	t.Parallel()
	var turn atomic.Int64
	r := newRig(t, newStore(), func(s *kpop.Server, _ *kpop.Port) {
		s.Refuse = func(net.Addr) (time.Duration, error) {
			if turn.Add(1) == 1 {
				return 100 * time.Millisecond, nil
			}
			return 0, errors.New("banned until noon")
		}
	})
	began := time.Now()
	r.dial().line()
	if time.Since(began) < 100*time.Millisecond {
		t.Error("was not slowed down")
	}
	c := r.dial()
	c.want(busy)
	c.wantEOF()
	eventually(t, "log", func() bool { return strings.Contains(r.log.String(), "banned until noon") })
}

// TestRefusedBeforeTLS: who expects TLS is told nothing in clear.
func TestRefusedBeforeTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore(), func(s *kpop.Server, p *kpop.Port) {
		p.TLS, p.Implicit = testTLS, true
		s.Refuse = func(net.Addr) (time.Duration, error) { return 0, errors.New("banned until noon") }
	})
	r.dial().wantEOF()
}

func TestKick(t *testing.T) {
	t.Parallel()
	store := newStore().fill("alice", "one\r\n")
	r := newRig(t, store, nil)
	c := r.login()
	c.do("DELE 1", "+OK Marked")
	all := r.server.Sessions()
	if len(all) != 1 || all[0].User != "alice" || !all[0].LoggedIn {
		t.Fatalf("%+v", all)
	}
	if r.server.Kick("nobody") || !r.server.Kick(all[0].ID) {
		t.Error("kick")
	}
	c.wantEOF()
	eventually(t, "log", func() bool { return strings.Contains(r.log.String(), "end=kicked") })
	if len(store.uids("alice")) != 1 {
		t.Error("a kicked session deleted a message")
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice", "one\r\n"), nil)
	c := r.login()
	done := make(chan error)
	go func() { done <- r.server.Shutdown(context.Background()) }()
	eventually(t, "draining", func() bool {
		return strings.HasPrefix(r.dial().line(), "-ERR [SYS/TEMP] Server is shutting down")
	})
	c.do("DELE 1", "+OK Marked")
	c.do("QUIT", "+OK Goodbye")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(r.store.uids("alice")) != 0 {
		t.Error("the last session's QUIT was not done")
	}
	r.served <- <-r.served
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("still listening")
	}
}

// TestShutdownWaitsForUpdate: the deadline closes sessions, and waits for the
// one that is writing to the maildrop.
func TestShutdownWaitsForUpdate(t *testing.T) {
	t.Parallel()
	began, finish := make(chan struct{}), make(chan struct{})
	store := newStore().fill("alice", "one\r\n").fill("bob")
	store.update = func(mailstore.Changes) error { close(began); <-finish; return nil }
	r := newRig(t, store, nil)
	c, idle := r.login(), r.dial()
	idle.line()
	c.do("DELE 1", "+OK Marked")
	c.send("QUIT\r\n")
	<-began
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done := make(chan error, 1)
	go func() { done <- r.server.Shutdown(ctx) }()
	idle.wantEOF()
	select {
	case <-done:
		t.Error("Shutdown did not wait")
	default:
	}
	close(finish)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(store.uids("alice")) != 0 {
		t.Error("the update was not finished")
	}
}

func TestServeContextEndsSessions(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &kpop.Server{Hostname: "pop.test", Store: newStore()}
	served := make(chan error)
	go func() { served <- s.Serve(ctx, l, &kpop.Port{Name: "pop3"}) }()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := &client{TB: t}
	c.wrap(nc)
	defer nc.Close()
	c.line()
	cancel()
	c.wantEOF()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// A failingListener runs out of descriptors now and then.
type failingListener struct {
	net.Listener
	calls atomic.Int64
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.calls.Add(1)%2 == 1 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvivesEMFILE(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &kpop.Server{Hostname: "pop.test", Store: newStore()}
	served := make(chan error)
	go func() {
		served <- s.Serve(context.Background(), &failingListener{Listener: inner}, &kpop.Port{Name: "pop3"})
	}()
	for range 3 {
		nc, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := &client{TB: t}
		c.wrap(nc)
		c.want("+OK pop.test POP3 server ready")
		_ = nc.Close()
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, kpop.ErrServerClosed) {
		t.Error(err)
	}
}
