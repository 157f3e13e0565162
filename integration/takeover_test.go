//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// takenOver are messages whose structure a server has to tell, and some that
// are none.
func takenOver() []string {
	return []string{
		"From: Ann <ann@b.test>\r\nDate: Mon, 1 Nov 2021 22:33:44 +0900\r\nSubject: plain\r\nMessage-ID: <1@b.test>\r\n\r\nneedle\r\n",
		"Subject: first part\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\none\r\n--b\r\n" +
			"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>=C3=A9\r\n--b\r\n" +
			"Content-Type: message/rfc822\r\n\r\nFrom: inner@b.test\r\nSubject: inner\r\n\r\ninside\r\n--b--\r\n",
		"To: undisclosed recipients:;, \"Q. uoted\" <q@b.test>\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n\r\n" + strings.Repeat("long line ", 500),
		"Subject: base64\r\nContent-Type: application/octet-stream; name=\"a b\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n",
		"no header at all", "Date: nonsense\r\n\r\n..\r\n", "\r\n",
	}
}

// TestTakeover: a spool that kpopd alone has made, filled and removed from is
// one that Cyrus serves, changes and finds nothing wrong with; and kpopd serves
// it again afterwards, with the same unique-ids.
func TestTakeover(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "realm")
	socket := openSocket(t)
	r, err := integration.Up(t.Context(), dir, integration.Options{
		Kpopd:     kpopdProgram(t),
		ImapdConf: "lmtpsocket: " + socket + "\n",
		ExtraTOML: "failure_delay = \"1ms\"\n[lmtp]\nlisten = \"" + socket + "\"\nsocket_mode = \"0666\"\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	fillAlone(t, r, socket)
	before := uniqueIDs(t, r, "alice")
	stopKpopd(t, r, syscall.SIGTERM)

	r.Cyrus, err = integration.NewCyrus(r.Path("takeover"), r.Path("imapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := integration.Own(r.Dir); err != nil {
		t.Fatal(err)
	}
	if err := r.Cyrus.Start(); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "bob", "dora"} {
		workByIMAP(t, r, user)
	}
	for _, name := range []string{"user.alice", "user.alice.ref", "user.alice.copies", "user.bob", "user.dora", "user.dora.ref"} {
		if out, err := r.Cyrus.Run(t.Context(), "reconstruct", "-n", "-G", name); err != nil || strings.TrimSpace(out) != name {
			t.Errorf("reconstruct: %q, %v", out, err)
		}
		if out, err := r.Cyrus.Run(t.Context(), "mbexamine", "-q", name); err != nil || strings.Contains(out, "INCORRECT") {
			t.Errorf("mbexamine: %s, %v", out, err)
		}
	}
	if err := r.Cyrus.Stop(); err != nil {
		t.Fatal(err)
	}
	r.Cyrus = nil
	kpop(t, r, "", "spool", "check")
	if err := r.StartKpopd(); err != nil {
		t.Fatal(err)
	}
	after := uniqueIDs(t, r, "alice")
	if len(after) != len(before) || !slices.Equal(before[1:], after[:len(before)-1]) {
		t.Errorf("unique-ids were %q; Cyrus has removed the first and added one, and they are %q", before, after)
	}
}

// openSocket is a place for a socket that every user reaches: Cyrus's deliver
// becomes Cyrus's user.
func openSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lmtp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // G302: as said
		t.Fatal(err)
	}
	return filepath.Join(dir, "lmtp")
}

// kpop runs the operator's program.
func kpop(t *testing.T, r *integration.Realm, input string, args ...string) string {
	t.Helper()
	out, err := (integration.Tool{Dir: r.Dir}).Input(t.Context(), input, r.Kpop(), append(args, "--config", r.Path("kpopd.toml"))...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fillAlone brings mail in by every way kpopd has, and takes some out.
func fillAlone(t *testing.T, r *integration.Realm, socket string) {
	t.Helper()
	kpop(t, r, "", "spool", "create", "dora", "--messages", "100")
	kpop(t, r, "", "spool", "quota", "alice", "--storage", "10M")
	for _, message := range takenOver() {
		kpop(t, r, message, "deliver", "dora")
	}
	c := lmtpOf(t, socket)
	// Cyrus's own program for the MTA's last hop takes our socket for lmtpd's.
	deliver := "/usr/lib/cyrus/bin/deliver"
	if out, err := (integration.Tool{Dir: r.Dir}).Input(t.Context(), takenOver()[0], deliver, "-C", r.Path("imapd.conf"), "-r", "sender@b.test", "bob"); err != nil {
		log, _ := os.ReadFile(r.Path("kpopd.log"))
		t.Errorf("Cyrus's deliver: %s, %v\n%s", out, err, log)
	}
	if out, err := (integration.Tool{Dir: r.Dir}).Input(t.Context(), "x", deliver, "-C", r.Path("imapd.conf"), "nobody"); err == nil {
		t.Errorf("Cyrus's deliver delivers to nobody: %s", out)
	}
	for _, user := range []string{"alice", "bob"} {
		for _, message := range append(takenOver(), takenOver()...) {
			message = strings.ReplaceAll("\r\n"+strings.TrimSuffix(message, "\r\n"), "\r\n.", "\r\n..")[2:]
			if err := c.deliver(user+"@mail.test", message); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, round := range []string{"expire", "undelete"} { // what is dropped, and what comes back
		p := popSession(t, r, "alice")
		for _, step := range []string{"DELE 2", "DELE 4", "QUIT"} {
			if _, err := p.say(step, "+OK"); err != nil {
				t.Fatal(err)
			}
		}
		args := map[string][]string{"expire": {"expire", "--older", "0s", "alice"}, "undelete": {"undelete", "alice"}}[round]
		kpop(t, r, "", append([]string{"spool"}, args...)...)
	}
	kpop(t, r, "", "spool", "check")
}

// lmtpOf is a session with kpopd's own LMTP listener, which opens after the
// ports that a realm waits for.
func lmtpOf(t *testing.T, socket string) *talk {
	t.Helper()
	c, err := lmtpAt("unix", socket)
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err = lmtpAt("unix", socket)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func uniqueIDs(t *testing.T, r *integration.Realm, user string) []string {
	t.Helper()
	c := popSession(t, r, user)
	lines, err := c.lines("UIDL")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 0, len(lines))
	for _, line := range lines {
		_, id, _ := strings.Cut(line, " ")
		ids = append(ids, id)
	}
	return ids
}

// stopKpopd sends kpopd a signal that ends it, and waits for its end.
func stopKpopd(t *testing.T, r *integration.Realm, signal syscall.Signal) {
	t.Helper()
	if err := r.Signal("kpopd", signal); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, alive := r.Pid(); !alive {
			return
		}
		if time.Now().After(end) {
			t.Fatal("kpopd does not end")
		}
	}
}

// workByIMAP reads user's mail through Cyrus, compares what Cyrus says of our
// messages with what it says of the same octets that it has taken in itself, and
// changes the mailbox in every way.
func workByIMAP(t *testing.T, r *integration.Realm, user string) {
	t.Helper()
	c, err := imapLogin(r, user)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	must := func(command string) string {
		t.Helper()
		lines, err := c.imap(command)
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		return strings.Join(lines, "\n")
	}
	must("CREATE INBOX.ref")
	var taken []int // positions of the messages whose form Cyrus itself would take in
	for i, octets := range storedMessages(t, r, user) {
		_, err := c.imap(fmt.Sprintf("APPEND INBOX.ref {%d+}\r\n%s", len(octets), octets))
		if err == nil {
			taken = append(taken, i+1)
		} else if !strings.Contains(err.Error(), "invalid header") {
			t.Fatal(err)
		}
	}
	if len(taken) < 5 {
		t.Errorf("%s: only messages %v can be compared", user, taken)
	}
	says := func(n int) string {
		_, what, _ := strings.Cut(must(fmt.Sprintf("FETCH %d (RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY)", n)), "FETCH ")
		return what
	}
	var ours []string
	for _, n := range taken {
		ours = append(ours, says(n))
	}
	must("SELECT INBOX.ref")
	for i, n := range taken {
		if theirs := says(i + 1); ours[i] != theirs {
			t.Errorf("%s: Cyrus says of our message %d\n%s\nand of its own\n%s", user, n, ours[i], theirs)
		}
	}
	must("SELECT INBOX")
	for _, search := range []string{"BODY needle", "SUBJECT plain", "FROM ann@b.test", "HEADER Message-ID 1@b.test"} {
		if found := must("SEARCH " + search); !strings.HasPrefix(found, "* SEARCH 1") {
			t.Errorf("%s: SEARCH %s: %q", user, search, found)
		}
	}
	must("CREATE INBOX.copies")
	must("COPY 1:3 INBOX.copies")
	lmtp(t, r, user, "Subject: from lmtpd\r\n\r\nx")
	must(`STORE 1 +FLAGS (\Deleted \Answered $Keyword)`)
	must(`STORE 2 +FLAGS (\Seen \Flagged)`)
	if expunged := must("EXPUNGE"); !strings.Contains(expunged, "* 1 EXPUNGE") {
		t.Errorf("%s: EXPUNGE: %q", user, expunged)
	}
	if got := imapSubjects(t, r, user); got[len(got)-1] != "from lmtpd" {
		t.Errorf("%s: %q", user, got)
	}
	must("LOGOUT")
}

// storedMessages are the files of user's messages that are there, in order.
func storedMessages(t *testing.T, r *integration.Realm, user string) []string {
	t.Helper()
	conf, err := imapdconf.Read(r.Path("imapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := cyrus.Open(cyrus.Options{Config: conf, Mode: cyrus.ReadOnly, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // it holds no session
	dump, err := store.Dump(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, record := range dump.Records {
		if record.Flags&cyrus.FlagExpunged != 0 {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dump.Directory, fmt.Sprintf("%d.", record.UID)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return all
}
