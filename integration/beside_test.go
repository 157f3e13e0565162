//go:build integration

package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// besideCyrus brings up a realm with a Cyrus master over its spool.
func besideCyrus(t *testing.T, imapdConf string) *integration.Realm {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "realm")
	r, err := integration.Up(t.Context(), dir, integration.Options{
		Kpopd: kpopdProgram(t), Spool: integration.SpoolCyrus, ImapdConf: imapdConf,
		ExtraTOML: "failure_delay = \"1ms\"\n[lmtp]\nlisten = \"" + dir + "/lmtp\"\n",
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

func kpopdProgram(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../bin/kpopd")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRealmBesideCyrus: what the contract's programs do, Cyrus sees, and what
// Cyrus takes in, kpopd serves.
func TestRealmBesideCyrus(t *testing.T) {
	t.Parallel()
	r := besideCyrus(t, "")
	opened, err := integration.Open(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Cyrus == nil || *opened.Cyrus != *r.Cyrus {
		t.Fatalf("DIR/env gives %+v, want %+v", opened.Cyrus, r.Cyrus)
	}
	mail := t.TempDir()
	write(t, filepath.Join(mail, "1.eml"), "Subject: one\r\n\r\none\r\n")
	write(t, filepath.Join(mail, "2.eml"), "Subject: two\r\n\r\ntwo\r\n")
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { return opened.Fill(ctx, "alice", mail) },
		func() error { return opened.Append(ctx, "alice", mail) },
		func() error { return opened.Expunge(ctx, "alice", 2) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	lmtp(t, r, "alice", "Subject: three\r\n\r\nthree")
	want := []string{"one", "one", "two", "three"}
	if got := imapSubjects(t, r, "alice"); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("Cyrus has %q, want %q", got, want)
	}
	c := popSession(t, r, "alice")
	if _, err := c.say("STAT", "+OK 4 "); err != nil {
		t.Error(err)
	}
	if text, err := c.lines("RETR 4"); err != nil || !strings.Contains(strings.Join(text, "\n"), "\nSubject: three\n") || text[len(text)-1] != "three" {
		t.Errorf("RETR 4: %q, %v", text, err)
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Error(err)
	}
	if out, err := r.Cyrus.Run(ctx, "reconstruct", "-n", "-G", "user.alice"); err != nil || strings.TrimSpace(out) != "user.alice" {
		t.Errorf("reconstruct: %q, %v", out, err)
	}
	t.Run("master stopped and started", func(t *testing.T) { masterStops(t, r) })
	t.Run("user_deny.db", func(t *testing.T) { denied(t, r) })
}

// denied: whom user_deny.db keeps from Cyrus's pop3d it keeps from kpopd.
func denied(t *testing.T, r *integration.Realm) {
	conf, _ := lookAt(t, r)
	path := conf.Databases.UserDeny.Path
	for list, want := range map[string]bool{
		"pop3": true, "imap": false, "*,!pop3": true, "!pop3,*": false, "imap,pop*,!pop3": true, "imap,!pop3,pop*": false,
	} {
		write(t, path, "alice\t2\t"+list+"\tnot today\n")
		if err := os.Chmod(path, 0o666); err != nil { // Cyrus opens it for writing
			t.Fatal(err)
		}
		for _, program := range []struct {
			name  string
			login func() (*talk, error)
		}{
			{"Cyrus", func() (*talk, error) { return popPlain(r.Cyrus.POP3, "alice", "x", nil) }},
			{"kpopd", func() (*talk, error) { return popLogin(r, "alice") }},
		} {
			c, err := program.login()
			if err == nil {
				_, err = c.say("QUIT", "+OK")
				_ = c.Close()
			}
			if is := err != nil && strings.Contains(err.Error(), "[SYS/TEMP]"); is != want || err != nil && !is {
				t.Errorf("%q: %s: %v", list, program.name, err)
			}
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// masterStops stops Cyrus under a session and starts it under the next: kpopd goes
// on alone, and Cyrus finds what it did.
func masterStops(t *testing.T, r *integration.Realm) {
	say := func(c *talk, lines ...string) {
		t.Helper()
		for i := 0; i < len(lines); i += 2 {
			if _, err := c.say(lines[i], lines[i+1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := popSession(t, r, "alice")
	say(c, "DELE 1", "+OK")
	if err := r.Cyrus.Stop(); err != nil {
		t.Fatal(err)
	}
	if text, err := c.lines("RETR 2"); err != nil || text[len(text)-1] != "one" {
		t.Errorf("RETR 2: %q, %v", text, err)
	}
	say(c, "QUIT", "+OK")
	c = popSession(t, r, "alice")
	say(c, "STAT", "+OK 3 ", "DELE 2", "+OK")
	if err := r.Cyrus.Start(); err != nil {
		t.Fatal(err)
	}
	say(c, "QUIT", "+OK")
	if got := imapSubjects(t, r, "alice"); strings.Join(got, " ") != "one three" {
		t.Errorf("Cyrus has %q", got)
	}
	if out, err := r.Cyrus.Run(t.Context(), "reconstruct", "-n", "-G", "user.alice"); err != nil || strings.TrimSpace(out) != "user.alice" {
		t.Errorf("reconstruct: %q, %v", out, err)
	}
}
