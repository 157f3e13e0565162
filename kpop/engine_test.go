package kpop_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
)

// bigMessages cross each border of the engine: the small message, the read
// block, a dot at the border, lines longer than any buffer.
func bigMessages() []string {
	line := strings.Repeat("x", 70) + "\r\n"
	clean := strings.Repeat(line, 9000)
	border := strings.Repeat("y", 256<<10-2) + "\r\n.at the border\r\n" + clean
	dots := strings.Repeat(".\r\n..\r\nz\r\n", 60000)
	long := strings.Repeat("w", 3<<20)
	bare := strings.Repeat("a\nb\r\n.\n", 50000)
	crSplit := strings.Repeat("c", 256<<10-1) + "\r\n.d\r\n"
	few := ".first\r\n" + clean + "..\r\n.\r\n" + strings.Repeat(line, 20) + "." + clean + strings.Repeat(clean, 3) + ".\r\n"
	return []string{clean, border, dots, few, long, bare, crSplit, ".", "\r\n", "nul \x00 here\r\nbare \r cr\r", strings.Repeat("q", 32<<10)}
}

func TestRetr(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"append", "read", "file", "tls"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			texts := bigMessages()
			store := newStore().fill("alice", texts...)
			store.appends = kind == "append"
			if kind == "file" || kind == "tls" {
				store.toFiles(t, "alice")
			}
			r := newRig(t, store, func(_ *kpop.Server, p *kpop.Port) {
				if kind == "tls" {
					p.TLS = testTLS
				}
			})
			c := r.dial()
			c.line()
			if kind == "tls" {
				c.do("STLS", "+OK Begin TLS")
				if err := c.startTLS(); err != nil {
					t.Fatal(err)
				}
			}
			c.do("USER alice", "+OK PASS please")
			c.do("PASS "+secret, "+OK Maildrop is locked and ready")
			turns := len(texts)
			if kind == "file" {
				turns *= 2 // the second time the dots are known
			}
			for i := range turns {
				i %= len(texts)
				want := normal([]byte(texts[i]))
				c.do(fmt.Sprint("RETR ", i+1), fmt.Sprintf("+OK %d octets", len(want)))
				if got := unstuff(t, c.dots()); got != string(want) {
					t.Errorf("message %d: %d octets differ from %d", i+1, len(got), len(want))
				}
			}
			c.do("QUIT", "+OK Goodbye")
			if strings.Contains(r.log.String(), "differs") {
				t.Error("sizes differ:", r.log)
			}
		})
	}
}

// unstuff takes the second dots off; a line of the reply that is a dot alone
// would have ended it.
func unstuff(t testing.TB, wire string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(wire) {
		if !strings.HasSuffix(line, "\r\n") {
			t.Fatalf("bare LF on the wire behind %.40q", line)
		}
		if line[0] == '.' && line[1] != '.' {
			t.Fatalf("unstuffed dot in %.40q", line)
		}
		out.WriteString(strings.TrimPrefix(line, "."))
	}
	return out.String()
}

func TestTopOfLargeMessage(t *testing.T) {
	t.Parallel()
	head := "Subject: x\r\n" + strings.Repeat("X-Long: "+strings.Repeat("h", 900)+"\r\n", 400) + "\r\n"
	store := newStore().fill("alice", head+".one\r\n"+strings.Repeat("two\r\n", 100000))
	c := newRig(t, store, nil).login()
	c.do("TOP 1 2", "+OK")
	if got, want := unstuff(t, c.dots()), head+".one\r\ntwo\r\n"; got != want {
		t.Errorf("got %d octets, want %d", len(got), len(want))
	}
	c.do("NOOP", "+OK Nothing done")
}

// TestMessageTurnsShort: the end mark must not follow half a message.
func TestMessageTurnsShort(t *testing.T) {
	t.Parallel()
	for _, files := range []bool{false, true} {
		store := newStore().fill("alice", strings.Repeat("line\r\n", 100000))
		store.appends, store.short = false, true
		if files {
			store.toFiles(t, "alice")
		}
		r := newRig(t, store, nil)
		c := r.login()
		c.send("DELE 1\r\nRSET\r\nRETR 1\r\nNOOP\r\n")
		all, _ := io.ReadAll(c.in)
		if bytes.Contains(all, []byte("\r\n.\r\n")) || bytes.Contains(all, []byte("Nothing done")) {
			t.Errorf("files %v: the reply was ended: %q", files, all[max(0, len(all)-40):])
		}
		eventually(t, "log", func() bool { return strings.Contains(r.log.String(), `end="message cut short"`) })
	}
}

// A countConn counts the reads that carry something.
type countConn struct {
	net.Conn
	reads int
}

func (c *countConn) Read(p []byte) (int, error) {
	c.reads++
	return c.Conn.Read(p)
}

// TestPipelining: replies to commands that came together leave together (RFC
// 2449 section 6.6).
func TestPipelining(t *testing.T) {
	t.Parallel()
	c := newRig(t, newStore().fill("alice", "one\r\n"), nil).login()
	counted := &countConn{Conn: c.Conn}
	c.wrap(counted)
	const n = 300
	c.send(strings.Repeat("RETR 1\r\n", n))
	for range n {
		c.want("+OK 5 octets")
		c.dots()
	}
	if counted.reads > 5 {
		t.Errorf("%d replies came in %d reads", n, counted.reads)
	}
}

func TestSegments(t *testing.T) {
	t.Parallel()
	c := newRig(t, newStore().fill("alice", "one\r\n"), nil).login()
	for _, octet := range "STAT\r\nLIST 1\r\n" {
		c.send(string(octet))
	}
	c.want("+OK 1 5")
	c.want("+OK 1 5")
}

func TestSecurityLayer(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice", "one\r\n"), func(_ *kpop.Server, p *kpop.Port) { p.TLS = testTLS })
	c := r.dial()
	c.line()
	// What is pipelined behind the last response belongs to the layer.
	c.send("AUTH X-LAYER\r\n" + string(flip([]byte("STAT\r\nCAPA\r\n"))))
	c.want("+OK Maildrop is locked and ready")
	c.in = bufioOver(flipConn{heldReader{c.Conn, c.in}})
	c.Conn = flipConn{c.Conn}
	c.want("+OK 1 5")
	c.line()
	if strings.Contains(c.dots(), "STLS") {
		t.Error("STLS is offered under a layer")
	}
	c.do("RETR 1", "+OK 5 octets")
	c.dots()
	c.do("QUIT", "+OK Goodbye")
}

// RFC 5034 section 4: a layer's server discards what it has not from the SASL
// negotiation. A client that never sent UTF8 must not get what somebody on the way
// asked for in clear.
func TestSecurityLayerForgets(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice", "Subject: \u00fc\r\n\r\nx\r\n"), nil)
	c := r.dial()
	c.line()
	c.do("UTF8", "+OK UTF-8 is on")
	c.do("LANG de", "+OK de Sprache ist umgestellt")
	c.do("AUTH X-LAYER", "+OK Postfach ist gesperrt und bereit")
	c.in = bufioOver(flipConn{c.Conn})
	c.Conn = flipConn{c.Conn}
	c.do("NOOP", "+OK Nothing done")
	c.do("RETR 1", "+OK 34 octets")
	if got := c.dots(); got != "Subject: =?utf-8?q?=C3=BC?=\r\n\r\nx\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestLongInitialResponse(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice"), nil)
	long := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), 90_000))
	c := r.dial()
	c.line()
	c.do("AUTH X-STEPS", "+ Zmlyc3Q=")
	c.do("", "+ c2Vjb25k")
	c.do(long, "+OK Maildrop is locked and ready")

	c = r.dial()
	c.line()
	c.do("AUTH PLAIN "+long, "-ERR Malformed authentication response")
	c.do("AUTH PLAIN "+long+long, "-ERR Line too long")
	c.do("AUTH X-STEPS", "+ Zmlyc3Q=")
	c.do(long+long, "-ERR Line too long")
	c.do("USERx"+long, "-ERR Line too long")
	c.wantEOF()
}

func TestPanicEndsOneConnection(t *testing.T) {
	t.Parallel()
	panics := make(chan any, 1)
	r := newRig(t, newStore().fill("alice", "one\r\n"), func(s *kpop.Server, _ *kpop.Port) {
		s.Observer.Panic = func(v any, _ []byte) { panics <- v }
	})
	other := r.login()
	c := r.dial()
	c.line()
	c.do("USER panic", "+OK PASS please")
	c.send("PASS x\r\n")
	c.wantEOF()
	if v := <-panics; v != "password check fell over" {
		t.Error("observed", v)
	}
	other.do("STAT", "+OK 1 5")
	if !strings.Contains(r.log.String(), "engine_test") && !strings.Contains(r.log.String(), "server_test.go") {
		t.Error("no stack in the log")
	}
}

func TestPanicInUpdateFreesMaildrop(t *testing.T) {
	t.Parallel()
	store := newStore().fill("alice", "one\r\n")
	store.update = func(mailstore.Changes) error { panic("update fell over") }
	r := newRig(t, store, nil)
	c := r.login()
	c.send("QUIT\r\n")
	c.wantEOF()
	eventually(t, "maildrop free", func() bool { return store.opened.Load() == 0 })
}

// TestPanicInOpenFreesUser: a login that fell over is no session of its user's.
func TestPanicInOpenFreesUser(t *testing.T) {
	t.Parallel()
	store := newStore().fill("alice", "one\r\n")
	var fallen atomic.Bool
	store.opening = func() {
		if fallen.CompareAndSwap(false, true) {
			panic("index fell over")
		}
	}
	r := newRig(t, store, func(s *kpop.Server, _ *kpop.Port) { s.Limits.MaxPerUser = 1 })
	c := r.dial()
	c.line()
	c.do("USER alice", "+OK PASS please")
	c.send("PASS " + secret + "\r\n")
	c.wantEOF()
	eventually(t, "gone", func() bool { return len(r.server.Sessions()) == 0 })
	r.login().do("STAT", "+OK 1 5")
}

// TestSizesUnknownAreLogged: the operator reads why a client is told to come later.
func TestSizesUnknownAreLogged(t *testing.T) {
	t.Parallel()
	store := newStore().fill("alice", "one\r\n")
	store.sizeErr = fmt.Errorf("index is locked: %w", mailstore.ErrTemporary)
	r := newRig(t, store, nil)
	c := r.login()
	for i, command := range []string{"STAT", "LIST", "LIST 1"} {
		c.do(command, "-ERR [SYS/TEMP] Temporary failure, try again later")
		if got := strings.Count(r.log.String(), "index is locked"); got != i+1 {
			t.Errorf("after %s the log tells it %d times", command, got)
		}
	}
}

// TestRefusalsAreAlike: whether a user exists shows neither in text nor in time.
func TestRefusalsAreAlike(t *testing.T) {
	t.Parallel()
	const delay = 150 * time.Millisecond
	r := newRig(t, newStore().fill("alice"), func(s *kpop.Server, _ *kpop.Port) { s.Limits.FailureDelay = delay })
	for _, login := range []string{"alice wrong", "nobody " + secret, "nobody wrong"} {
		user, given, _ := strings.Cut(login, " ")
		c := r.dial()
		c.line()
		c.do("USER "+user, "+OK PASS please")
		began := time.Now()
		c.do("PASS "+given, "-ERR [AUTH] Authentication failed")
		if took := time.Since(began); took < delay || took > 20*delay {
			t.Errorf("%s: %v", login, took)
		}
	}
}

// What takes longer than the delay is held back to the next multiple of it.
func TestSlowRefusalsAreAlike(t *testing.T) {
	t.Parallel()
	const delay = 100 * time.Millisecond
	r := newRig(t, newStore().fill("alice"), func(s *kpop.Server, p *kpop.Port) {
		s.Limits.FailureDelay = delay
		check := p.Password
		p.Password = func(ctx context.Context, peer auth.Peer, user, password string) (*auth.Identity, error) {
			time.Sleep(delay + delay/10) // a KDC that is asked twice
			return check(ctx, peer, user, password)
		}
	})
	c := r.dial()
	c.line()
	c.do("USER nobody", "+OK PASS please")
	began := time.Now()
	c.do("PASS wrong", "-ERR [AUTH] Authentication failed")
	if took := time.Since(began); took < 2*delay {
		t.Errorf("a refusal after %v, not at a multiple of %v", took, delay)
	}
}

// TestRefusalCountsFromTheLastLine: a client that lets time pass between AUTH and its
// response cannot choose where in the delay the answer is worked out, so that one
// question to a KDC ends before its end and two behind it.
func TestRefusalCountsFromTheLastLine(t *testing.T) {
	t.Parallel()
	const delay = 400 * time.Millisecond
	r := newRig(t, newStore().fill("alice"), func(s *kpop.Server, _ *kpop.Port) { s.Limits.FailureDelay = delay })
	c := r.dial()
	c.line()
	c.do("AUTH PLAIN", "+ ")
	time.Sleep(delay * 3 / 4) // what the client chooses
	began := time.Now()
	c.do(base64.StdEncoding.EncodeToString([]byte("\x00nobody\x00wrong")), "-ERR [AUTH] Authentication failed")
	if took := time.Since(began); took < delay {
		t.Errorf("refused %v after the response, not %v", took, delay)
	}
}

func TestRetrievedAndLogLine(t *testing.T) {
	t.Parallel()
	var ended kpop.SessionInfo
	over := make(chan struct{})
	store := newStore().fill("alice", "one\r\n", "two\r\n", "three\r\n")
	r := newRig(t, store, func(s *kpop.Server, _ *kpop.Port) {
		s.Observer.Ended = func(i kpop.SessionInfo, how string) { ended = i; close(over) }
	})
	c := r.login()
	c.send("RETR 3\r\nTOP 2 0\r\nRETR 1\r\nDELE 2\r\nQUIT\r\n")
	_, _ = io.ReadAll(c.in)
	<-over
	if ended.Retrieved != 2 || ended.Topped != 1 || ended.Deleted != 1 || ended.User != "alice" || ended.Octets == 0 {
		t.Errorf("%+v", ended)
	}
	if got := store.boxes["alice"].retrieved; !slices.Equal(got, []mailstore.Number{1, 3}) {
		t.Error("retrieved", got)
	}
	for _, word := range []string{"end=quit", "user=alice", "mechanism=USER", "authcid=alice", "mailbox=alice", "retr=2", "top=1", "dele=1", "octets_sent=", "kvno=7", "listener=pop3", "duration="} {
		if !strings.Contains(r.log.String(), word) {
			t.Errorf("no %q in the log", word)
		}
	}
}

// TestMaildropIsFreeBeforeReply: a client may come back as soon as it has read
// the reply to QUIT.
func TestMaildropIsFreeBeforeReply(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore().fill("alice", "one\r\n"), nil)
	for range 20 {
		c := r.login()
		c.do("QUIT", "+OK Goodbye")
	}
}

func TestHandshakeWithAnotherProtocol(t *testing.T) {
	t.Parallel()
	r := newRig(t, newStore(), func(_ *kpop.Server, p *kpop.Port) { p.TLS, p.Implicit = testTLS, true })
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	secure := tls.Client(nc, &tls.Config{RootCAs: testRoots(), ServerName: "pop.test", NextProtos: []string{"http/1.1"}})
	if err := secure.Handshake(); err == nil {
		t.Error("an HTTP client was let in")
	}
}

func TestServeRefusesPortWithoutCertificate(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	err = (&kpop.Server{}).Serve(context.Background(), l, &kpop.Port{Name: "pop3s", Implicit: true})
	if err == nil || errors.Is(err, kpop.ErrServerClosed) {
		t.Error(err)
	}
}

var _ auth.Layered = layerExchange{}
