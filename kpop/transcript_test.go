package kpop_test

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
)

// TestTranscript plays testdata/*.txt. The comment of each archive is a header
// of "key: value" lines, an empty line, and the dialogue; its files are alice's
// messages, stored with CRLF unless their name ends in .lf.
//
//	C: line      the client sends it with CRLF
//	C= "text"    the client sends a Go string as it is
//	S: line      the server sends exactly that
//	S~ regexp    the server sends a line like that
//	TLS          the client makes its handshake
//	END          the server has closed the connection
//	LEFT 1 3     the unique-ids left in alice's maildrop, after the session
func TestTranscript(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			play(t, archive)
		})
	}
}

func play(t *testing.T, archive *txtar.Archive) {
	head, dialogue, _ := strings.Cut(string(archive.Comment), "\n\n")
	store := newStore().fill("carol").fill("dave").fill("bob").fill("j\u00fcrgen")
	var messages []string
	for _, f := range archive.Files {
		text := string(f.Data)
		if !strings.HasSuffix(f.Name, ".lf") {
			text = strings.ReplaceAll(text, "\n", "\r\n")
		}
		messages = append(messages, text)
	}
	store.fill("alice", messages...)
	r := newRig(t, store, func(s *kpop.Server, p *kpop.Port) {
		for line := range strings.Lines(head) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			configure(t, s, p, key, value)
		}
	})
	r.play(dialogue)
	if strings.Contains(r.log.String(), secret) {
		t.Errorf("the log holds the password:\n%s", r.log)
	}
}

func configure(t *testing.T, s *kpop.Server, p *kpop.Port, key, value string) {
	t.Helper()
	store, _ := s.Store.(*memStore)
	switch key + " " + value {
	case "port clear":
	case "port pop3":
		p.PasswordInClear, p.TLS = false, testTLS
	case "port pop3s":
		p.PasswordInClear, p.TLS, p.Implicit = false, testTLS, true
	case "port kpop":
		p.PasswordInClear, p.TLS, p.Preamble = false, testTLS, ticket
	case "apop yes":
		p.APOP = testAPOP{}
	case "tls required":
		p.RequireTLS = true
	case "trace yes":
		s.Trace = func(string, netAddr) bool { return true }
	case "reader yes":
		store.appends = false
	case "messages shrink":
		store.appends, store.shrinks = false, true
	case "message gone":
		store.appends, store.gone = false, 1
	case "sizes unknown":
		store.sizeErr = mailstore.ErrTemporary
	case "maildrop held":
		store.boxes["alice"].held = true
	case "maildrop damaged":
		store.boxes["alice"].openErr = errDamaged
	case "maildrop soon":
		store.boxes["alice"].openErr = errSoon
	case "update fails":
		store.update = func(changes) error { return errDisk }
	case "announce site":
		p.Announce = kpop.Announcement{Retention: 31 * 24 * time.Hour, LoginDelay: 1500 * time.Millisecond}
	case "announce user":
		p.Announce = kpop.Announcement{Retention: -1, LoginDelay: time.Minute, PerUser: true}
	case "pop4 yes":
		p.POP4, s.Store = true, store.withFolders()
	case "pop4 nowhere": // a store without folders
		p.POP4 = true
	case "stor small":
		s.Limits.MessageSize = 100
	case "legacy refused":
		p.RefuseLegacy = true
	case "language fr":
		p.Language = "fr"
	case "mechanisms none":
		p.Mechanisms = []auth.Mechanism{never}
	default:
		t.Fatalf("header %q: %q is unknown", key, value)
	}
}

func (r *rig) play(dialogue string) {
	r.Helper()
	c := r.dial()
	for line := range strings.Lines(dialogue) {
		line = strings.TrimRight(line, "\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch verb {
		case "", "#":
		case "C:":
			c.send(rest + "\r\n")
		case "C=":
			text, err := strconv.Unquote(rest)
			if err != nil {
				r.Fatalf("%s: %v", line, err)
			}
			c.send(text)
		case "S:":
			c.want(rest)
		case "S~":
			if got := c.line(); !regexp.MustCompile("^(?:" + rest + ")$").MatchString(got) {
				r.Fatalf("got %q, want %s", got, rest)
			}
		case "TLS":
			if err := c.startTLS(); err != nil {
				r.Fatal(err)
			}
		case "END":
			c.wantEOF()
		case "LEFT":
			r.wantLeft(c, rest)
		default:
			r.Fatalf("unknown line %q", line)
		}
	}
}

func (r *rig) wantLeft(c *client, want string) {
	r.Helper()
	_ = c.Close()
	eventually(r, "session over", func() bool { return len(r.server.Sessions()) == 0 })
	var left []string
	for _, uid := range r.store.uids("alice") {
		left = append(left, strconv.Itoa(uid))
	}
	if got := strings.Join(left, " "); got != want {
		r.Fatalf("left %q, want %q", got, want)
	}
}
