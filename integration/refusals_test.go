//go:build integration

package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// apReq makes a fresh AP-REQ of user's for a service.
func apReq(t *testing.T, user, service string) []byte {
	t.Helper()
	return player.APReq(t, realm, user, service)
}

const kpopHello = player.Hello

// sendauth presents an AP-REQ and gives the KRB-ERROR's code, 0 when there is
// none.
func sendauth(t *testing.T, request []byte) (*player.Peer, int32) {
	t.Helper()
	return player.Sendauth(t, realm, request)
}

func TestTicketsForOtherServicesAreRefused(t *testing.T) {
	for service, code := range map[string]int32{"pop": 0, "pop3": 0, "imap": 35, "host": 35} {
		if _, got := sendauth(t, apReq(t, "alice", service)); got != code {
			t.Errorf("%s: KRB-ERROR %d, want %d", service, got, code)
		}
	}
}

func TestReplayIsRefused(t *testing.T) {
	request := apReq(t, "alice", "pop")
	if _, code := sendauth(t, request); code != 0 {
		t.Fatalf("first: KRB-ERROR %d", code)
	}
	if _, code := sendauth(t, request); code != 34 {
		t.Errorf("second: KRB-ERROR %d, want 34", code)
	}
	if err := realm.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, code := sendauth(t, request); code != 34 {
		t.Errorf("after a restart: KRB-ERROR %d, want 34", code)
	}
}

// A client whose ticket has expired is stopped by its own libkrb5 and says QUIT
// where the ticket should be. Expired tickets that come all the same are in the
// acceptor's own tests, with forged ones.
func TestClientThatGivesUp(t *testing.T) {
	p := dial(t, realm.Ports.KPOP)
	p.Send(kpopHello)
	if status, err := p.In.ReadByte(); err != nil || status != 0 {
		t.Fatalf("status octet %d, %v", status, err)
	}
	p.Send("QUIT\r\n")
	p.Rest()
	logged(t, "gave up before sending")
}

// A principal opens its own maildrop and no other.
func TestWhoseMaildrop(t *testing.T) {
	for _, c := range []struct{ principal, user, answer string }{
		{"alice", "alice", "+OK"},
		{"alice", "alice@mail.example", "+OK"},
		{"alice", "alice+mail.example", "+OK"},
		{"alice", "bob", "-ERR [AUTH]"},
		{"alice", "nobody", "-ERR [AUTH]"},
		{"alice-admin", "alice", "-ERR [AUTH]"},
		{"bob", "alice", "-ERR [AUTH]"},
	} {
		p, code := sendauth(t, apReq(t, c.principal, "pop"))
		if code != 0 {
			t.Fatalf("%s: KRB-ERROR %d", c.principal, code)
		}
		p.Expect("+OK")
		p.Send("USER " + c.user + "\r\n")
		p.Expect("+OK")
		p.Send("PASS krb_ticket\r\n")
		p.Expect(c.answer)
		p.Send("QUIT\r\n")
		p.Rest()
	}
}

// Whatever comes gets an answer, and the server goes on.
func TestBadInput(t *testing.T) {
	ports := realm.Ports
	for _, c := range []struct {
		name   string
		port   int
		text   string
		answer string
	}{
		{"garbage", ports.POP3, "\x01\x02\x03\xff\r\n\x00\r\nx\r\ny\r\n", "-ERR"},
		{"TLS hello on 110", ports.POP3, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "-ERR"},
		{"HTTP", ports.POP3, "POST / HTTP/1.1\r\nHost: x\r\n\r\nUSER alice\r\nPASS x\r\n", "-ERR"},
		{"password in clear", ports.POP3, "USER alice\r\nPASS x\r\nQUIT\r\n", "-ERR"},
		{"Kerberos 4", ports.KPOP, "AUTHV0.1KPOPV0.1\x00\x00\x00\x10ticket", "-ERR [AUTH] Kerberos 4"},
		{"POP3 on 1109", ports.KPOP, "USER alice\r\n", "-ERR"},
		{"4 GiB length", ports.KPOP, "\xff\xff\xff\xff", ""},
		{"4 GiB AP-REQ", ports.KPOP, kpopHello + "\xff\xff\xff\xff", "\x00"},
		{"wrong application", ports.KPOP, "\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x05abcd\x00", "\x02"},
		{"garbage in TLS's place", ports.POP3S, "USER alice\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := dial(t, c.port)
			p.Send(c.text)
			if tcp, ok := p.Conn.(interface{ CloseWrite() error }); ok {
				_ = tcp.CloseWrite()
			}
			if got := p.Rest(); !strings.Contains(got, c.answer) || strings.Contains(got, "maildrop") {
				t.Errorf("got %q, want %q", got, c.answer)
			}
		})
	}
	half := dial(t, ports.KPOP) // says nothing and stays
	_ = half
	fill(t, "carol")
	if _, code := sendauth(t, apReq(t, "carol", "pop")); code != 0 {
		t.Errorf("after all that a good ticket gets KRB-ERROR %d", code)
	}
}

// What an operator gets wrong is said with its place.
func TestConfigFaults(t *testing.T) {
	good, err := os.ReadFile(realm.Path("kpopd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	loose := filepath.Join(t.TempDir(), "loose.keytab")
	b, err := os.ReadFile(realm.Path("server.keytab"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(loose, b, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, to, says string }{
		{"typo", "keytab =", "keytap =", "keytap"},
		{"bad protocol", `"pop3s"`, `"pop4s"`, "listen.pop3s.protocol"},
		{"no keytab", "server.keytab", "none.keytab", "none.keytab"},
		{"no such user", `user = "root"`, `user = "nosuch"`, "nosuch"},
		{"language not spoken", "[log]\n", "[utf8]\nlanguage = \"it\"\n\n[log]\n", "utf8.language"},
		{"no LDAP password", "kpopd.pw", "none.pw", "ldap.password_file"},
		{"loose keytab", realm.Path("server.keytab"), loose, "chmod 600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "kpopd.toml")
			if err := os.WriteFile(file, []byte(strings.Replace(string(good), c.from, c.to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), realm.Kpopd, "check", "--config", file).CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.says) {
				t.Errorf("kpopd check: %v, %s", err, out)
			}
		})
	}
	t.Run("another service", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "kpopd.toml")
		write(t, file, strings.Replace(string(good), `service = "pop/`, `service = "mail/`, 1))
		out, err := exec.CommandContext(t.Context(), realm.Kpopd, "check", "--config", file).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "no key of our own service") || !strings.Contains(string(out), "mail/"+integration.Host+"@") {
			t.Errorf("kpopd check: %v, %s", err, out)
		}
	})
	t.Run("port in use", func(t *testing.T) {
		out, err := exec.CommandContext(t.Context(), realm.Kpopd, "serve", "--config", realm.Path("kpopd.toml")).CombinedOutput()
		if err == nil {
			t.Errorf("a second kpopd started: %s", out)
		}
	})
}

// A message removed by another program stays listed and answers -ERR or itself,
// and what the session deletes is what it named.
func TestExpungeBesideASession(t *testing.T) {
	fill(t, "bob")
	p := player.Login(t, realm, "bob")
	p.Send("UIDL\r\n")
	p.Expect("+OK")
	uid := map[int]string{}
	for n := 1; n <= 5; n++ {
		uid[n] = strings.TrimPrefix(p.Expect(strconv.Itoa(n)+" "), strconv.Itoa(n)+" ")
	}
	p.Expect(".")
	if err := realm.Expunge(t.Context(), "bob", 1, 2); err != nil {
		t.Fatal(err)
	}
	p.Send("STAT\r\nDELE 3\r\nQUIT\r\n")
	p.Expect("+OK 5 ")
	p.Expect("+OK")
	p.Expect("+OK")
	player.Holds(t, realm, "bob", 2)
	p = player.Login(t, realm, "bob")
	p.Send("UIDL\r\n")
	p.Expect("+OK")
	p.Expect("1 " + uid[4])
	p.Expect("2 " + uid[5])
	p.Play("S: .\nC: QUIT\nS: +OK\n")
}
