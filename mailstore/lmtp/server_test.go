package lmtp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/lmtp"
	"github.com/kpopd/kpopd/mailstore/memdrop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A store is one in memory with some mailboxes that have a trouble of their own.
type store struct {
	memdrop.Store
	trouble map[string]error // by mailbox: what Deliver says
	early   map[string]error // what Accepts says
	gate    chan struct{}    // not nil: Deliver waits for it
}

func (s *store) Deliver(ctx context.Context, mailbox string, m io.Reader, from string) error {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if mailbox == "panic" {
		panic("in the store")
	}
	if err := s.trouble[mailbox]; err != nil {
		return err
	}
	return s.Store.Deliver(ctx, mailbox, m, from)
}

func (s *store) Accepts(_ context.Context, mailbox string, octets int64) error {
	if mailbox == "small" && octets > 100 {
		return fmt.Errorf("test: %w", mailstore.ErrOverQuota)
	}
	return s.early[mailbox]
}

func newStore() *store {
	s := &store{
		early: map[string]error{"full": mailstore.ErrOverQuota},
		trouble: map[string]error{
			"late": fmt.Errorf("test: /secret/path: %w", mailstore.ErrOverQuota), "damaged": mailstore.ErrDamaged,
			"gone": mailstore.ErrUnknown, "readonly": mailstore.ErrReadOnly, "odd": mailstore.ErrMessage,
			"disk": fmt.Errorf("test: %w: %w", mailstore.ErrTemporary, syscall.ENOSPC), "other": errors.New("/secret/path"),
		},
	}
	for _, name := range []string{"alice", "bob", "small"} {
		s.Put(name)
	}
	return s
}

// recipient takes the local part for the mailbox.
func recipient(_ context.Context, address string) (string, error) {
	local, _, _ := strings.Cut(address, "@")
	if local == "nobody" {
		return "", fmt.Errorf("test: %w", mailstore.ErrUnknown)
	}
	return local, nil
}

// serve starts a server on a unix socket, and ends it with the test.
func serve(t testing.TB, s *lmtp.Server) (network, address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lmtp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	return "unix", filepath.Join(dir, "s")
}

func serveOn(t testing.TB, s *lmtp.Server, l net.Listener) {
	t.Helper()
	s.Hostname = "mail.test"
	if s.Recipient == nil {
		s.Recipient = recipient
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// A client plays dialogues.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, network, address string) *client {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &client{t, c, bufio.NewReader(c)}
}

// play sends the lines that begin with "C: " and compares those that begin
// with "S: ", which are regular expressions.
func (c *client) play(dialogue string) {
	c.t.Helper()
	for line := range strings.Lines(dialogue) {
		kind, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch kind {
		case "C:":
			c.send(text + "\r\n")
		case "S:":
			got, err := c.r.ReadString('\n')
			if err != nil || !regexp.MustCompile("^"+text+"\r\n$").MatchString(got) {
				c.t.Fatalf("S: %q, %v; should be %q", got, err, text)
			}
		}
	}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

const greeting = `
	S: 220 mail.test .*
	C: LHLO client.test
	S: 250-Hello client.test
	S: 250-PIPELINING
	S: 250-8BITMIME
	S: 250-ENHANCEDSTATUSCODES
	S: 250-SMTPUTF8
	S: 250-SIZE 52428800
	S: 250 LIMITS RCPTMAX=1000
`

// TestDialogue: each recipient has an answer of its own, before and after the
// message (RFC 2033 section 4.2).
func TestDialogue(t *testing.T) {
	t.Parallel()
	s := newStore()
	var log bytes.Buffer
	network, address := serve(t, &lmtp.Server{Store: s, Log: slog.New(slog.NewTextHandler(&log, nil))})
	c := dial(t, network, address)
	c.play(greeting + `
		C: MAIL FROM:<sender@b.test> BODY=8BITMIME SIZE=120
		S: 250 2.0.0 .*
		C: RCPT TO:<alice@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<nobody@mail.test>
		S: 550 5.1.1 No such user here
		C: RCPT TO:<full@mail.test>
		S: 452 4.2.2 Over quota
		C: RCPT TO:<small@mail.test>
		S: 452 4.2.2 Over quota
		C: RCPT TO:<late@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<gone@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<damaged@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<readonly@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<odd@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<disk@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<other@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<bob@mail.test>
		S: 250 2.0.0 .*
		C: RCPT TO:<bob@mail.test>
		S: 250 2.0.0 .*
		C: DATA
		S: 354 .*
		C: Subject: dots
		C:
		C: ..
		C: ..x
		C: .
		S: 250 2.0.0 <alice@mail.test> .*
		S: 452 4.2.2 <late@mail.test> Over quota
		S: 550 5.1.1 <gone@mail.test> No such user here
		S: 451 4.2.0 <damaged@mail.test> .*
		S: 451 4.2.1 <readonly@mail.test> .*
		S: 554 5.6.0 <odd@mail.test> .*
		S: 452 4.3.1 <disk@mail.test> .*
		S: 451 4.3.0 <other@mail.test> Temporary failure, try again later
		S: 250 2.0.0 <bob@mail.test> .*
		S: 250 2.0.0 <bob@mail.test> .*
		C: MAIL FROM:<>
		S: 250 2.0.0 .*
		C: RCPT TO:<alice@mail.test>
		S: 250 2.0.0 .*
		C: DATA
		S: 354 .*
		C: Subject: bounce
		C: .
		S: 250 2.0.0 <alice@mail.test> .*
		C: QUIT
		S: 221 .*
	`)
	if n := len(s.Messages("bob")); n != 2 {
		t.Errorf("bob has %d messages; he was named twice", n)
	}
	all := s.Messages("alice")
	if len(all) != 2 {
		t.Fatalf("%q", all)
	}
	want := "^Return-Path: <sender@b.test>\r\nReceived: from client.test \\(unix socket\\)\r\n\tby mail.test with LMTP id \\w+;\r\n\t.*\r\n" +
		"Subject: dots\r\n\r\n.\r\n.x\r\n$"
	if !regexp.MustCompile(want).MatchString(all[0]) {
		t.Errorf("%q", all[0])
	}
	if !strings.HasPrefix(all[1], "Return-Path: <>\r\n") || !strings.Contains(all[1], "\r\n\tfor <alice@mail.test>;\r\n") {
		t.Errorf("%q", all[1])
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, dialogue := range map[string]string{
		"not SMTP":  "S: 220 .*\nC: EHLO client.test\nS: 500 5.5.1 .*",
		"too large": greeting + "C: MAIL FROM:<a@b.test> SIZE=52428801\nS: 552 5.3.4 .*",
		"beyond 32 bits": greeting + "C: MAIL FROM:<a@b.test> size=4294967296 BODY=8BITMIME\nS: 552 5.3.4 .*\n" + // RFC 1870 section 3: up to 20 digits
			"C: MAIL FROM:<a@b.test> SIZE=99999999999999999999\nS: 552 5.3.4 .*\nC: MAIL FROM:<a@b.test> SIZE=999999999999999999999\nS: 501 .*\n" +
			"C: MAIL FROM:<a@b.test> SIZE=1x\nS: 501 .*\nC: MAIL FROM:<a@b.test> SIZE=00000000000000000010\nS: 250 .*",
		"no greeting":   "S: 220 .*\nC: MAIL FROM:<a@b.test>\nS: 503 5.5.1 .*",
		"no recipient":  greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: DATA\nS: 503 5.5.1 .*", // RFC 2033 section 4.2
		"no sender":     greeting + "C: RCPT TO:<alice@mail.test>\nS: 503 5.5.1 .*",
		"two senders":   greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: MAIL FROM:<b@b.test>\nS: 503 5.5.1 .*\nC: RSET\nS: 250 .*\nC: MAIL FROM:<b@b.test>\nS: 250 .*",
		"no domain":     greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice>\nS: 250 2.0.0 .*<alice> .*\nC: DATA\nS: 354 .*\nC: .\nS: 250 2.0.0 <alice> .*",
		"no such verb":  greeting + "C: XFOO\nS: 500 5.5.2 .*",
		"no chunk":      greeting + "C: BDAT\t100000\nS: 500 5.5.2 .*",
		"long command":  greeting + "C: MAIL FROM:<" + strings.Repeat("a", 10000) + "@b.test>\nS: 500 5.4.0 .*",
		"not an adress": greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice\nS: 501 .*",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			network, address := serve(t, &lmtp.Server{Store: newStore()})
			dial(t, network, address).play(dialogue)
		})
	}
}

func TestOverQuotaRejects(t *testing.T) {
	t.Parallel()
	network, address := serve(t, &lmtp.Server{Store: newStore(), OverQuotaRejects: true})
	dial(t, network, address).play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<full@mail.test>\nS: 552 5.2.2 .*")
}

// TestLongLines: mail with lines of any length is taken; so is what needs a
// file while it waits.
func TestLongLines(t *testing.T) {
	t.Parallel()
	s := newStore()
	dir := filepath.Join(t.TempDir(), "removed", "meanwhile")
	network, address := serve(t, &lmtp.Server{Store: s, TempDir: dir})
	for _, size := range []int{100, 300_000, 3_000_000} {
		c := dial(t, network, address)
		c.play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\nC: DATA\nS: 354 .*\n")
		long := strings.Repeat("x", size)
		c.send("Subject: long\r\n\r\n" + long + "\r\n.\r\n")
		c.play("S: 250 .*\nC: NOOP\nS: 250 .*\n")
		all := s.Messages("alice")
		if last := all[len(all)-1]; !strings.HasSuffix(last, "\r\n\r\n"+long+"\r\n") {
			t.Errorf("line of %d: message of %d octets", size, len(last))
		}
	}
}

// TestSizeLimit: what grows over the limit is refused for every recipient, read
// to its end, and the connection goes on.
func TestSizeLimit(t *testing.T) {
	t.Parallel()
	s := newStore()
	network, address := serve(t, &lmtp.Server{Store: s, Limits: lmtp.Limits{Message: 1000}})
	c := dial(t, network, address)
	c.play("S: 220 .*\nC: LHLO x\n" + strings.Repeat("S: 250.*\n", 7))
	envelope := "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\nC: RCPT TO:<bob@mail.test>\nS: 250 .*\nC: DATA\nS: 354 .*\n"
	c.play(envelope)
	c.send(strings.Repeat(strings.Repeat("x", 98)+"\r\n", 100) + ".\r\n")
	c.play("S: 552 5.3.4 <alice@mail.test> .*\nS: 552 5.3.4 <bob@mail.test> .*\n" + envelope)
	c.send("Subject: small\r\n.\r\n")
	c.play("S: 250 .*\nS: 250 .*\n")
	if n := len(s.Messages("alice")); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestSizeAnnounced: a message of just so many octets as SIZE announces is taken,
// with one more it is not (RFC 1870 section 4).
func TestSizeAnnounced(t *testing.T) {
	t.Parallel()
	s := newStore()
	network, address := serve(t, &lmtp.Server{Store: s, Limits: lmtp.Limits{Message: 1000}})
	c := dial(t, network, address)
	c.play(strings.Replace(greeting, "SIZE 52428800", "SIZE 1000", 1))
	for octets, answer := range map[int]string{1000: "250 2.0.0", 1001: "552 5.3.4"} {
		text := "Subject: x\r\n\r\n" + strings.Repeat("x", octets-len("Subject: x\r\n\r\n\r\n")) + "\r\n"
		envelope := "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\n"
		c.play(fmt.Sprintf("C: MAIL FROM:<a@b.test> SIZE=%d\nS: %s .*\nC: RSET\nS: 250 .*\n", octets, answer[:3]))
		c.play(envelope + "C: DATA\nS: 354 .*\n")
		c.send(text + ".\r\n")
		c.play("S: " + answer + " <alice@mail.test> .*\nC: RSET\nS: 250 .*\n")
	}
	for _, text := range s.Messages("alice") {
		if !strings.HasSuffix(text, "x\r\n") {
			t.Errorf("%q", text)
		}
	}
	if n := len(s.Messages("alice")); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestBrokenOff: a client that goes away within its message leaves nothing.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	s := newStore()
	server := &lmtp.Server{Store: s}
	network, address := serve(t, server)
	c := dial(t, network, address)
	c.play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\nC: DATA\nS: 354 .*\nC: Subject: half\n")
	c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil { // waits until the connection is done with
		t.Fatal(err)
	}
	if got := s.Messages("alice"); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// TestCutAnywhere: a message counts when its last octet has come; what breaks off before
// is not answered for good.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	s := newStore()
	network, address := serve(t, &lmtp.Server{Store: s})
	const text = "X: y\r\n\r\n.\r\n"
	message := "DATA\r\n" + strings.ReplaceAll(text, "\r\n.", "\r\n..") + ".\r\n"
	for cut := range len(message) + 1 {
		before := len(s.Messages("alice"))
		c := dial(t, network, address)
		c.play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\n")
		c.send(message[:cut])
		if err := c.Conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answers, err := io.ReadAll(c.r)
		if err != nil {
			t.Fatal(err)
		}
		taken := len(s.Messages("alice")) - before
		if whole := cut == len(message); whole != (taken == 1) || whole != bytes.Contains(answers, []byte("> OK: queued\r\n")) {
			t.Errorf("%q: %d messages, answered %q", message[:cut], taken, answers)
		}
		if bytes.HasPrefix(answers, []byte("5")) || bytes.Contains(answers, []byte("\n5")) {
			t.Errorf("%q: answered %q", message[:cut], answers)
		}
	}
}

// TestNoChunks: BDAT (RFC 3030) is not announced, and after one nothing is a command.
func TestNoChunks(t *testing.T) {
	t.Parallel()
	s := newStore()
	network, address := serve(t, &lmtp.Server{Store: s})
	for _, bdat := range []string{"BDAT 31 LAST", "bdat 31", "BDAT", "BDAT\t0"} {
		c := dial(t, network, address)
		c.play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\n")
		c.send(bdat + "\r\nDATA\r\nSubject: smuggled\r\n\r\n.\r\n")
		c.play("S: 500 5.5.2 .*\n")
		if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection goes on: %v", bdat, err)
		}
	}
	if got := s.Messages("alice"); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// TestLongRecipient: an answer that fits no buffer is one answer all the same.
func TestLongRecipient(t *testing.T) {
	t.Parallel()
	s := newStore()
	long := "alice+" + strings.Repeat("x", 4060)
	s.Put(long)
	network, address := serve(t, &lmtp.Server{Store: s})
	dial(t, network, address).play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<" + long + "@mail.test>\nS: 250 .*\n" +
		"C: RCPT TO:<alice@mail.test>\nS: 250 .*\nC: DATA\nS: 354 .*\nC: .\nS: 250 .*\nS: 250 .*\nC: VRFY x\nS: 252 .*\n")
}

// TestSlowReader: after an answer that could not go out there is none any more, which
// the client would take for that recipient's.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := newStore()
	server := &lmtp.Server{Store: s, Limits: lmtp.Limits{Timeout: 2 * time.Second},
		Recipient: func(context.Context, string) (string, error) { return "alice", nil }}
	network, address := serve(t, server)
	c := dial(t, network, address)
	c.play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\n")
	const recipients = 120
	long := strings.Repeat("x", 4000)
	for range recipients {
		c.play("C: RCPT TO:<" + long + ">\nS: 250 .*\n")
	}
	c.play("C: DATA\nS: 354 .*\nC: .\n")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil { // the answers are more than a socket holds
		t.Fatal(err)
	}
	answers, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.Count(string(answers), "250 2.0.0 <"+long+"> OK: queued\r\n")
	if rest := strings.ReplaceAll(string(answers), "250 2.0.0 <"+long+"> OK: queued\r\n", ""); strings.Contains(rest, "\n") || whole == recipients {
		t.Errorf("%d answers and %q", whole, rest)
	}
	if there := len(s.Messages("alice")); there > whole+1 {
		t.Errorf("%d messages, %d answers", there, whole)
	}
}

// TestPanic: a slip in the store costs one message a temporary answer.
func TestPanic(t *testing.T) {
	t.Parallel()
	s := newStore()
	var told atomic.Int64
	network, address := serve(t, &lmtp.Server{Store: s, Panicked: func(value any, stack []byte) {
		if told.Add(1); value != "in the store" || !bytes.Contains(stack, []byte("Deliver")) {
			t.Errorf("told of %v at\n%s", value, stack)
		}
	}})
	c := dial(t, network, address)
	c.play(greeting + `
		C: MAIL FROM:<a@b.test>
		S: 250 .*
		C: RCPT TO:<alice@mail.test>
		S: 250 .*
		C: RCPT TO:<panic@mail.test>
		S: 250 .*
		C: DATA
		S: 354 .*
		C: .
		S: 250 2.0.0 <alice@mail.test> .*
		S: 421 4.0.0 <panic@mail.test> .*
	`)
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection goes on: %v", err)
	}
	if told.Load() != 1 {
		t.Errorf("told of %d faults", told.Load())
	}
	dial(t, network, address).play(greeting)
}

// TestDots: a message comes out as its client had it (RFC 5321 section 4.5.2),
// however the network cuts it.
func TestDots(t *testing.T) {
	t.Parallel()
	s := newStore()
	network, address := serve(t, &lmtp.Server{Store: s})
	c := dial(t, network, address)
	c.play(greeting)
	sent := 0
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOf(rapid.SampledFrom([]string{"\r\n", ".", "..", "a", "\n", "\r", "\rb", strings.Repeat("x", 5000), "\r\n.\n", "\r\n.x"}))
		text := "X: y\r\n\r\n" + strings.Join(pieces.Draw(t, "pieces"), "") + "\r\n"
		c.play("C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice>\nS: 250 .*\nC: DATA\nS: 354 .*\n")
		stuffed := strings.ReplaceAll(text, "\r\n.", "\r\n..") + ".\r\n"
		for size := rapid.SampledFrom([]int{1, 3, 4096, 1 << 20}).Draw(t, "size"); stuffed != ""; {
			n := min(size, len(stuffed))
			if size < 16 && len(stuffed) > 100 {
				n = max(n, len(stuffed)-100) // what matters is at the end, in small pieces
			}
			c.send(stuffed[:n])
			stuffed = stuffed[n:]
		}
		c.play("S: 250 2.0.0 <alice> .*\nC: NOOP\nS: 250 .*\n")
		all := s.Messages("alice")
		if sent++; len(all) != sent || !strings.HasSuffix(all[sent-1], "\r\n"+text) {
			t.Fatalf("%d messages, the last one %q", len(all), all[len(all)-1])
		}
	})
}

// TestAnswersApart: a recipient's answer goes out while the next one's message is
// still being stored, one for each time that an address was named.
func TestAnswersApart(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.gate = make(chan struct{})
	s.trouble["bob"] = &lmtp.AnswerError{Code: 450, Text: "first\nsecond"}
	network, address := serve(t, &lmtp.Server{Store: s})
	c := dial(t, network, address)
	c.play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\n" +
		"C: RCPT TO:<alice@mail.test>\nS: 250 .*\nC: RCPT TO:<bob>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\nC: DATA\nS: 354 .*\nC: .\n")
	for _, want := range []string{"250 2.0.0 <alice@mail.test> .*", "450 4.0.0 <bob> first second", "250 2.0.0 <alice@mail.test> .*"} {
		s.gate <- struct{}{}
		c.play("S: " + want + "\n")
	}
	c.play("C: NOOP\nS: 250 2.0.0 I .*\n")
	if n := len(s.Messages("alice")); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// TestTooMany: one connection more than there may be is told so.
func TestTooMany(t *testing.T) {
	t.Parallel()
	network, address := serve(t, &lmtp.Server{Store: newStore(), Limits: lmtp.Limits{Connections: 1}})
	first := dial(t, network, address)
	first.play(greeting)
	dial(t, network, address).play("S: 421 4.3.2 mail.test has too many connections\n")
	first.play("C: QUIT\nS: 221 .*\n")
	if _, err := first.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	// The place is free once the server has noticed; nothing tells us when.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		line, err := dial(t, network, address).r.ReadString('\n')
		if err == nil && strings.HasPrefix(line, "220 ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, %v", line, err)
		}
	}
}

// TestSilence: who says nothing is sent away.
func TestSilence(t *testing.T) {
	t.Parallel()
	network, address := serve(t, &lmtp.Server{Store: newStore(), Limits: lmtp.Limits{Timeout: 500 * time.Millisecond}})
	dial(t, network, address).play("S: 220 .*\nS: 421 4.4.2 .*\n")
}

// TestShutdown: a message on its way is delivered, whoever waits is sent away.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.gate = make(chan struct{})
	server := &lmtp.Server{Store: s}
	network, address := serve(t, server)
	idle, busy := dial(t, network, address), dial(t, network, address)
	idle.play(greeting)
	busy.play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\nC: DATA\nS: 354 .*\nC: Subject: x\n")
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		done <- server.Shutdown(ctx)
	}()
	idle.play("S: 421 .*\n")
	busy.play("C: .\n")
	close(s.gate)
	busy.play("S: 250 2.0.0 <alice@mail.test> .*\nS: 421 .*\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAbandon: what is not done when Shutdown's patience ends is cut, without a
// 250.
func TestAbandon(t *testing.T) {
	t.Parallel()
	s := newStore()
	s.gate = make(chan struct{}) // never opens
	server := &lmtp.Server{Store: s}
	network, address := serve(t, server)
	busy := dial(t, network, address)
	busy.play(greeting + "C: MAIL FROM:<a@b.test>\nS: 250 .*\nC: RCPT TO:<alice@mail.test>\nS: 250 .*\nC: DATA\nS: 354 .*\nC: x\nC: .\n")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if answer, _ := busy.r.ReadString('\n'); strings.HasPrefix(answer, "2") {
		t.Errorf("%q", answer)
	}
	if got := s.Messages("alice"); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// TestUTF8: an internationalised sender (RFC 6531), and one that needs quotes.
func TestUTF8(t *testing.T) {
	t.Parallel()
	s := newStore()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, &lmtp.Server{Store: s}, l)
	dial(t, "tcp", l.Addr().String()).play(greeting + `
		C: MAIL FROM:<jürgen@bücher.test> SMTPUTF8
		S: 250 .*
		C: RCPT TO:<alice@mail.test>
		S: 250 .*
		C: DATA
		S: 354 .*
		C: .
		S: 250 .*
		C: MAIL FROM:<"a b"@b.test>
		S: 250 .*
		C: RCPT TO:<alice@mail.test>
		S: 250 .*
		C: DATA
		S: 354 .*
		C: .
		S: 250 .*
	`)
	all := s.Messages("alice")
	if len(all) != 2 || !strings.HasPrefix(all[0], "Return-Path: <jürgen@bücher.test>\r\nReceived: from client.test ([127.0.0.1])\r\n\tby mail.test with UTF8LMTP ") ||
		!strings.HasPrefix(all[1], "Return-Path: <\"a b\"@b.test>\r\n") {
		t.Errorf("%q", all)
	}
}

// TestBareRecipient: Cyrus's deliver and sendmail name users without a domain.
func TestBareRecipient(t *testing.T) {
	t.Parallel()
	s := newStore()
	network, address := serve(t, &lmtp.Server{Store: s})
	dial(t, network, address).play(greeting + `
		C: MAIL FROM:<a@b.test>
		S: 250 .*
		C: rcpt to:<alice>
		S: 250 .*
		C: RCPT TO:<nobody>
		S: 550 5.1.1 No such user here
		C: RCPT TO:<bob> UNKNOWN=x
		S: 500 .*
		C: RCPT TO:<>
		S: 501 .*
		C: RCPT TO:<"a b">
		S: 501 .*
		C: DATA
		S: 354 .*
		C: RCPT TO:<alice>
		C: .
		S: 250 .*
		C: MAIL FROM:<a@b.test>
		S: 250 .*
		C: RCPT TO:<bob>
		S: 250 .*
	`)
	all := s.Messages("alice")
	if len(all) != 1 || !strings.Contains(all[0], "\tfor <alice>;\r\n") || !strings.HasSuffix(all[0], "\r\nRCPT TO:<alice>\r\n") {
		t.Errorf("%q", all)
	}
}

// TestForward: another LMTP server's answers pass through.
func TestForward(t *testing.T) {
	t.Parallel()
	s := newStore()
	network, address := serve(t, &lmtp.Server{Store: s})
	_ = network
	f := &lmtp.Forwarder{Address: address, Hostname: "front.test"}
	front, frontAddress := serve(t, &lmtp.Server{Store: f, Recipient: func(_ context.Context, a string) (string, error) {
		return strings.Replace(a, "@mail.test", "@inner.test", 1), nil
	}})
	dial(t, front, frontAddress).play(greeting + `
		C: MAIL FROM:<sender@b.test>
		S: 250 .*
		C: RCPT TO:<alice@mail.test>
		S: 250 .*
		C: RCPT TO:<nobody@mail.test>
		S: 550 5.1.1 No such user here
		C: RCPT TO:<full@mail.test>
		S: 452 4.2.2 Over quota
		C: RCPT TO:<late@mail.test>
		S: 250 .*
		C: DATA
		S: 354 .*
		C: Subject: x
		C:
		C: ..
		C: .
		S: 250 2.0.0 <alice@mail.test> .*
		S: 452 4.2.2 <late@mail.test> <late@inner.test> Over quota
	`)
	all := s.Messages("alice")
	if len(all) != 1 || !strings.HasPrefix(all[0], "Return-Path: <sender@b.test>\r\nReceived: from front.test ") || !strings.HasSuffix(all[0], "Subject: x\r\n\r\n.\r\n") {
		t.Errorf("%q", all)
	}
	for mailbox, want := range map[string]error{
		"nobody@x.test": mailstore.ErrUnknown, "full@x.test": mailstore.ErrOverQuota, "damaged@x.test": mailstore.ErrTemporary,
		"odd@x.test": mailstore.ErrMessage, "alice@x.test": nil,
	} {
		if err := f.Deliver(context.Background(), mailbox, strings.NewReader("x\r\n"), ""); !errors.Is(err, want) {
			t.Errorf("%s: %v", mailbox, err)
		}
	}
	none := &lmtp.Forwarder{Address: filepath.Join(t.TempDir(), "none")}
	if err := none.Deliver(context.Background(), "alice", strings.NewReader(""), ""); !errors.Is(err, mailstore.ErrTemporary) {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestForwardOctets: a message arrives as it is, in whatever pieces it comes, with an
// end to its last line.
func TestForwardOctets(t *testing.T) {
	t.Parallel()
	s := newStore()
	_, address := serve(t, &lmtp.Server{Store: s, Recipient: recipient})
	f := &lmtp.Forwarder{Address: address, Hostname: "front.test"}
	for _, test := range []struct{ sent, want string }{
		{"x\r\r\n.\r\n..\r\n", ""}, {".\r\n", ""}, {"x\r\n.\r\r\n", ""}, {"x\r.\r\n", ""}, {"x\r\n\r\r.\r\n", ""}, {"\r.\r\n\r\r\n", ""}, {"\r\r\r\n\r\n.", "\r\r\r\n\r\n.\r\n"},
		{"x\r\n\r\n", ""}, {"x", "x\r\n"}, {"x\r", "x\r\r\n"}, {"", "\r\n"}, {"a\n.\nb\n\n", "a\r\n.\r\nb\r\n\r\n"},
		{strings.Repeat("x", 16<<10) + "\r\n.x\r\n", ""},
	} {
		if test.want == "" {
			test.want = test.sent
		}
		for _, r := range []io.Reader{strings.NewReader(test.sent), iotest.OneByteReader(strings.NewReader(test.sent))} {
			if err := f.Deliver(context.Background(), "alice@mail.test", r, "a@b.test"); err != nil {
				t.Fatal(err)
			}
			all := s.Messages("alice")
			_, rest, _ := strings.Cut(all[len(all)-1], "for <alice@mail.test>;\r\n")
			if _, got, _ := strings.Cut(rest, "\r\n"); got != test.want {
				t.Errorf("%.40q arrived as %.40q", test.sent, got)
			}
		}
	}
}

// TestForwardCarriageReturns: Cyrus's lmtpd drops lone carriage returns before it looks
// for a message's end, and must see none within.
func TestForwardCarriageReturns(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lines := make(chan string, 100)
	go cyrusLike(l, lines)
	f := &lmtp.Forwarder{Address: l.Addr().String(), Hostname: "front.test"}
	message := "x\r\n\r.\r\n\r\r.\r\n.\r\r\n\r\r\n\n.\r\n.\nRSET\r\n"
	if err := f.Deliver(context.Background(), "alice@mail.test", strings.NewReader(message), "a@b.test"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range lines {
		got = append(got, line)
	}
	if want := []string{"x", ".", ".", ".", "", "", ".", ".", "RSET"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestForwardToNobody: a server that takes no more of a message does not hold it for
// ever.
func TestForwardToNobody(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "220 x\r\n")
		for r := bufio.NewScanner(c); r.Scan() && r.Text() != "DATA"; {
			fmt.Fprint(c, "250 x\r\n")
		}
		fmt.Fprint(c, "354 x\r\n")
		<-ended
	}()
	f := &lmtp.Forwarder{Address: l.Addr().String(), Hostname: "front.test", Timeout: 500 * time.Millisecond}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err = f.Deliver(ctx, "alice@mail.test", io.LimitReader(endless{}, 64<<20), "a@b.test")
	if !errors.Is(err, mailstore.ErrTemporary) || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}

// endless is lines without end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, strings.Repeat("x\r\n", 1+len(b)/3)), nil }

// cyrusLike takes one message as Cyrus's lmtpd does.
func cyrusLike(l net.Listener, lines chan<- string) {
	defer close(lines)
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprint(c, "220 x\r\n")
	r, within := bufio.NewScanner(c), false
	for r.Scan() {
		line := strings.ReplaceAll(r.Text(), "\r", "")
		switch {
		case !within:
			within = line == "DATA"
			fmt.Fprintf(c, "%d x\r\n", map[bool]int{false: 250, true: 354}[within])
		case line == ".":
			fmt.Fprint(c, "250 x\r\n")
			return
		default:
			lines <- strings.TrimPrefix(line, ".")
		}
	}
}

// TestManyAtOnce: deliveries beside each other do not mix.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore()
	network, address := serve(t, &lmtp.Server{Store: s})
	var group sync.WaitGroup
	for i := range 10 {
		c := dial(t, network, address)
		group.Go(func() {
			for j := range 10 {
				fmt.Fprintf(c, "LHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@mail.test>\r\nDATA\r\n")
				fmt.Fprintf(c, "Subject: %d.%d\r\n\r\n%s\r\n.\r\nRSET\r\n", i, j, strings.Repeat("z", 1000*i))
			}
			fmt.Fprintf(c, "QUIT\r\n")
			if all, err := io.ReadAll(c.r); err != nil || bytes.Count(all, []byte("<alice@mail.test> OK")) != 10 {
				t.Errorf("%v: %s", err, all)
			}
		})
	}
	group.Wait()
	if n := len(s.Messages("alice")); n != 100 {
		t.Errorf("%d messages", n)
	}
}
