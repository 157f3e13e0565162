//go:build integration

package integration_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
)

// realm is one for all tests; each works on the maildrop of a user of its own,
// or holds no session while another might.
var realm *integration.Realm

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kpopd-realm")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	kpopd, err := filepath.Abs("../bin/kpopd")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	realm, err = integration.Up(context.Background(), dir, integration.Options{Kpopd: kpopd, ExtraTOML: "failure_delay = \"1ms\"\n"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "the realm does not come up; run make deps build:", err)
		return 1
	}
	defer func() {
		if err := realm.Down(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return m.Run()
}

// fill gives user the sample mail and returns it.
func fill(t *testing.T, user string) [][]byte {
	t.Helper()
	dir := t.TempDir()
	var out [][]byte
	for name, text := range integration.SampleMail() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out = append(out, []byte(text))
	}
	if err := realm.Fill(t.Context(), user, dir); err != nil {
		t.Fatal(err)
	}
	return out
}

// cacheOf gets user a ticket cache.
func cacheOf(t *testing.T, user string, args ...string) string {
	t.Helper()
	cache := filepath.Join(t.TempDir(), "cc")
	if err := realm.Kinit(t.Context(), user, cache, args...); err != nil {
		t.Fatal(err)
	}
	return cache
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A peer is a raw connection to one of the realm's ports.
type peer struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func dial(t *testing.T, port int) *peer {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &peer{c, t, bufio.NewReader(c)}
}

// send writes octets; the server may have closed already.
func (p *peer) send(text string) { _, _ = io.WriteString(p, text) }

// expect reads a line that must begin so.
func (p *peer) expect(prefix string) string {
	p.t.Helper()
	line, err := p.in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		p.t.Fatalf("S: %q, %v; want %q", line, err, prefix)
	}
	return line
}

// rest reads until the server closes.
func (p *peer) rest() string {
	b, _ := io.ReadAll(p.in)
	return string(b)
}

// logged waits for a line of the server's log that holds all words.
func logged(t *testing.T, words ...string) {
	t.Helper()
	var text string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		b, err := os.ReadFile(realm.Path("kpopd.log"))
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
		for line := range strings.Lines(text) {
			if holds(line, words) {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("no log line with %q; the log ends in %s", words, text[max(0, len(text)-2000):])
}

func holds(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}
