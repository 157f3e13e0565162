//go:build integration

package chaos_test

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// A row is one fault. Its play breaks something, looks at what a client sees and
// at the log, and mends it; afterwards alice's maildrop must hold left, octet for
// octet, and Cyrus must find nothing to mend.
type row struct {
	name string
	play func(t *testing.T)
	left []int
}

func TestFaults(t *testing.T) {
	impatient(t)
	if len(disks()) == 0 {
		t.Log("full disks are not among the faults: nothing can be mounted here")
	}
	if len(paths()) == 0 {
		t.Log("packets that are lost are not among the faults: there is no network of its own")
	}
	rows := slicesOf(outages(), keys(), reloads(), loads(), files(), broken(), signals(), connections(), wires(), paths(), disks(), scarcity())
	for range rounds() {
		for _, r := range rows {
			held := t.Run(r.name, func(t *testing.T) {
				fill(t, "alice")
				r.play(t)
				whole(t, "alice", r.left...)
			})
			tries.add(r.name, held)
		}
	}
}

func slicesOf(tables ...[]row) []row {
	var out []row
	for _, t := range tables {
		out = append(out, t...)
	}
	return out
}

// plain is what a login by password is answered, under TLS.
func plain(t *testing.T, user string) string {
	t.Helper()
	password, err := realm.Password(user)
	if err != nil {
		t.Fatal(err)
	}
	p := player.Dial(t, realm.Ports.POP3S)
	p.Secure(realm)
	p.Expect("+OK")
	p.Send("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)) + "\r\nQUIT\r\n")
	return p.Expect("")
}

// outages are other servers that are gone or do not answer. A ticket needs no
// KDC; whom the directory was never asked about must wait for it.
func outages() []row {
	resume := func(name string) func(*testing.T) error {
		return func(*testing.T) error { return realm.Signal(name, syscall.SIGCONT) }
	}
	startKDC := func(*testing.T) error { return realm.StartKDC() }
	startSlapd := func(t *testing.T) error { return realm.StartSlapd(t.Context()) }
	return []row{
		{"KDC killed", outage("krb5kdc", syscall.SIGKILL, startKDC, withoutKDC), all},
		{"KDC does not answer", outage("krb5kdc", syscall.SIGSTOP, resume("krb5kdc"), withoutKDC), all},
		{"LDAP killed", outage("slapd", syscall.SIGKILL, startSlapd, withoutLDAP), all},
		{"LDAP does not answer", outage("slapd", syscall.SIGSTOP, resume("slapd"), withoutLDAP), all},
	}
}

// outage stops a server and mends it; during is given a stranger with an AP-REQ
// from before.
func outage(name string, how syscall.Signal, mend func(*testing.T) error, during func(t *testing.T, user string, octets []byte)) func(*testing.T) {
	return func(t *testing.T) {
		user := stranger(t)
		octets := player.APReq(t, realm, user, "pop")
		if err := realm.Signal(name, how); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := mend(t); err != nil {
				t.Error(err)
			}
			recovers(t)
		}()
		during(t, user, octets)
	}
}

// stranger makes a user of whom the daemon has never heard.
func stranger(t *testing.T) string {
	t.Helper()
	user := "u" + strings.ToLower(rand.Text()[:10])
	if err := realm.AddUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	return user
}

// recovers waits until strangers are served again, without anybody's help.
func recovers(t *testing.T) {
	t.Helper()
	user := stranger(t)
	player.Until(t, "the service to recover", func() bool {
		p, code := player.Sendauth(t, realm, player.APReq(t, realm, user, "pop"))
		p.Send("USER " + user + "\r\nPASS x\r\nQUIT\r\n")
		return code == 0 && !strings.Contains(p.Rest(), "-ERR")
	})
}

func withoutKDC(t *testing.T, user string, octets []byte) {
	if got := plain(t, "bob"); !strings.HasPrefix(got, "-ERR [SYS/TEMP]") {
		t.Errorf("a password without a KDC: %q", got)
	}
	ticketed(t, user, octets, "+OK")
}

func withoutLDAP(t *testing.T, user string, octets []byte) {
	ticketed(t, user, octets, "-ERR [SYS/TEMP]")
}

// ticketed logs in by an AP-REQ and checks how PASS is answered.
func ticketed(t *testing.T, user string, octets []byte, answer string) {
	t.Helper()
	p, code := player.Sendauth(t, realm, octets)
	if code != 0 {
		t.Fatalf("KRB-ERROR %d", code)
	}
	p.Play("S: +OK\nC: USER " + user + "\nS: +OK\nC: PASS x\nS: " + answer + "\nC: QUIT\n")
	p.Rest()
}

// keys are what can happen to the keytab under a running daemon.
func keys() []row {
	keytab := func() string { return realm.Path("server.keytab") }
	replace := func(t *testing.T, b []byte) {
		t.Helper()
		if err := os.WriteFile(keytab()+".new", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(keytab()+".new", keytab()); err != nil {
			t.Fatal(err)
		}
	}
	broken := func(breakIt func(t *testing.T, whole []byte)) func(*testing.T) {
		return func(t *testing.T) {
			b, err := os.ReadFile(keytab())
			if err != nil {
				t.Fatal(err)
			}
			defer replace(t, b)
			breakIt(t, b)
			player.Login(t, realm, "alice").Play("C: QUIT\nS: +OK\n")
		}
	}
	return []row{
		{"keytab removed", broken(func(t *testing.T, _ []byte) {
			if err := os.Remove(keytab()); err != nil {
				t.Fatal(err)
			}
		}), all},
		{"keytab half written", broken(func(t *testing.T, b []byte) { replace(t, b[:len(b)/2]) }), all},
		{"keytab empty", broken(func(t *testing.T, _ []byte) { replace(t, nil) }), all},
		{"key rotated, old ticket and new", rotate, all},
	}
}

// rotate gives the service a new key; a ticket from before and one from after
// are both good.
func rotate(t *testing.T) {
	ticket, session, name := player.Ticket(t, realm, "alice", "pop")
	if _, err := realm.Kadmin(t.Context(), "ktadd -k "+realm.Path("server.keytab")+" pop/"+integration.Host+"\n"); err != nil {
		t.Fatal(err)
	}
	player.Until(t, "the new key", func() bool {
		_, code := player.Sendauth(t, realm, player.APReq(t, realm, "alice", "pop"))
		return code == 0
	})
	if _, code := player.Sendauth(t, realm, player.Request(t, ticket, session, integration.RealmName, name)); code != 0 {
		t.Errorf("a ticket from before the rotation: KRB-ERROR %d", code)
	}
}

// reloads change what a running daemon has read, under an open session that must
// go on. What cannot be read is refused, and the old stays in use.
func reloads() []row {
	beside := func(change func(t *testing.T)) func(*testing.T) {
		return func(t *testing.T) {
			p := player.Login(t, realm, "alice")
			p.Play("C: DELE 1\nS: +OK\n")
			change(t)
			p.Play("C: RETR 2\nS: +OK\nS: ...\nC: RSET\nS: +OK\nC: QUIT\nS: +OK\n")
		}
	}
	// broken spoils a file for a reload that must be refused.
	broken := func(file string) func(*testing.T) {
		return func(t *testing.T) {
			good, err := os.ReadFile(realm.Path(file))
			if err != nil {
				t.Fatal(err)
			}
			before := serial(t)
			if err := os.WriteFile(realm.Path(file), []byte("[limits\n-----BEGIN"), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := reload(t); err == nil {
				t.Errorf("a reload of a spoilt %s: %s", file, out)
			}
			if err := os.WriteFile(realm.Path(file), good, 0o600); err != nil {
				t.Fatal(err)
			}
			if serial(t) != before {
				t.Error("another certificate is served after a refused reload")
			}
		}
	}
	return []row{
		{"certificate replaced", beside(func(t *testing.T) {
			before := serial(t)
			if err := realm.RenewCertificate(); err != nil {
				t.Fatal(err)
			}
			if out, err := reload(t); err != nil {
				t.Fatal(err, out)
			}
			if serial(t) == before {
				t.Error("the old certificate is still served")
			}
		}), all},
		{"certificate spoilt", beside(broken("server.pem")), all},
		{"certificate's key spoilt", beside(broken("server.key")), all},
		{"configuration spoilt", beside(broken("kpopd.toml")), all},
	}
}

func reload(t *testing.T) (string, error) {
	return realm.Tool(filepath.Join(t.TempDir(), "cc")).Run(t.Context(), realm.Kpop(), "reload", "--config", realm.Path("kpopd.toml"))
}

// serial is the number of the certificate that POP3S shows.
func serial(t *testing.T) string {
	t.Helper()
	p := player.Dial(t, realm.Ports.POP3S)
	p.Secure(realm)
	p.Expect("+OK")
	return p.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// files are message files that are not what the index says, and an index that
// is damaged.
func files() []row {
	broken := func(breakIt func(t *testing.T, path string)) func(*testing.T) {
		return func(t *testing.T) {
			path := file(t, "alice", 3)
			aside := path + "aside"
			if err := os.Rename(path, aside); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := os.Rename(aside, path); err != nil {
					t.Error(err)
				}
			}()
			breakIt(t, path)
			defer os.Remove(path)
			p := player.Login(t, realm, "alice")
			p.Play("C: RETR 3\nS: -ERR\nC: TOP 3 0\nS: -ERR\nC: RETR 2\nS: +OK\nS: ...\nC: STAT\nS: +OK 6\nC: QUIT\nS: +OK\n")
		}
	}
	write := func(b string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	good := text("alice", 3)
	return []row{
		{"message file missing", broken(func(*testing.T, string) {}), all},
		{"message file short", broken(write(good[:20])), all},
		{"message file empty", broken(write("")), all},
		{"message file longer", broken(write(good + "more\r\n")), all},
		{"message file a symlink", broken(func(t *testing.T, path string) {
			if err := os.Symlink("/etc/passwd", path); err != nil {
				t.Fatal(err)
			}
		}), all},
		{"message file a FIFO", broken(func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}), all},
		{"message file a directory", broken(func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}), all},
		{"index damaged", damagedIndex, all},
	}
}

// damagedIndex flips an octet of the second record: the maildrop is refused and
// stays as it is.
func damagedIndex(t *testing.T) {
	path := filepath.Join(filepath.Dir(file(t, "alice", 1)), "cyrus.index")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte{}, good...)
	bad[len(bad)-50] ^= 1
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	p, code := player.Sendauth(t, realm, player.APReq(t, realm, "alice", "pop"))
	if code != 0 {
		t.Fatalf("KRB-ERROR %d", code)
	}
	p.Play("S: +OK\nC: USER alice\nS: +OK\nC: PASS x\nS: -ERR [SYS/PERM]\nC: QUIT\n")
	p.Rest()
	player.Logged(t, realm, "cyrus.index")
	if now, err := os.ReadFile(path); err != nil || string(now) != string(bad) {
		t.Errorf("a refused index was changed, %v", err)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
}

// scarcity is a daemon with too little of something.
func scarcity() []row {
	return []row{
		{"no descriptors left", fewDescriptors, all},
	}
}

// fewDescriptors takes away the daemon's descriptors while a crowd comes; when
// it has gone the daemon serves as before.
func fewDescriptors(t *testing.T) {
	pid, _ := realm.Pid()
	tool := realm.Tool(filepath.Join(t.TempDir(), "cc"))
	limit := func(n string) {
		t.Helper()
		if out, err := tool.Run(t.Context(), "prlimit", "--pid", fmt.Sprint(pid), "--nofile="+n); err != nil {
			t.Fatal(err, out)
		}
	}
	out, err := tool.Run(t.Context(), "prlimit", "--pid", fmt.Sprint(pid), "--nofile", "--noheadings", "--raw", "--output=SOFT,HARD")
	if err != nil {
		t.Fatal(err)
	}
	before := strings.ReplaceAll(strings.TrimSpace(out), " ", ":")
	limit("32:")
	defer limit(before)
	crowd := make([]net.Conn, 100)
	for i := range crowd {
		crowd[i] = player.Dial(t, realm.Ports.POP3).Conn
	}
	player.Logged(t, realm, "accept failed")
	for _, c := range crowd {
		_ = c.Close()
	}
	limit(before)
	player.Login(t, realm, "bob").Play("C: QUIT\nS: +OK\n")
}
