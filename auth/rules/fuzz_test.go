package rules_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/rules"
)

// FuzzDecision: whoever is proved and whatever is asked for, a maildrop is
// opened only when it is one's own or the configuration says so.
func FuzzDecision(f *testing.F) {
	for _, authcid := range []string{"alice@REALM.TEST", "alice/admin@REALM.TEST", "helpdesk@REALM.TEST", "pop/front.test@REALM.TEST", "a\x00@REALM.TEST", "alice"} {
		for _, authzid := range []string{"", "alice", "bob@REALM.TEST", "alice+x", "alice@shop.test"} {
			f.Add(authcid, authzid)
		}
	}
	r := realm()
	f.Fuzz(func(t *testing.T, authcid, authzid string) {
		id := decision{authcid, authzid, ""}.identity()
		account, err := r.Lookup(t.Context(), id)
		if err != nil {
			if !errors.Is(err, auth.ErrDenied) || account != (auth.Account{}) {
				t.Fatalf("%q asks for %q: %+v, %v", authcid, authzid, account, err)
			}
			return
		}
		mailbox, folder, _ := strings.Cut(account.Mailbox, "+")
		if auth.CheckMailbox(mailbox) != nil || strings.ContainsAny(folder, "/\x00\r\n") {
			t.Fatalf("%q asks for %q: mailbox %q", authcid, authzid, account.Mailbox)
		}
		user, realm, _ := strings.Cut(authcid, "@")
		if id.Realm != "" && realm != "REALM.TEST" {
			t.Fatalf("%q of another realm is in", authcid)
		}
		if id.Realm != "" && !account.Acting && mailbox != user {
			t.Fatalf("%q opens %q as its own", authcid, account.Mailbox)
		}
		if account.Acting && user != "helpdesk" && user != "pop/front.test" {
			t.Fatalf("%q acts for %q", authcid, account.Mailbox)
		}
	})
}

func FuzzTables(f *testing.F) {
	f.Add(accounts)
	f.Add("alice@REALM.TEST alice\n# comment\n")
	f.Add("a mailbox=../x\n\x00 \n")
	path := filepath.Join(f.TempDir(), "table")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(strings.TrimLeft(text, " \t\r\n"), " ")
		if a, err := rules.OpenAccounts(path, nil); err == nil {
			entry, err := a.Find(t.Context(), rules.Query{User: name}, nil)
			if err == nil && (auth.CheckMailbox(entry.Mailbox) != nil || auth.CheckUser(entry.User) != nil || entry.ID == "") {
				t.Fatalf("%q gave %+v", text, entry)
			}
		}
		if m, err := rules.OpenMapFile(path, nil); err == nil {
			if user, _, ok := m.Find(name); ok && auth.CheckUser(user) != nil {
				t.Fatalf("%q maps %q to %q", text, name, user)
			}
		}
	})
}
