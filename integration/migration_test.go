//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// TestUniqueIDsFromDovecot: a maildrop made of Dovecot's Maildir has Dovecot's
// unique-ids, message by message, those of a mailbox with gaps too. A client that
// leaves mail on the server fetches nothing twice.
func TestUniqueIDsFromDovecot(t *testing.T) {
	t.Parallel()
	const user = "dora"
	letter := func(i int) (name, text string) { // named as Dovecot names what it takes in
		text = fmt.Sprintf("Subject: d%d\n\nx\n", i)
		return fmt.Sprintf("mail/%s/new/17960618%02d.M%dP%d.mail,S=%d,W=%d", user, i, 1000+37*i, 400+i, len(text), len(text)+3), text
	}
	files := map[string]string{}
	for i := range 9 {
		name, text := letter(i + 1)
		files[name] = text
	}
	d, address := startDovecot(t, "", files)
	c, err := popPlain(address, user, "secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"DELE 1", "DELE 4", "QUIT"} {
		if _, err := c.say(line, "+OK"); err != nil {
			t.Fatal(err)
		}
	}
	// What comes in by and by Dovecot appends to its list.
	var want map[string]string
	for i := range 3 {
		name, text := letter(10 + i)
		if err := d.Write(name, text); err != nil {
			t.Fatal(err)
		}
		if c, err = popPlain(address, user, "secret", nil); err != nil {
			t.Fatal(err)
		}
		want = idsBySubject(t, c)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if len(want) != 10 {
		t.Fatalf("Dovecot has %v", want)
	}

	r := embedded(t, "uidl_format: dovecot\n")
	out, err := r.Tool(r.Path("krb5cc")).Run(t.Context(), filepath.Join(filepath.Dir(kpopdProgram(t)), "kpop"),
		"spool", "import", "--config", r.Path("kpopd.toml"), user, filepath.Join(d.Root, "mail", user))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.AddUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	got := idsBySubject(t, popSession(t, r, user))
	if len(got) != len(want) {
		t.Errorf("%d messages, Dovecot had %d; the import said %s", len(got), len(want), out)
	}
	for subject, id := range want {
		if got[subject] != id {
			t.Errorf("%s has the unique-id %q, Dovecot's was %q", subject, got[subject], id)
		}
	}
}

// idsBySubject are those of all messages, by subject. It ends the session.
func idsBySubject(t *testing.T, c *talk) map[string]string {
	t.Helper()
	lines, err := c.lines("UIDL")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, line := range lines {
		n, id, _ := strings.Cut(line, " ")
		text, err := c.lines("RETR " + n)
		if err != nil {
			t.Fatal(err)
		}
		subjects := subjectsIn(text)
		if len(subjects) != 1 {
			t.Fatalf("message %s: %q", n, text)
		}
		ids[subjects[0]] = id
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Fatal(err)
	}
	return ids
}

// embedded brings up a realm of its own, without Cyrus.
func embedded(t *testing.T, imapdConf string) *integration.Realm {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "realm")
	if err != nil {
		t.Fatal(err)
	}
	r, err := integration.Up(t.Context(), dir, integration.Options{
		Kpopd: kpopdProgram(t), ExtraTOML: "failure_delay = \"1ms\"\n", ImapdConf: imapdConf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	return r
}
