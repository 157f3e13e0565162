package kpop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/kpop/lang"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/memdrop"
)

// converse sends input to r, closes the sending side and returns all replies.
func (r *rig) converse(t *testing.T, input []byte) []byte {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := nc.Write(input); err != nil {
		return nil
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(nc)
	if err != nil && isTimeout(err) {
		t.Fatalf("no end of the replies: %v", err)
	}
	return all
}

// FuzzSession feeds octets to a session before and after login. Each line has
// one reply at most and none is out of form; no text line starts with a lone
// dot; nothing panics; every maildrop is given back.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"CAPA\r\nQUIT\r\n", "USER alice\r\nPASS x\r\n", "AUTH PLAIN =\r\n", "AUTH X-STEPS\r\n\r\n*\r\n", "STLS\r\n",
		"STAT\nLIST\nUIDL\nRETR 1\nTOP 2 1\nDELE 1\nRSET\nQUIT\n", "RETR 3\r\nDELE 3\r\nLIST 3\r\nNOOP\r\nQUIT",
		"LANG es\r\nUTF8\r\nLANG ja\r\nLANG\r\nCAPA\r\nLIST\r\nLANG *\r\n", "USER j\xc3\xbcrgen\r\nUSER \xc3\r\n",
		"GET / HTTP/1.1\r\n", "\x16\x03\x01", "\x00\x00\x00\x13KRB5", strings.Repeat("x", 600) + "\r\nNOOP\r\n",
	} {
		f.Add([]byte(seed))
	}
	store := newStore()
	panicked := make(chan any, 1)
	r := newRig(f, store, func(s *kpop.Server, _ *kpop.Port) {
		s.Limits.AuthFailures = 1000
		s.Limits.MaxConnections, s.Limits.MaxPerPrefix, s.Limits.MaxPerUser = -1, -1, -1
		s.Observer.Panic = func(v any, _ []byte) {
			select {
			case panicked <- v:
			default:
			}
		}
	})
	r.level.Set(slog.LevelWarn)
	f.Fuzz(func(t *testing.T, input []byte) {
		store.fill("alice", ".one\r\n", "two\n.\nend", "", "Subject: \xc3\xbc\n\n.\xff")
		for _, login := range []string{"", "USER alice\r\nPASS " + secret + "\r\n"} {
			all := r.converse(t, append([]byte(login), input...))
			checkReplies(t, all, bytes.Count(input, []byte("\n"))+3+strings.Count(login, "\n"))
		}
		select {
		case v := <-panicked:
			t.Fatalf("panic: %v", v)
		default:
		}
		eventually(t, "maildrop free", func() bool { return store.opened.Load() == 0 })
	})
}

// checkReplies reads replies as a client would: status lines, and data up to
// the end mark behind those that announce it.
func checkReplies(t *testing.T, all []byte, most int) {
	t.Helper()
	in := textproto.NewReader(bufio.NewReader(bytes.NewReader(all)))
	for n := 0; ; n++ {
		line, err := in.ReadLine()
		if err == io.EOF {
			return
		}
		switch {
		case err != nil:
			t.Fatalf("cut off at %q", line)
		case n > most:
			t.Fatalf("more replies than commands in %q", all)
		case strings.HasPrefix(line, "-ERR "), strings.HasPrefix(line, "+ "):
		case line == "+OK", announces(line):
			if _, err := in.ReadDotBytes(); err != nil {
				t.Fatalf("no end mark in %q", all)
			}
		case strings.HasPrefix(line, "+OK "):
		default:
			t.Fatalf("%q is no reply, in %q", line, all)
		}
	}
}

// announces says whether text follows a status line, in whatever language.
func announces(line string) bool {
	all, err := lang.All()
	if err != nil {
		panic(err)
	}
	for _, l := range all {
		for _, id := range l.IDs() {
			follows := id == "octets" || id == "messages" || strings.HasSuffix(id, " follow") || strings.HasSuffix(id, " follows")
			if follows && strings.HasSuffix(line, " "+l.Text(id)) {
				return true
			}
		}
	}
	return false
}

// FuzzDot holds RETR against textproto's reader: what it gives is the message
// with every line end made LF, and the octets announced are those sent.
func FuzzDot(f *testing.F) {
	for _, seed := range []string{"", ".", "\n", "\r", ".\r\n", "a\n.\nb", "a\r\n.\r\n", "\r\r\n", "\x00", "..\n..", "x\r", "\n\n.", "\r\n.\r", "\xa5"} {
		f.Add([]byte(seed))
	}
	stores := [2]*memStore{newStore(), newStore()}
	stores[1].appends = false
	var rigs [2]*rig
	for i := range rigs {
		rigs[i] = newRig(f, stores[i], nil)
		rigs[i].level.Set(slog.LevelWarn)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		want := strings.ReplaceAll(string(normal(text)), "\r\n", "\n")
		for i, r := range rigs {
			stores[i].fill("alice", string(text))
			all := r.converse(t, []byte("UTF8\nUSER alice\nPASS "+secret+"\nRETR 1\nQUIT\n"))
			in := textproto.NewReader(bufio.NewReader(bytes.NewReader(all)))
			for range 5 { // greeting, UTF8 (no surrogates of 8-bit headers), USER, PASS, RETR
				if _, err := in.ReadLine(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := in.ReadDotBytes()
			if err != nil || string(got) != want {
				t.Fatalf("%v: got %q, want %q", err, got, want)
			}
			if line, _ := in.ReadLine(); line != "+OK Goodbye" {
				t.Fatalf("behind the end mark: %q", line)
			}
			eventually(t, "maildrop free", func() bool { return stores[i].opened.Load() == 0 })
			if strings.Contains(r.log.String(), "differs") {
				t.Fatal("octets differ from the size")
			}
		}
	})
}

// tap is a mechanism that hands over the client's response and refuses it.
type tap chan []byte

func (c tap) Next(_ context.Context, response []byte) ([]byte, *auth.Identity, error) {
	if response == nil {
		return []byte{}, nil, nil
	}
	c <- response
	return nil, nil, auth.ErrDenied
}

// FuzzSASLLine sends a line as initial response and as answer to a challenge.
// What reaches the mechanism is what the line says and has no other spelling
// (RFC 4648 section 3.5); the session goes on behind it.
func FuzzSASLLine(f *testing.F) {
	for _, seed := range []string{"", "=", "*", "AAAA", "AAA=", "AA==", "AB==", "A", "AA=A", "====", "YWxpY2U", "A AAA", "AAAA\x00", "+/+/", "-_-_"} {
		f.Add(seed)
	}
	heard := make(tap, 2)
	r := newRig(f, newStore(), func(s *kpop.Server, p *kpop.Port) {
		s.Limits.AuthFailures = 1000
		s.Limits.MaxConnections, s.Limits.MaxPerPrefix, s.Limits.MaxPerUser = -1, -1, -1
		p.Mechanisms = append(p.Mechanisms, auth.Mechanism{Name: "X-TAP", Begin: func(auth.Peer) auth.Exchange { return heard }})
	})
	r.level.Set(slog.LevelWarn)
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\r\n") {
			return
		}
		for _, dialogue := range []string{"AUTH X-TAP " + line + "\r\n*\r\nQUIT\r\n", "AUTH X-TAP\r\n" + line + "\r\n*\r\nQUIT\r\n"} {
			all := r.converse(t, []byte(dialogue))
			checkReplies(t, all, 5)
			select {
			case got := <-heard:
				said := base64.StdEncoding.EncodeToString(got)
				line := strings.Trim(line, " \t") // blanks around an argument are no part of it
				if said != line && (line != "=" || len(got) != 0) {
					t.Fatalf("%q reached the mechanism as %q", line, got)
				}
			default:
			}
		}
	})
}

// FuzzPOP4 feeds octets to a POP4 session: replies are in form, nothing panics,
// every folder's name stays within bounds, and all folders are given back.
func FuzzPOP4(f *testing.F) {
	for _, seed := range []string{
		"LFLD\r\nCFLD a\r\nSFLD a\r\nSTOR a\r\n..x\r\n.\r\nSFLD a\r\nRETR 1\r\nMOVE 1 INBOX\r\nQUIT\r\n", "CFLD \"a b\r\nCFLD &-\r\nRENF a b\r\n",
		"XFLG 1 +\\Seen -x\r\nXPRT 1\r\nXPRT 1 1.1\r\nCOPY 1-2,1 x\r\n", "STOR INBOX\r\nno end", "STOR INBOX\r\n.\rx\n.\n", "CFLD a\r\nCFLD a/b\r\nMOVF a a/b\r\n",
	} {
		f.Add([]byte(seed))
	}
	store := &memdrop.Store{}
	panicked := make(chan any, 1)
	r := newRig(f, newStore(), func(s *kpop.Server, p *kpop.Port) {
		s.Store, p.POP4 = store, true
		s.Limits.MaxConnections, s.Limits.MaxPerPrefix, s.Limits.MaxPerUser = -1, -1, -1
		s.Observer.Panic = func(v any, _ []byte) {
			select {
			case panicked <- v:
			default:
			}
		}
	})
	r.level.Set(slog.LevelError)
	run := 0
	f.Fuzz(func(t *testing.T, input []byte) {
		run++
		user := fmt.Sprint("user", run)
		store.Put(user, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n.x\r\n--b--\r\n", "Subject: \u00fc\r\n\r\nx")
		all := r.converse(t, append([]byte("USER "+user+"\r\nPASS "+secret+"\r\n"), input...))
		checkReplies(t, all, bytes.Count(input, []byte("\n"))+6)
		select {
		case v := <-panicked:
			t.Fatalf("panic: %v", v)
		default:
		}
		eventually(t, "session over", func() bool { return len(r.server.Sessions()) == 0 })
		d, err := store.Open(t.Context(), user, mailstore.Holder{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		folders, err := d.(mailstore.Folders).Folders(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			if strings.HasPrefix(folder.Name, "/") || strings.Contains(folder.Name, "..") && strings.Contains("/"+folder.Name+"/", "/../") {
				t.Fatalf("folder %q", folder.Name)
			}
		}
	})
}
