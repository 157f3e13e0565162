//go:build integration

package integration_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/mailstore"
)

// TestImportFromDovecot: after a Maildir of Dovecot's came over, POP clients see
// the same numbers, octets and unique-ids as before.
func TestImportFromDovecot(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 8 {
		name := fmt.Sprintf("mail/alice/new/17960618%02d.M%dP1.host", i, i)
		files[name] = fmt.Sprintf("Subject: %d\nFrom: a@b.test\n\n%s\n.\nend\n", i, strings.Repeat("line\n", i))
	}
	d, address := startDovecot(t, "", files)
	before := dovecotListing(t, address, "DELE 2", "DELE 8")
	if len(before) != 8 {
		t.Fatalf("%q", before)
	}
	before = dovecotListing(t, address)

	dir := t.TempDir()
	for _, sub := range []string{"imap", "spool", "state"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	toml := filepath.Join(dir, "kpopd.toml")
	write(t, toml, strings.ReplaceAll(`hostname = "mail.test"
state_dir = "@/state"
[listen.pop3]
address = "127.0.0.1:0"
protocol = "pop3"
[spool]
imapd_conf = ""
mode = "embedded"
[spool.options]
configdirectory = "@/imap"
partition-default = "@/spool"
uidl_format = "dovecot"
`, "@", dir))
	program := filepath.Join(filepath.Dir(kpopdProgram(t)), "kpop")
	out, err := (integration.Tool{}).Run(t.Context(), program, "spool", "import", "--config", toml, "alice", filepath.Join(d.Root, "mail/alice"))
	if err != nil || strings.Contains(out, "uidl_format") {
		t.Fatalf("%s, %v", out, err)
	}
	c, err := config.Load(toml)
	if err != nil {
		t.Fatal(err)
	}
	store, err := assemble.OpenStore(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // at the test's end
	drop, err := store.Open(t.Context(), "alice", mailstore.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	defer drop.Close() //nolint:errcheck // nothing was changed
	var after []string
	for n := mailstore.Number(1); int(n) <= drop.Len(); n++ {
		size, err := drop.Size(n)
		if err != nil {
			t.Fatal(err)
		}
		after = append(after, fmt.Sprintf("%d %d %s", n, size, drop.AppendUniqueID(nil, n)))
	}
	if !slices.Equal(before, after) || len(after) != 6 {
		t.Errorf("Dovecot had\n%q, kpopd has\n%q", before, after)
	}
}

// dovecotListing is "n octets unique-id" of each message; then the session says
// more, and ends.
func dovecotListing(t *testing.T, address string, more ...string) []string {
	t.Helper()
	c, err := popPlain(address, "alice", "secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	all := c.listing(t)
	for _, step := range append(more, "QUIT") {
		if _, err := c.say(step, "+OK"); err != nil {
			t.Fatal(err)
		}
	}
	return all
}
