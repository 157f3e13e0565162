//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// TestConversations: with conversations on, an expunge is more than kpopd writes.
// Without a way through Cyrus's IMAP server DELE is refused; with one the messages
// are gone when QUIT is answered, and those alone.
func TestConversations(t *testing.T) {
	t.Parallel()
	r := besideCyrus(t, "conversations: yes\n")
	var all []string
	var messages []string
	for i := range 8 {
		all = append(all, fmt.Sprintf("m%d", i+1))
		messages = append(messages, "Subject: "+all[i]+"\r\nMessage-ID: <"+all[i]+"@client.test>\r\n\r\n"+all[i])
	}
	lmtp(t, r, "alice", messages...)

	c := popSession(t, r, "alice")
	if _, err := c.say("DELE 1", "-ERR [SYS/PERM] "); err != nil {
		t.Error(err)
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Error(err)
	}
	if got := imapSubjects(t, r, "alice"); !slices.Equal(got, all) {
		t.Errorf("left are %q", got)
	}

	throughIMAP(t, r, r.Cyrus.IMAP)
	t.Run("removed", func(t *testing.T) { removedThroughIMAP(t, r, all) })
	t.Run("another message", func(t *testing.T) { goneMeanwhile(t, r) })
	t.Run("no server", func(t *testing.T) {
		throughIMAP(t, r, "127.0.0.1:1")
		before := imapSubjects(t, r, "alice")
		c := popSession(t, r, "alice")
		if _, err := c.say("DELE 1", "+OK"); err != nil {
			t.Error(err)
		}
		if _, err := c.say("QUIT", "-ERR [SYS/TEMP] "); err != nil {
			t.Error(err)
		}
		if got := imapSubjects(t, r, "alice"); !slices.Equal(got, before) {
			t.Errorf("left are %q, want %q", got, before)
		}
	})
	cyrusClean(t, r, "alice")
}

// throughIMAP has kpopd remove messages at an IMAP server, as Cyrus's admin.
func throughIMAP(t *testing.T, r *integration.Realm, address string) {
	t.Helper()
	toml, err := os.ReadFile(r.Path("kpopd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	without, _, _ := strings.Cut(string(toml), "\n[spool.imap]")
	password := r.Path("proxy.pw")
	write(t, password, "x\n")
	if err := os.Chmod(password, 0o644); err != nil { //nolint:gosec // G302: any password is right in this realm
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Path("kpopd.toml"), fmt.Appendf([]byte(without),
		"\n[spool.imap]\naddress = %q\nsecurity = \"none\"\nuser = \"cyrus\"\npassword_file = %q\n", address, password), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
}

// removedThroughIMAP deletes some, while another client has marked one that is
// to stay, and looks at the mailbox before anything else happens.
func removedThroughIMAP(t *testing.T, r *integration.Realm, all []string) {
	other, err := imapLogin(r, "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close() //nolint:errcheck // at the test's end
	if _, err := other.imap(`UID STORE 5 +FLAGS (\Deleted)`); err != nil {
		t.Fatal(err)
	}
	c := popSession(t, r, "alice")
	for _, n := range []string{"1", "2", "4", "6"} {
		if _, err := c.say("DELE "+n, "+OK"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Fatal(err)
	}
	if got, want := imapSubjects(t, r, "alice"), []string{all[2], all[4], all[6], all[7]}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
	if _, err := other.imap(`UID STORE 5 -FLAGS (\Deleted)`); err != nil {
		t.Error(err)
	}
}

// goneMeanwhile: one of the messages is expunged during the session. The others
// go, and that is no error.
func goneMeanwhile(t *testing.T, r *integration.Realm) {
	c := popSession(t, r, "alice")
	other, err := imapLogin(r, "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close() //nolint:errcheck // at the test's end
	for _, command := range []string{`UID STORE 3 +FLAGS (\Deleted)`, "UID EXPUNGE 3"} {
		if _, err := other.imap(command); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"1", "2"} {
		if _, err := c.say("DELE "+n, "+OK"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Fatal(err)
	}
	if got := imapSubjects(t, r, "alice"); !slices.Equal(got, []string{"m7", "m8"}) {
		t.Errorf("left are %q", got)
	}
}
