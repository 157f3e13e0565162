//go:build integration

package chaos_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// broken are files that cannot be read: the disk fails, or they belong to somebody
// else. strace puts the error into the daemon's system calls.
func broken() []row {
	const reads = "read,pread64,preadv,preadv2,sendfile,copy_file_range,splice"
	return []row{
		{"EIO where a message is read", func(t *testing.T) {
			defer traced(t, reads, "error=EIO", file(t, "alice", 3))()
			p := player.Login(t, realm, "alice")
			p.Play("C: RETR 3\nS: -ERR [SYS/\nC: TOP 3 0\nS: -ERR [SYS/\nC: RETR 2\nS: +OK\nS: ...\nC: STAT\nS: +OK 6\nC: DELE 1\nS: +OK\nC: RSET\nS: +OK\nC: QUIT\nS: +OK\n")
			player.Logged(t, realm, "message cannot be read", "input/output error")
		}, all},
		{"EIO where a large message is read", func(t *testing.T) {
			defer traced(t, reads, "error=EIO", file(t, "alice", 4))()
			p := player.Login(t, realm, "alice")
			p.Play("C: DELE 1\nS: +OK\n")
			p.Send("RETR 4\r\n")
			if got := p.Rest(); strings.Contains(got, "\r\n.\r\n") {
				t.Errorf("a message that could not be read was ended: %.100q", got)
			}
			player.Logged(t, realm, "message c", "input/output error")
		}, all},
		{"EIO where the index is read", func(t *testing.T) {
			defer traced(t, reads, "error=EIO", filepath.Join(filepath.Dir(file(t, "alice", 1)), "cyrus.index"))()
			refused(t, "alice", "-ERR [SYS/")
			player.Logged(t, realm, "cyrus.index", "input/output error")
			player.Login(t, realm, "bob").Play("C: QUIT\nS: +OK\n")
		}, all},
		{"preadv2 that reads nothing, as that of Linux 5.10", func(t *testing.T) {
			path := file(t, "alice", 3)
			defer traced(t, "preadv2", "retval=0", path, filepath.Join(filepath.Dir(path), "cyrus.index"))()
			player.Login(t, realm, "alice").Play("C: STAT\nS: +OK 6\nC: RETR 3\nS: +OK\nS: ...\nC: QUIT\nS: +OK\n")
		}, all},
		{"message file of another owner", func(t *testing.T) {
			path := file(t, "alice", 3)
			defer traced(t, "openat,openat2", "error=EACCES", path, filepath.Base(path))()
			p := player.Login(t, realm, "alice")
			p.Play("C: RETR 3\nS: -ERR [SYS/\nC: TOP 3 0\nS: -ERR [SYS/\nC: RETR 2\nS: +OK\nS: ...\nC: STAT\nS: +OK 6\nC: QUIT\nS: +OK\n")
			player.Logged(t, realm, "message cannot be read", "permission denied")
		}, all},
	}
}

// traced starts the daemon anew with a fault, of strace's "inject", in those of its system calls that
// have to do with the paths, until mend is called.
func traced(t *testing.T, calls, fault string, paths ...string) (mend func()) {
	t.Helper()
	plain := realm.Kpopd
	script := "#!/bin/sh\nexec strace -D -f -qq -e signal=none -o " + realm.Path("strace.out") +
		" -e trace=" + calls + " -e inject=" + calls + ":" + fault
	for _, path := range paths {
		script += " -P '" + path + "'"
	}
	program := realm.Path("traced")
	if err := os.WriteFile(program, []byte(script+" "+plain+" \"$@\"\n"), 0o700); err != nil { //nolint:gosec // G306: a script must be executable
		t.Fatal(err)
	}
	restart := func(program string) {
		t.Helper()
		realm.Kpopd = program
		if err := realm.Restart(); err != nil {
			t.Error(err)
		}
	}
	restart(program)
	return func() { restart(plain) }
}

// refused is how the login of user's own maildrop is answered.
func refused(t *testing.T, user, answer string) {
	t.Helper()
	p, code := player.Sendauth(t, realm, player.APReq(t, realm, user, "pop"))
	if code != 0 {
		t.Fatalf("KRB-ERROR %d", code)
	}
	p.Play("S: +OK\nC: USER " + user + "\nS: +OK\nC: PASS x\nS: " + answer + "\nC: QUIT\n")
	p.Rest()
}

// loads are changes beside which clients come all the time: each is served.
func loads() []row {
	return []row{
		{"key rotated under load", func(t *testing.T) {
			ticket, session, name := player.Ticket(t, realm, "alice", "pop")
			crowd(t, func() {
				p, code := player.Sendauth(t, realm, player.Request(t, ticket, session, integration.RealmName, name))
				if code != 0 {
					t.Errorf("a ticket from before the rotation: KRB-ERROR %d", code)
				}
				_ = p.Close()
			}, func() { rotate(t) })
		}, all},
		{"certificate replaced under load", func(t *testing.T) {
			before := serial(t)
			crowd(t, func() {
				p := player.Dial(t, realm.Ports.POP3S)
				p.Secure(realm)
				p.Play("S: +OK\nC: QUIT\nS: +OK\n")
				_ = p.Close()
			}, func() {
				if err := realm.RenewCertificate(); err != nil {
					t.Error(err)
				}
				if out, err := reload(t); err != nil {
					t.Error(err, out)
				}
				if serial(t) == before {
					t.Error("the old certificate is still served")
				}
			})
		}, all},
	}
}

// crowd has four clients come again and again while something changes.
func crowd(t *testing.T, visit, change func()) {
	t.Helper()
	over := make(chan struct{})
	var clients sync.WaitGroup
	defer clients.Wait()
	defer close(over)
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					visit()
				}
			}
		})
	}
	change()
}
