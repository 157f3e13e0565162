//go:build integration

package integration_test

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // G505: a GUID is a SHA-1
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapproxy"
)

// A removal is what imapproxy is asked for in these tests: of messages 1 to n
// with UIDs of the same numbers, those that want says.
func removal(t *testing.T, r *integration.Realm, user string, text func(uid int) string, want ...int) cyrus.Removal {
	t.Helper()
	conf, store := lookAt(t, r)
	name, err := conf.Names.ParseUserid(user)
	if err != nil {
		t.Fatal(err)
	}
	d, err := store.Dump(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	out := cyrus.Removal{Mailbox: name, UIDValidity: uint32(d.Index.UIDValidity)}
	for i, uid := range want {
		b := []byte(text(uid))
		sum := sha1.Sum(b) //nolint:gosec // G401: a GUID is a SHA-1
		out.Deleted = append(out.Deleted, cyrus.Removed{
			UID: uint32(uid), Size: uint32(len(b)), Tag: binary.BigEndian.Uint64(sum[:]), Joined: i > 0 && want[i-1] == uid-1,
		})
	}
	return out
}

// realmTLS trusts the realm's CA.
func realmTLS(t *testing.T, r *integration.Realm) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(r.Path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: integration.Host, MinVersion: tls.VersionTLS12}
}

func proxyTo(address string) *imapproxy.Proxy {
	return &imapproxy.Proxy{Address: address, Security: imapproxy.Clear, User: "cyrus", Password: "x"}
}

// numbered gives user n messages.
func numbered(t *testing.T, r *integration.Realm, user string, n int) (text func(uid int) string) {
	t.Helper()
	text = func(uid int) string { return fmt.Sprintf("Subject: n%d\r\n\r\nx\r\n", uid) }
	mail := t.TempDir()
	for i := range n {
		write(t, filepath.Join(mail, fmt.Sprintf("%06d.eml", i+1)), text(i+1))
	}
	if err := r.Fill(t.Context(), user, mail); err != nil {
		t.Fatal(err)
	}
	return text
}

func remove(t *testing.T, p *imapproxy.Proxy, r cyrus.Removal) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return p.Remove(ctx, r)
}

// TestRemoveThroughCyrus: all or nothing, whatever the server or the connection
// does.
func TestRemoveThroughCyrus(t *testing.T) {
	t.Parallel()
	r := besideCyrus(t, "failedloginpause: 0\n")
	t.Run("many ranges", func(t *testing.T) {
		n := 1000
		if *everyFault {
			n = 10400 // 5200 ranges
		}
		text := numbered(t, r, "alice", n)
		var odd, even []int
		for uid := 1; uid <= n; uid += 2 {
			odd, even = append(odd, uid), append(even, uid+1)
		}
		if err := remove(t, proxyTo(r.Cyrus.IMAP), removal(t, r, "alice", text, odd...)); err != nil {
			t.Fatal(err)
		}
		want := make([]string, 0, len(even))
		for _, uid := range even {
			want = append(want, fmt.Sprintf("n%d", uid))
		}
		if got := imapSubjects(t, r, "alice"); !slices.Equal(got, want) {
			t.Errorf("%d messages are left, want %d", len(got), len(want))
		}
	})
	text := numbered(t, r, "bob", 6)
	all := []string{"n1", "n2", "n3", "n4", "n5", "n6"}
	t.Run("another message", func(t *testing.T) {
		wrong := removal(t, r, "bob", text, 1, 2)
		wrong.Deleted[1].Tag ^= 1
		unchanged(t, r, all, remove(t, proxyTo(r.Cyrus.IMAP), wrong))
		wrong = removal(t, r, "bob", text, 1, 2)
		wrong.UIDValidity++
		unchanged(t, r, all, remove(t, proxyTo(r.Cyrus.IMAP), wrong))
	})
	t.Run("not permitted", func(t *testing.T) {
		setACL(t, r, "bob", "lrswitc") // all that is needed but e, to expunge
		unchanged(t, r, all, remove(t, proxyTo(r.Cyrus.IMAP), removal(t, r, "bob", text, 1, 2)))
		setACL(t, r, "bob", "lrswipkxtecda")
	})
	t.Run("not a proxy", func(t *testing.T) {
		p := proxyTo(r.Cyrus.IMAP)
		p.User = "carol"
		unchanged(t, r, all, remove(t, p, removal(t, r, "bob", text, 1)))
	})
	t.Run("STARTTLS", func(t *testing.T) {
		p := proxyTo(r.Cyrus.IMAP)
		p.Security, p.TLS = imapproxy.StartTLS, &tls.Config{ServerName: integration.Host, MinVersion: tls.VersionTLS12}
		unchanged(t, r, all, remove(t, p, removal(t, r, "bob", text, 1))) // of an unknown CA
		p.TLS = realmTLS(t, r)
		carol := numbered(t, r, "carol", 2)
		if err := remove(t, p, removal(t, r, "carol", carol, 1)); err != nil {
			t.Error(err)
		}
		if got := imapSubjects(t, r, "carol"); !slices.Equal(got, []string{"n2"}) {
			t.Errorf("left are %q", got)
		}
	})
	t.Run("cut before", func(t *testing.T) {
		p := proxyTo(cutter(t, r.Cyrus.IMAP, "UID STORE", false, 2))
		unchanged(t, r, all, remove(t, p, removal(t, r, "bob", text, 1, 2)))
	})
	t.Run("cut between", func(t *testing.T) {
		p := proxyTo(cutter(t, r.Cyrus.IMAP, "UID EXPUNGE", false, 2))
		unchanged(t, r, all, remove(t, p, removal(t, r, "bob", text, 1, 2)))
	})
	t.Run("cut after", func(t *testing.T) {
		// The server has done it, and nobody has heard so.
		p := proxyTo(cutter(t, r.Cyrus.IMAP, "UID EXPUNGE", true, 1))
		if err := remove(t, p, removal(t, r, "bob", text, 1, 3, 4)); err != nil {
			t.Fatal(err)
		}
		if got := imapSubjects(t, r, "bob"); !slices.Equal(got, []string{"n2", "n5", "n6"}) {
			t.Errorf("left are %q", got)
		}
	})
}

// unchanged: the removal was refused, and bob's messages are all there and bear
// no mark.
func unchanged(t *testing.T, r *integration.Realm, want []string, err error) {
	t.Helper()
	if !errors.Is(err, mailstore.ErrTemporary) {
		t.Errorf("the error is %v", err)
	}
	if got := imapSubjects(t, r, "bob"); !slices.Equal(got, want) {
		t.Errorf("left are %q", got)
	}
	c, err := imapLogin(r, "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	lines, err := c.imap("SEARCH DELETED")
	if err != nil || len(lines) != 1 || strings.TrimSpace(strings.TrimPrefix(lines[0], "* SEARCH")) != "" {
		t.Errorf("marked are %q, %v", lines, err)
	}
}

func setACL(t *testing.T, r *integration.Realm, user, rights string) {
	t.Helper()
	c, err := newTalk(r.Cyrus.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	_, err = c.read("* OK")
	for _, command := range []string{"LOGIN cyrus x", "SETACL user." + user + " " + user + " " + rights} {
		if err == nil {
			_, err = c.imap(command)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// cutter forwards connections to a server, and cuts one off at a command, before
// or after the server has answered it; so many connections, and then no more.
func cutter(t *testing.T, server, command string, after bool, times int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		group.Wait()
	})
	group.Go(func() {
		for i := 0; ; i++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			x := &cut{client: client, command: []byte(command), after: after, off: i >= times}
			group.Go(func() { x.forward(server) })
		}
	})
	return l.Addr().String()
}

// A cut is one connection of a cutter's.
type cut struct {
	client  net.Conn
	command []byte
	after   bool
	off     bool // this one is left alone
}

func (x *cut) forward(address string) {
	defer x.client.Close() //nolint:errcheck // that is the point
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // nothing is left to say
	var deaf sync.Mutex  // held while answers are kept from the client
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, err := server.Read(b)
			if err != nil {
				return
			}
			if !deaf.TryLock() {
				return // an answer has come, and is kept
			}
			_, err = x.client.Write(b[:n])
			deaf.Unlock()
			if err != nil {
				return
			}
		}
	}()
	b := make([]byte, 1<<16)
	for {
		n, err := x.client.Read(b)
		if err != nil {
			break
		}
		if !x.off && bytes.Contains(b[:n], x.command) {
			if x.after {
				deaf.Lock()
				_, _ = server.Write(b[:n])
				<-done
			}
			return
		}
		if _, err := io.Copy(server, bytes.NewReader(b[:n])); err != nil {
			break
		}
	}
	_ = server.Close()
	<-done
}
