package rules_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/rules"
)

func TestRecipient(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "accounts")
	table := "alice\nalice@shop.test mailbox=alice.shop\nbob mailbox=robert alias=bob.jones\ncarol host=mail2.test\ndave locked\n" +
		"erin@REALM.TEST user=erin\n"
	if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := rules.OpenAccounts(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &rules.Rules{Source: source}
	for _, test := range []struct {
		user, host, mailbox string
		err                 error
	}{
		{"alice", "", "alice", nil}, {"alice", "mail.test", "alice", nil}, {"alice", "shop.test", "alice.shop", nil},
		{"bob", "mail.test", "robert", nil}, {"dave", "mail.test", "dave", nil},
		{"carol", "", "", auth.ErrTemporary}, {"nobody", "mail.test", "", auth.ErrDenied},
	} {
		mailbox, err := r.Recipient(context.Background(), test.user, test.host)
		if mailbox != test.mailbox || !errors.Is(err, test.err) {
			t.Errorf("%s at %q: %q, %v", test.user, test.host, mailbox, err)
		}
	}
	if mailbox, err := (&rules.Rules{}).Recipient(context.Background(), "any", "x.test"); mailbox != "any" || err != nil {
		t.Errorf("%q, %v", mailbox, err)
	}
}
