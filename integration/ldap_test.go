//go:build integration

package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// login logs in by KPOP and gives the answer to PASS.
func login(t *testing.T, principal, user string) string {
	t.Helper()
	p, code := sendauth(t, apReq(t, principal, "pop"))
	if code != 0 {
		t.Fatalf("%s: KRB-ERROR %d", principal, code)
	}
	p.Expect("+OK")
	p.Send("USER " + user + "\r\nPASS x\r\n")
	p.Expect("+OK")
	answer := p.Expect("")
	p.Send("QUIT\r\n")
	p.Rest()
	return answer
}

// Whoever is added can log in at once, and whoever's maildrop is filled has an
// account too.
func TestAddUser(t *testing.T) {
	for range 2 { // the second finds everything there
		if err := realm.AddUser(t.Context(), "dora", "emil"); err != nil {
			t.Fatal(err)
		}
	}
	folder := t.TempDir()
	write(t, filepath.Join(folder, "1.eml"), "Subject: x\r\n\r\nx\r\n")
	both := make(chan error) // two who fill the same unknown user at once
	for range 2 {
		go func() { both <- realm.Fill(t.Context(), "twain", folder) }()
	}
	for range 2 {
		if err := <-both; err != nil {
			t.Error(err)
		}
	}
	for user, put := range map[string]func() error{
		"filled":   func() error { return realm.Fill(t.Context(), "filled", folder) },
		"appended": func() error { return realm.Append(t.Context(), "appended", folder) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if known, err := realm.LDAP().Has(user); !known || err != nil {
			t.Errorf("%s has no entry: %v", user, err)
		}
	}
	if err := realm.AddUser(t.Context(), "filled"); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"dora", "emil", "filled"} {
		if answer := login(t, user, user); !strings.HasPrefix(answer, "+OK") {
			t.Errorf("%s: %s", user, answer)
		}
	}
	if err := realm.AddUser(t.Context(), "../x"); err == nil {
		t.Error("a path was taken for a user")
	}
}

// The directory's part of the contract: everybody has an entry, found by what
// DIR/env says.
func TestDirectoryOfTheRealm(t *testing.T) {
	env, err := os.ReadFile(realm.Path("env"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(env)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		values[name] = strings.Trim(value, "'")
	}
	for _, user := range integration.Users {
		out, err := realm.Tool("").Run(t.Context(), "ldapsearch", "-x", "-LLL", "-H", values["LDAP_URI"], "-b", values["LDAP_BASE"], "(uid="+user+")", "krbPrincipalName")
		if err != nil || !strings.Contains(out, "krbPrincipalName: "+user+"@"+integration.RealmName) {
			t.Errorf("ldapsearch finds %q, %v", out, err)
		}
	}
}

// TestAdministratorsPassword: OpenLDAP's own tools take the file as it is.
func TestAdministratorsPassword(t *testing.T) {
	t.Parallel()
	s := realm.LDAP()
	out, err := exec.CommandContext(t.Context(), "ldapwhoami", "-x", "-H", s.URI, "-D", s.AdminDN, "-y", s.PasswordFile).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "dn:"+s.AdminDN) {
		t.Errorf("%v: %s", err, out)
	}
}
