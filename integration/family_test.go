//go:build integration

package integration_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/kpopd/kpopd/auth/ldapdir/ldaptest"
	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/loopback"
)

// international are messages with headers in UTF-8 (RFC 6532) among others.
func international() map[string]string {
	return map[string]string{
		"1.eml": "From: Bob <bob@b.test>\r\nSubject: ascii\r\n\r\nK\u00f6rper\r\n",
		"2.eml": "From: J\u00fcrgen <j\u00fcrgen@ex\u00e4mple.test>\r\nSubject: Gr\u00fc\u00dfe\r\nX-Other: \u00fc\r\n\r\n.K\u00f6rper\r\n",
		"3.eml": "Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; filename=\u00e4\r\n\r\nx\r\n--b--\r\n",
	}
}

// TestCurlWithoutUTF8: a client that has never heard of UTF8 gets mail with
// headers in UTF-8 that it can read, of the size that it was told.
func TestCurlWithoutUTF8(t *testing.T) {
	t.Parallel()
	const user = "inter"
	if err := realm.AddUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	fillWith(t, user, international())
	curl := func(path string) string {
		t.Helper()
		out, err := realm.Tool("").Run(t.Context(), "curl", "-sS", "--cacert", realm.Path("ca.pem"), "--login-options", "AUTH=PLAIN",
			"-u", user+":"+passwordOf(t, user), fmt.Sprintf("pop3s://%s:%d/%s", integration.Host, realm.Ports.POP3S, path))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	sizes := strings.Fields(curl(""))
	if len(sizes) != 6 {
		t.Fatalf("LIST: %q", sizes)
	}
	for n := 1; n <= 3; n++ {
		text := curl(strconv.Itoa(n))
		if len(text) != atoi(t, sizes[2*n-1]) {
			t.Errorf("message %d: %d octets, LIST said %s", n, len(text), sizes[2*n-1])
		}
		head, body, _ := strings.Cut(text, "\r\n\r\n")
		if strings.ContainsFunc(head, func(r rune) bool { return r >= utf8.RuneSelf }) {
			t.Errorf("message %d: %q", n, head)
		}
		if n == 2 && (!strings.Contains(head, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=") || !strings.Contains(head, "@internationalized-address.invalid>") || body != ".K\u00f6rper\r\n") {
			t.Errorf("message 2: %q", text)
		}
		if n == 3 && strings.Contains(text, "filename") {
			t.Errorf("message 3: %q", text)
		}
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMpopUTF8Name: mpop logs in with a name and a password in UTF-8.
func TestMpopUTF8Name(t *testing.T) {
	t.Parallel()
	const name, password, mailbox = "j\u00fcrgen", "p\u00e4ssw\u00f6rter", "juergen"
	if err := realm.AddUser(t.Context(), mailbox); err != nil {
		t.Fatal(err)
	}
	if _, err := realm.Kadmin(t.Context(), "addprinc -pw "+password+" "+name+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := realm.LDAP().Add(ldaptest.User{Name: name, Mailbox: mailbox}); err != nil {
		t.Fatal(err)
	}
	sent := fill(t, mailbox)
	dir := t.TempDir()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "mail", sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	rc := filepath.Join(dir, "mpoprc")
	write(t, rc, fmt.Sprintf("account a\nhost %s\nport %d\nuser %s\npassword %s\nauth user\ntls on\ntls_starttls off\ntls_trust_file %s\n"+
		"keep on\nuidls_file %s/uidls\nreceived_header off\ndelivery maildir %s/mail\n",
		integration.Host, realm.Ports.POP3S, name, password, realm.Path("ca.pem"), dir, dir))
	if out, err := realm.Tool("").Run(t.Context(), "mpop", "-C", rc, "a"); err != nil {
		t.Fatal(out, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "mail", "new", "*"))
	if err != nil || len(files) != len(sent) {
		t.Errorf("%d files of %d messages, %v", len(files), len(sent), err)
	}
	p := secure(t, "127.0.0.1")
	defer p.Close()                 //nolint:errcheck // at the test's end
	p.Send("USER ju\u0308rgen\r\n") // the same name, decomposed
	p.Expect("+OK")
	p.Send("PASS pa\u0308sswo\u0308rter\r\n")
	p.Expect("+OK")
}

// pop4 is a session on the realm's POP4 listener.
func pop4(t *testing.T, r *integration.Realm, port int, user string) *talk {
	t.Helper()
	password, err := r.Password(user)
	if err != nil {
		t.Fatal(err)
	}
	c, err := popPlain(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), user, password, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestPOP4SeenByCyrus: every folder, flag and message that POP4 has made on a
// spool of ours is what Cyrus finds when it is started on it, and Cyrus finds
// nothing wrong.
func TestPOP4SeenByCyrus(t *testing.T) {
	t.Parallel()
	port, err := loopback.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "realm")
	r, err := integration.Up(t.Context(), dir, integration.Options{Kpopd: kpopdProgram(t), ExtraTOML: fmt.Sprintf(
		"failure_delay = \"1ms\"\n[listen.pop4]\naddress = \"127.0.0.1:%d\"\nprotocol = \"pop3\"\npassword_in_clear = true\npop4 = true\n", port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	kpop(t, r, "", "spool", "quota", "alice", "--storage", "10M")
	for _, message := range takenOver() {
		kpop(t, r, message, "deliver", "alice")
	}
	c := pop4(t, r, port, "alice")
	for _, step := range []string{
		"CFLD Work", "CFLD Work/2025", "CFLD Work/2025/old", "CFLD Entw&APw-rfe", `CFLD "To do"`, "CFLD gone",
		"COPY 1-3,5 Work/2025/old", `MOVE 2 "To do"`, "XFLG 1 +\\Flagged +\\Answered", "XFLG 3 +\\Seen", "COPY 1 Entw&APw-rfe",
		"RENF Work/2025 2026", "MOVF Entw&APw-rfe Work", "DFLD gone",
	} {
		if _, err := c.say(step, "+OK"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.say("STOR Work", "+OK"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.say("Subject: stored\r\n\r\n..dot\r\n.", "+OK"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Fatal(err)
	}
	c = pop4(t, r, port, "alice")
	folders, err := c.lines("LFLD")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.say("QUIT", "+OK"); err != nil { // or the daemon would wait for it
		t.Fatal(err)
	}
	kpop(t, r, "", "spool", "check")
	stopKpopd(t, r, syscall.SIGTERM)
	seenByCyrus(t, r, folders)
	kpop(t, r, "", "spool", "check")

	// Of a mailbox that Cyrus has renamed a trace is left, which is no mailbox.
	if err := r.StartKpopd(); err != nil {
		t.Fatal(err)
	}
	c = pop4(t, r, port, "alice")
	for _, step := range []string{"CFLD Work/2026", "COPY 1 Work/2026", "SFLD Work/2027/old", "STAT", "QUIT"} {
		if _, err := c.say(step, "+OK"); err != nil {
			t.Fatal(err)
		}
	}
	kpop(t, r, "", "spool", "check")
}

// seenByCyrus starts Cyrus on the spool and compares.
func seenByCyrus(t *testing.T, r *integration.Realm, folders []string) {
	t.Helper()
	var err error
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
	defer func() {
		if err := r.Cyrus.Stop(); err != nil {
			t.Error(err)
		}
		r.Cyrus = nil
	}()
	i, err := imapLogin(r, "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close() //nolint:errcheck // at the test's end
	must := func(command string) string {
		t.Helper()
		lines, err := i.imap(command)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	listed := must(`LIST "" *`)
	names := []string{"user.alice"}
	for _, line := range folders {
		_, rest, _ := strings.Cut(line, " ")
		_, name, _ := strings.Cut(rest, " ")
		if name = strings.Trim(name, `"`); name == "INBOX" {
			continue
		}
		dotted := strings.ReplaceAll(name, "/", ".")
		if !strings.Contains(listed, dotted) {
			t.Errorf("Cyrus does not list %s: %s", name, listed)
		}
		names = append(names, "user.alice."+dotted)
	}
	if want := []string{"user.alice", "user.alice.To do", "user.alice.Work", "user.alice.Work.2026", "user.alice.Work.2026.old", "user.alice.Work.Entw&APw-rfe"}; !slices.Equal(names, want) {
		t.Errorf("folders %q", names)
	}
	if strings.Contains(listed, "2025") || strings.Contains(listed, "gone") {
		t.Errorf("Cyrus lists what is not there any more: %s", listed)
	}
	if flags := must("FETCH 1:2 FLAGS"); !strings.Contains(flags, `\Answered \Flagged)`) || !strings.Contains(flags, `\Seen)`) {
		t.Errorf("flags: %s", flags)
	}
	must(`SELECT "INBOX.Work.2026.old"`)
	if all := must("FETCH 1:* RFC822.SIZE"); strings.Count(all, "FETCH") != 4 {
		t.Errorf("copies: %s", all)
	}
	must(`SELECT "INBOX.Work"`)
	if text := must("FETCH 1 BODY[]"); !strings.Contains(text, "Subject: stored") || !strings.Contains(text, "\n.dot") {
		t.Errorf("stored: %s", text)
	}
	must("STORE 1 +FLAGS (\\Seen)")
	must(`SELECT "INBOX.Work.Entw&APw-rfe"`)
	if flags := must("FETCH 1 FLAGS"); !strings.Contains(flags, `\Flagged`) {
		t.Errorf("flags of a copy: %s", flags)
	}
	for _, name := range names {
		if out, err := r.Cyrus.Run(t.Context(), "reconstruct", "-n", "-G", name); err != nil || strings.TrimSpace(out) != name {
			t.Errorf("reconstruct: %q, %v", out, err)
		}
		if out, err := r.Cyrus.Run(t.Context(), "mbexamine", "-q", name); err != nil || strings.Contains(out, "INCORRECT") {
			t.Errorf("mbexamine: %s, %v", out, err)
		}
	}
	// Cyrus goes on with what it has found: names that were used are free.
	must(`CREATE "INBOX.gone"`)
	must(`CREATE "INBOX.Work.2025"`)
	must(`RENAME "INBOX.Work.2026" "INBOX.Work.2027"`)
	must(`DELETE "INBOX.Work.2025"`)
}

// TestPOP4BesideCyrus: while Cyrus owns the spool, what changes folders or adds
// messages is refused, or done by Cyrus where it can be asked by IMAP.
func TestPOP4BesideCyrus(t *testing.T) {
	t.Parallel()
	port, err := loopback.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "realm")
	r, err := integration.Up(t.Context(), dir, integration.Options{
		Kpopd: kpopdProgram(t), Spool: integration.SpoolCyrus, ExtraTOML: fmt.Sprintf(
			"failure_delay = \"1ms\"\n[listen.pop4]\naddress = \"127.0.0.1:%d\"\nprotocol = \"pop3\"\npassword_in_clear = true\npop4 = true\n", port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	lmtp(t, r, "alice", "Subject: one\r\nMessage-ID: <1@c.test>\r\n\r\none", "Subject: two\r\nMessage-ID: <2@c.test>\r\n\r\ntwo", "Subject: three\r\nMessage-ID: <3@c.test>\r\n\r\nthree")
	play := func(c *talk, steps ...string) {
		t.Helper()
		for i := 0; i < len(steps); i += 2 {
			if _, err := c.say(steps[i], steps[i+1]); err != nil {
				t.Error(err)
			}
		}
	}
	c := pop4(t, r, port, "alice")
	const refused = "-ERR [SYS/PERM] Folders and messages are changed through Cyrus here, use IMAP"
	play(c, "CFLD Work", refused, "RENF Work Play", refused, "COPY 1 INBOX", refused, "MOVE 1 INBOX", refused,
		"XFLG 1 +\\Flagged", "+OK 1 \\Flagged", "SFLD INBOX", "+OK", "STAT", "+OK 3 ", "QUIT", "+OK")

	throughIMAP(t, r, r.Cyrus.IMAP)
	c = pop4(t, r, port, "alice")
	play(c, "CFLD Work", "+OK", "CFLD Work", "-ERR Folder exists already", "CFLD Play/x", "-ERR No such folder", "CFLD Work/Entw&APw-rfe", "+OK",
		"COPY 3,1 Work", "+OK", "MOVE 2 Work/Entw&APw-rfe", "+OK", "COPY 1 Play", "-ERR No such folder", "STOR Work", "+OK",
		"Subject: stored\r\n\r\n..dot\r\n.", "+OK Stored", "STOR Work", "+OK", "no header\r\n\r\n\x00\r\n.", "-ERR Message cannot be stored",
		"STOR Work", "+OK", ".", "+OK Stored", "RENF Work Arbeit", "+OK", "CFLD Play", "+OK", "MOVF Arbeit Play", "+OK", "DFLD Play", refused, "QUIT", "+OK")

	c = pop4(t, r, port, "alice")
	folders, err := c.lines("LFLD")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range folders {
		fields := strings.Fields(line)
		names = append(names, fields[0]+" "+fields[2])
	}
	if !slices.Equal(names, []string{"2 INBOX", "0 Play", "4 Play/Arbeit", "1 Play/Arbeit/Entw&APw-rfe"}) {
		t.Errorf("folders %q", folders)
	}
	play(c, "SFLD Play/Arbeit", "+OK", "XFLG 1", "+OK 1 \\Flagged", "QUIT", "+OK")
	if got := imapSubjects(t, r, "alice"); !slices.Equal(got, []string{"one", "three"}) {
		t.Errorf("in the INBOX: %q", got)
	}
	for _, name := range []string{"user.alice", "user.alice.Play", "user.alice.Play.Arbeit", "user.alice.Play.Arbeit.Entw&APw-rfe"} {
		if out, err := r.Cyrus.Run(t.Context(), "reconstruct", "-n", "-G", name); err != nil || strings.TrimSpace(out) != name {
			t.Errorf("reconstruct: %q, %v", out, err)
		}
	}
}
