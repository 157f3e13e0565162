//go:build integration

package docs_test

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

// decisions are what each part with [ldap] of identity.md must say of its
// people, in the order of the page: the options of kpop map, and the mailbox or
// the reason.
var decisions = []map[string]string{
	{"mia": "mia", "max": "max", "mona": "not-in-group"},                                                       // OpenLDAP
	{"mia": "mia", "max": "max", "mona": "not-in-group"},                                                       // without the overlay
	{"mia": "mia", "max": "locked", "mona": "not-in-group"},                                                    // FreeIPA
	{"mia": "mia", "max": "locked", "mona": "not-in-group"},                                                    // Active Directory
	{"mia": "not-in-group"},                                                                                    // slapd knows nothing of nested groups
	{"mia": "mia", "mia --user mia+shop.example": "mia-shop", "max --user max+shop.example": "not-authorized"}, // host names
}

// directories asks, with each of the page's configurations, for entries that
// have the attributes of all the directories it speaks of.
func (r *reader) directories(t *testing.T) {
	account := func(name, lock, control string) ldaptest.User {
		return ldaptest.User{Name: name, Classes: []string{"posixAccount", "user", "inetLocalMailRecipient"}, More: map[string][]string{
			"krbPrincipalName": {name + "@" + integration.RealmName}, "mailLocalAddress": {name + "@mail.example"},
			"uidNumber": {"1"}, "gidNumber": {"1"}, "homeDirectory": {"/"},
			"nsAccountLock": {lock}, "sAMAccountName": {name}, "userAccountControl": {control},
		}}
	}
	shop := ldaptest.User{Name: "mia-shop", Classes: []string{"inetLocalMailRecipient"}, More: map[string][]string{"mailLocalAddress": {"mia@shop.example", "mia", "max@shop.example"}}}
	directory := r.realm.LDAP()
	if err := directory.Add(account("mia", "FALSE", "512"), account("max", "TRUE", "514"), account("mona", "FALSE", "512"), shop); err != nil {
		t.Fatal(err)
	}
	if err := directory.AddGroup("mail", "mia", "max"); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range fences(t, "identity.md") {
		if f.info != "toml" || !strings.Contains(f.text, "[ldap]") {
			continue
		}
		if n == len(decisions) {
			t.Fatalf("identity.md:%d: no decisions for it", f.line)
		}
		config := r.aimed(t, f)
		for options, want := range decisions[n] {
			out, err := r.run(t, "kpop map --config "+config+" "+options)
			if !strings.Contains(out, "mailbox "+want+"\n") && (err == nil || !strings.Contains(err.Error(), "("+want+")")) {
				t.Errorf("identity.md:%d: kpop map %s: want %s:\n%s%v", f.line, options, want, out, err)
			}
		}
		n++
	}
	if n != len(decisions) {
		t.Errorf("identity.md has %d configurations, want %d", n, len(decisions))
	}
}

// aimed makes a whole configuration of a part: the realm's own, with the part in
// place of its directory, and the realm's slapd in place of the part's.
func (r *reader) aimed(t *testing.T, f fence) string {
	t.Helper()
	part := regexp.MustCompile(`(?m)^(start_tls|ca|bind) = .*\n`).ReplaceAllString(r.replace.Replace(f.text), "")
	for _, key := range []struct{ pattern, value string }{
		{`servers = .*`, fmt.Sprintf("servers = [%q]\nstart_tls = true\nca = %q\nbind = \"simple\"\nbind_dn = %q\npassword_file = %q",
			r.realm.LDAP().URI, r.realm.Path("ca.pem"), "cn=kpopd,"+ldaptest.Base, r.realm.Path("ldap/kpopd.pw"))},
		{`base = .*`, fmt.Sprintf("base = %q", "ou=people,"+ldaptest.Base)},
		{`group = .*`, fmt.Sprintf("group = %q", "cn=mail,ou=groups,"+ldaptest.Base)},
		{`group_base = .*`, fmt.Sprintf("group_base = %q", "ou=groups,"+ldaptest.Base)},
	} {
		part = regexp.MustCompile(`(?m)^`+key.pattern+`$`).ReplaceAllLiteralString(part, key.value)
	}
	whole, err := os.ReadFile(r.realm.Path("kpopd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(whole), "[identity]\n")
	_, after, end := strings.Cut(rest, "[spool]\n")
	if !ok || !end {
		t.Fatal("the realm's kpopd.toml has no [identity] before [spool]")
	}
	path := filepath.Join(t.TempDir(), "kpopd.toml")
	r.write(t, path, before+part+"\n[spool]\n"+after, 0o600)
	return path
}
