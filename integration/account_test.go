//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/auth/ldapdir/ldaptest"
	"github.com/kpopd/kpopd/integration"
)

// What else an entry says is heeded: the unique-ids, how long mail is kept, the
// server that has the maildrop.
func TestEntryDecides(t *testing.T) {
	people(t, map[string]string{"entry": "", "elsewhere": ""})
	fill(t, "entry")
	directory := realm.LDAP()
	for attribute, value := range map[string]string{"kpopUIDStyle": "dovecot", "kpopRetention": "30", "kpopAlias": "entry.alias"} {
		if err := directory.Set("entry", attribute, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := directory.Remove("elsewhere"); err != nil {
		t.Fatal(err)
	}
	err := directory.Add(ldaptest.User{Name: "elsewhere", Mailbox: "elsewhere", More: map[string][]string{
		"krbPrincipalName": {"elsewhere@" + integration.RealmName}, "mailHost": {"mail2.test"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p, code := sendauth(t, apReq(t, "entry", "pop"))
	if code != 0 {
		t.Fatalf("KRB-ERROR %d", code)
	}
	p.Play("S: +OK\nC: USER entry.alias\nS: +OK\nC: PASS x\nS: +OK\nC: UIDL\nS: +OK\n")
	if line := p.Expect("1 "); !regexp.MustCompile(`^1 [0-9a-f]{16}\r\n$`).MatchString(line) {
		t.Errorf("a unique-id as Dovecot makes them is not %q", line)
	}
	for p.Expect("") != ".\r\n" {
	}
	p.Send("CAPA\r\n")
	var capabilities strings.Builder
	for line := p.Expect("+OK"); line != ".\r\n"; line = p.Expect("") {
		capabilities.WriteString(line)
	}
	if !strings.Contains(capabilities.String(), "EXPIRE 30\r\n") {
		t.Errorf("no EXPIRE 30 in %s", capabilities.String())
	}
	p.Play("C: QUIT\nS: +OK\n")
	if answer := login(t, "elsewhere", "elsewhere"); !strings.HasPrefix(answer, "-ERR [SYS/PERM]") {
		t.Errorf("a maildrop on another server: %s", answer)
	}
	if out, status := kpopMap(t, "elsewhere"); status != 0 || !strings.Contains(out, "mailbox elsewhere on mail2.test") {
		t.Errorf("kpop map: %d, %s", status, out)
	}
}

// With names = "both" the plus sign selects a host that is listed, else a folder
// (Cyrus's popsubfolders); a ticket opens its own account's alone.
func TestFolderLogins(t *testing.T) {
	people(t, map[string]string{"flo": "", "gus": ""})
	path := realm.Path("imapd.conf")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(old)+"popsubfolders: yes\n")
	t.Cleanup(func() { write(t, path, string(old)) })
	reconfigure(t, "[identity]\n", "[identity]\nnames = \"both\"\nhosts = [\"shop.test\"]\n")
	folder := t.TempDir()
	write(t, filepath.Join(folder, "1.eml"), "Subject: of the list\r\n\r\nx\r\n")
	if err := realm.Change(t.Context(), integration.SpoolChange{Do: "create", User: "flo+lists"}); err != nil {
		t.Fatal(err)
	}
	if err := realm.Append(t.Context(), "flo+lists", folder); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		principal, user, answer string
		mail                    bool
	}{
		{"flo", "flo", "+OK", false},
		{"flo", "flo+lists", "+OK", true},
		{"flo", "flo@shop.test", "+OK", false},
		{"flo", "flo+shop.test", "+OK", false},
		{"flo", "flo+none", "-ERR", false},
		{"flo", "flo@other.test", "-ERR [AUTH]", false},
		{"flo", "flo+../gus", "-ERR [AUTH]", false},
		{"gus", "flo+lists", "-ERR [AUTH]", false},
	} {
		p, code := sendauth(t, apReq(t, c.principal, "pop"))
		if code != 0 {
			t.Fatalf("%s: KRB-ERROR %d", c.principal, code)
		}
		p.Expect("+OK")
		p.Send("USER " + c.user + "\r\nPASS x\r\n")
		p.Expect("+OK")
		if answer := p.Expect(""); !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s asks for %s: %s, want %s", c.principal, c.user, answer, c.answer)
		} else if c.answer == "+OK" {
			p.Send("STAT\r\n")
			if line := p.Expect("+OK"); strings.HasPrefix(line, "+OK 0 ") == c.mail {
				t.Errorf("%s has %s", c.user, line)
			}
		}
		p.Send("QUIT\r\n")
		p.Rest()
	}
}

// Each way to bind works as the configuration names it. The directory answers
// nobody whom it does not know; what is not allowed to ask is no "no".
func TestBindsByConfiguration(t *testing.T) {
	keytab := realm.Path("slapd.keytab")
	if _, err := os.Stat(keytab); err != nil {
		if _, err := realm.Kadmin(t.Context(), "addprinc -randkey ldap/localhost\nktadd -k "+keytab+" ldap/localhost\n"); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "slapd") // a socket's name must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s, err := ldaptest.Start(t.Context(), dir, ldaptest.Options{
		Host: integration.Host, Realm: integration.RealmName, Keytab: keytab, Krb5Conf: realm.Path("krb5.conf"), OnlyUsers: true,
		Certificate: realm.Path("server.pem"), Key: realm.Path("server.key"), CA: realm.Path("ca.pem"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	err = s.Add(ldaptest.User{Name: "alice", Mailbox: "alice-of-the-other", More: map[string][]string{"krbPrincipalName": {"alice@" + integration.RealmName}}})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(realm.Path("kpopd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	line := func(key string) string {
		return regexp.MustCompile(`(?m)^` + key + ` = .*$`).FindString(string(whole))
	}
	address := fmt.Sprintf("ldap://localhost:%d", s.Port)
	for name, c := range map[string]struct {
		server, bind string
		startTLS     bool
		status       int
	}{
		"gssapi":           {address, `bind = "gssapi"`, false, 0},
		"gssapi in TLS":    {address, `bind = "gssapi"`, true, 0},
		"gssapi, ldaps":    {strings.Replace(s.TLSURI, "127.0.0.1", "localhost", 1), `bind = "gssapi"`, false, 0},
		"external":         {s.LocalURI, `bind = "external"`, false, 0},
		"simple":           {address, fmt.Sprintf("bind = \"simple\"\nbind_dn = %q\npassword_file = %q", s.AdminDN, s.PasswordFile), true, 0},
		"simple, wrong DN": {address, fmt.Sprintf("bind = \"simple\"\nbind_dn = %q\npassword_file = %q", "cn=x,"+ldaptest.Base, s.PasswordFile), true, 2},
		"anonymous":        {address, `bind = "anonymous"`, true, 2},
	} {
		text := string(whole)
		for _, change := range [][2]string{
			{line("servers"), fmt.Sprintf("servers = [%q]", c.server)}, {line("start_tls"), fmt.Sprintf("start_tls = %t", c.startTLS)},
			{line("bind_dn"), ""}, {line("password_file"), ""}, {line("bind"), c.bind},
		} {
			text = strings.Replace(text, change[0], change[1], 1)
		}
		file := filepath.Join(t.TempDir(), "kpopd.toml")
		write(t, file, text)
		out, status := kpopMap(t, "--config", file, "--why", "alice")
		if status != c.status || status == 0 && !strings.Contains(out, "allowed: mailbox alice-of-the-other") {
			t.Errorf("%s: exit status %d, want %d:\n%s", name, status, c.status, out)
		}
	}
}
