//go:build integration

package cyrus

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

const cyrusBin = "/usr/lib/cyrus/bin/"

// asCyrus runs the test as Cyrus's user, since Cyrus's daemons refuse root and
// could not use root's files. In root's process it is true when all is done.
func asCyrus(t *testing.T) (done bool) {
	t.Helper()
	u, err := user.Lookup("cyrus")
	if err != nil {
		t.Fatalf("the packages cyrus-imapd and cyrus-clients are needed: %v", err)
	}
	uid, gid := must(strconv.Atoi(u.Uid)), must(strconv.Atoi(u.Gid))
	if os.Geteuid() == uid {
		return false
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "cyrus.test")
	if err := os.WriteFile(program, contents(t, must(os.Executable())), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as cyrus: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	return true
}

// A site is a private Cyrus's configuration in a directory of its own.
type site struct {
	root  string
	store *Store
}

func newSite(t *testing.T, more string) *site {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "kpop") // short: it holds unix sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	x := &site{root: root}
	for _, dir := range []string{"conf", "conf/db", "spool", "run", "lock"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "imapd.conf"), []byte(strings.ReplaceAll(`configdirectory: @/conf
defaultpartition: default
partition-default: @/spool
mboxname_lockpath: @/lock
proc_path: @/run/proc
servername: kpop.test
admins: cyrus
unixhierarchysep: yes
altnamespace: no
virtdomains: off
hashimapspool: yes
allowplaintext: yes
sasl_pwcheck_method: alwaystrue
sasl_mech_list: PLAIN
lmtpsocket: @/run/lmtp
umask: 077
`+more, "@", root)))
	c, err := imapdconf.Read(filepath.Join(root, "imapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	x.store, err = Open(Options{Config: c, Mode: Embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.store.Close() })
	return x
}

// tool runs one of Cyrus's tools.
func (x *site) tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cyrusBin+name, append([]string{"-C", filepath.Join(x.root, "imapd.conf")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// verify has Cyrus and us look for faults.
func (x *site) verify(t *testing.T, users ...string) {
	t.Helper()
	for _, u := range users {
		if out := strings.TrimSpace(x.tool(t, "reconstruct", "-n", "-G", "user/"+u)); out != "user/"+u {
			t.Errorf("reconstruct: %q", out)
		}
		if out := x.tool(t, "mbexamine", "-q", "user/"+u); strings.Contains(out, "INCORRECT") {
			t.Errorf("mbexamine: %s", out)
		}
		clean(t, x.store, u)
	}
}

// TestReconstruct: what we have made, filled, removed from and cleaned up,
// Cyrus finds nothing wrong with.
func TestReconstruct(t *testing.T) {
	if asCyrus(t) {
		return
	}
	x := newSite(t, "")
	ctx := context.Background()
	for _, u := range []string{"alice", "first.last"} {
		if err := x.store.CreateMailbox(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.store.SetQuota(ctx, "alice", Limits{StorageKiB: 10000, Messages: cyrusdb.Unlimited}); err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"alice", "first.last"} {
		for i, text := range oddMessages() {
			if _, err := x.store.Append(ctx, u, strings.NewReader(text), time.Time{}); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		}
	}
	x.verify(t, "alice", "first.last")
	expunge(t, x.store, "alice", 1, 3, 4)
	expunge(t, x.store, "first.last", 2)
	x.verify(t, "alice", "first.last")
	if _, err := x.store.Undelete(ctx, "alice", time.Time{}); err != nil {
		t.Fatal(err)
	}
	x.verify(t, "alice")
	expunge(t, x.store, "alice", 2)
	if _, err := x.store.Expire(ctx, "alice", 0); err != nil {
		t.Fatal(err)
	}
	x.verify(t, "alice", "first.last")
	if out := x.tool(t, "cyr_dbtool", filepath.Join(x.root, "conf/mailboxes.db"), "twoskip", "consistent"); !strings.Contains(out, "Yes") {
		t.Errorf("mailboxes.db: %s", out)
	}
}

// oddMessages have unusual forms.
func oddMessages() []string {
	return []string{
		"From: a@b.test\r\nDate: Mon, 1 Nov 2021 22:33:44 +0900\r\nSubject: plain\r\n\r\nbody\r\n",
		"Subject: bare line feeds\nDate: Tue, 2 Nov 2021 01:02:03 -0800\n\nbody\n",
		"", "\r\n", "\n", "no header at all", "Subject: no blank line\r\n", "Subject: no date\r\n\r\n.\r\n..\r\n",
		"Date: nonsense\r\n\r\nx\r\n", "Subject: nul\r\n\r\na\x00b\r\n", "Subject: cr\r\n\r\na\rb\r\n",
		"Subject: =?utf-8?q?caf=C3=A9?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n" +
			"Content-Type: text/html\r\n\r\n<p>\r\n--b--\r\n",
		"Subject: long\r\n\r\n" + strings.Repeat("0123456789\r\n", 30000),
	}
}

// TestBreakBesideCyrus is TestBreak with Cyrus looking: after a kill at every
// step, and our next access, reconstruct finds nothing to mend.
func TestBreakBesideCyrus(t *testing.T) {
	if asCyrus(t) {
		return
	}
	for _, a := range actions() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			x := newSite(t, "statuscache: yes\nsync_log: yes\n")
			breaks := 0
			breakAction(t, x.store.conf, a, everyBreak[:1], func(name string) {
				breaks++
				out := strings.TrimSpace(x.tool(t, "reconstruct", "-n", "-G", "user/alice"))
				if out != "user/alice" {
					t.Errorf("%s: reconstruct: %q", name, out)
				}
			})
			t.Logf("%d breaks", breaks)
		})
	}
}

// TestUpgradedIndex: an index that "reconstruct -V max" has made of one of Cyrus
// 2.3 lacks cyrus.header's CRC, and is changed as Cyrus itself changes it.
func TestUpgradedIndex(t *testing.T) {
	if asCyrus(t) {
		return
	}
	x := newSite(t, "")
	if err := x.store.CreateMailbox(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	sixMessages(t, x.store)
	for _, version := range []string{"9", "max"} {
		x.tool(t, "reconstruct", "-V", version, "user/alice")
	}
	if crc := must(x.store.Dump(t.Context(), "alice")).Index.HeaderFileCRC; crc != 0 {
		t.Errorf("Cyrus writes the CRC %08x: this shows nothing any more", crc)
	}
	expunge(t, x.store, "alice", 1, 3)
	appendMessage(t, x.store, "alice", "Subject: seven\r\n\r\nx\r\n")
	if got := texts(t, x.store); !slices.Equal(got, []string{"two", "four", "five", "six", "seven"}) {
		t.Errorf("%q", got)
	}
	// Version 9 has no gmtime, and what Cyrus makes of that is wrong.
	for line := range strings.Lines(x.tool(t, "reconstruct", "-n", "-G", "user/alice")) {
		if line = strings.TrimSpace(line); line != "user/alice" && !strings.HasSuffix(line, "mismatch: sentdate") && !strings.HasSuffix(line, "mismatch: gmtime") {
			t.Errorf("reconstruct: %q", line)
		}
	}
	clean(t, x.store, "alice")
}
