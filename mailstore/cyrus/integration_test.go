//go:build integration

package cyrus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
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
	imap  string
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
	for _, dir := range []string{"conf", "conf/db", "conf/socket", "spool", "run", "lock"} {
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

// master starts Cyrus and waits until it takes mail.
func (x *site) master(t *testing.T) {
	t.Helper()
	write(t, filepath.Join(x.root, "cyrus.conf"), []byte(strings.ReplaceAll(`START {
  recover cmd="ctl_cyrusdb -C @/imapd.conf -r"
}
SERVICES {
  imap cmd="imapd -C @/imapd.conf -U 30" listen="127.0.0.1:IMAP" prefork=1
  lmtp cmd="lmtpd -C @/imapd.conf -a" listen="@/run/lmtp" prefork=1
}
EVENTS {
  none cmd="true" period=1440
}
`, "@", x.root)))
	port := freePort(t)
	path := filepath.Join(x.root, "cyrus.conf")
	write(t, path, bytes.ReplaceAll(contents(t, path), []byte("IMAP"), []byte(strconv.Itoa(port))))
	log, err := os.Create(filepath.Join(x.root, "master.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(cyrusBin+"master", "-C", filepath.Join(x.root, "imapd.conf"), "-M", path, "-p", filepath.Join(x.root, "run/pid"), "-D")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		cmd.Wait()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its children, all in our group
	})
	deadline := time.Now().Add(30 * time.Second)
	for {
		c, err := net.Dial("unix", filepath.Join(x.root, "run/lmtp"))
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("master does not take mail: %v\n%s", err, contents(t, log.Name()))
		}
		time.Sleep(50 * time.Millisecond)
	}
	x.imap = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A talk is a line protocol's client.
type talk struct {
	net.Conn
	r *bufio.Reader
}

func dial(network, address string) (*talk, error) {
	c, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	return &talk{c, bufio.NewReader(c)}, nil
}

// say sends a line and reads up to the line that begins with one of ends.
func (c *talk) say(line string, ends ...string) (string, error) {
	if line != "" {
		if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
			return "", err
		}
	}
	for {
		answer, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		for _, end := range ends {
			if strings.HasPrefix(answer, end) {
				return answer, nil
			}
		}
		if strings.HasPrefix(answer, "5") || strings.HasPrefix(answer, "4") || strings.Contains(answer, " NO ") || strings.Contains(answer, " BAD ") {
			return "", fmt.Errorf("%q: %q", line, answer)
		}
	}
}

// deliver sends messages by LMTP, in one session.
func (x *site) deliver(to string, texts []string) error {
	c, err := dial("unix", filepath.Join(x.root, "run/lmtp"))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.say("", "220 "); err != nil {
		return err
	}
	if _, err := c.say("LHLO kpop.test", "250 "); err != nil {
		return err
	}
	for _, text := range texts {
		for _, step := range [][2]string{
			{"MAIL FROM:<>", "250"}, {"RCPT TO:<" + to + ">", "250"}, {"DATA", "354"}, {text + "\r\n.", "250"},
		} {
			if _, err := c.say(step[0], step[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestLive: a Cyrus master delivers, sets flags and expunges by IMAP, expires,
// and we deliver, read and delete, all on one mailbox. Afterwards nothing is
// lost, nothing is deleted that was not asked for, and nothing is wrong.
func TestLive(t *testing.T) {
	if asCyrus(t) {
		return
	}
	for _, mode := range []string{"delayed", "immediate"} {
		t.Run(mode, func(t *testing.T) { live(t, mode) })
	}
}

func live(t *testing.T, mode string) {
	x := newSite(t, "expunge_mode: "+mode+"\nstatuscache: yes\nsync_log: yes\nduplicatesuppression: no\n")
	ctx := context.Background()
	if err := x.store.CreateMailbox(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	x.master(t)
	stop := time.Now().Add(8 * time.Second)
	book := &ledger{seen: map[string]int{}}
	var sent sync.Map
	var group sync.WaitGroup
	running := func() bool { return time.Now().Before(stop) && !t.Failed() }
	group.Go(func() {
		for i := 0; running(); i++ {
			text := fmt.Sprintf("Subject: lmtp %d\r\nMessage-ID: <%d@lmtp.test>\r\n\r\nx", i, i)
			sent.Store(fmt.Sprintf("lmtp %d", i), true)
			if err := x.deliver("alice", []string{text}); err != nil {
				t.Errorf("lmtp: %v", err)
			}
		}
	})
	group.Go(func() {
		for i := 0; running(); i++ {
			sent.Store(fmt.Sprintf("own %d", i), true)
			text := fmt.Sprintf("Subject: own %d\r\n\r\nx\r\n", i)
			if _, err := x.store.Append(ctx, "alice", strings.NewReader(text), time.Time{}); err != nil {
				t.Errorf("append: %v", err)
			}
		}
	})
	for range 2 {
		group.Go(func() {
			for running() {
				x.popSession(t, book)
			}
		})
	}
	group.Go(func() {
		for running() {
			x.imapSession(t, book)
		}
	})
	group.Go(func() {
		for running() {
			cmd := exec.Command(cyrusBin+"cyr_expire", "-C", filepath.Join(x.root, "imapd.conf"), "-E", "1", "-X", "0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("cyr_expire: %v %s", err, out)
			}
		}
	})
	group.Wait()
	x.balance(t, book, &sent)
	x.verify(t, "alice")
}

func subject(text string) string {
	_, after, _ := strings.Cut("\r\n"+text, "\r\nSubject: ")
	line, _, _ := strings.Cut(after, "\r\n")
	return line
}

// popSession deletes every second message it finds, by what it has read.
func (x *site) popSession(t *testing.T, book *ledger) {
	d, err := x.store.Open(context.Background(), "alice", mailstore.Holder{})
	if errors.Is(err, mailstore.ErrInUse) {
		time.Sleep(time.Millisecond)
		return
	}
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer d.Close()
	var c mailstore.Changes
	var subjects []string
	for n := mailstore.Number(1); int(n) <= d.Len(); n++ {
		b, _, _, err := d.(mailstore.Appender).AppendMessage(nil, n, 1<<20)
		if errors.Is(err, mailstore.ErrGone) {
			continue
		}
		if err != nil {
			t.Errorf("read: %v", err)
			return
		}
		if n%2 == 0 {
			c.Deleted = append(c.Deleted, n)
			subjects = append(subjects, subject(string(b)))
		}
	}
	if err := d.Update(context.Background(), c); err != nil {
		t.Errorf("update: %v", err)
		return
	}
	book.mu.Lock()
	defer book.mu.Unlock()
	for _, s := range subjects {
		book.seen[s]++
	}
}

// imapSession flags the first message and expunges it by UID.
func (x *site) imapSession(t *testing.T, book *ledger) {
	c, err := dial("tcp", x.imap)
	if err != nil {
		t.Errorf("imap: %v", err)
		return
	}
	defer c.Close()
	var errs error
	say := func(line, end string) string {
		answer, err := c.say(line, end)
		errs = errors.Join(errs, err)
		return answer
	}
	say("", "* OK")
	say("a LOGIN alice x", "a OK")
	say("b SELECT INBOX", "b OK")
	answer, _ := c.say("c FETCH 1 (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])", "* 1 FETCH", "c ")
	var seq, uid int
	if _, err := fmt.Sscanf(answer, "* %d FETCH (UID %d", &seq, &uid); err == nil {
		line := say("", "Subject: ")
		say("", "c OK")
		say(fmt.Sprintf("d UID STORE %d +FLAGS (\\Deleted \\Seen kw)", uid), "d OK")
		say(fmt.Sprintf("e UID EXPUNGE %d", uid), "e OK")
		book.mu.Lock()
		book.seen[strings.TrimSpace(strings.TrimPrefix(line, "Subject: "))]++
		book.mu.Unlock()
	}
	say("f LOGOUT", "f OK")
	if errs != nil {
		t.Errorf("imap: %v", errs)
	}
}

// balance compares what was sent with what was deleted and what is there.
func (x *site) balance(t *testing.T, book *ledger, sent *sync.Map) {
	t.Helper()
	there := map[string]bool{}
	d := open(t, x.store, "alice")
	defer d.Close()
	for n := mailstore.Number(1); int(n) <= d.Len(); n++ {
		b, _, _, err := d.AppendMessage(nil, n, 1<<20)
		if err != nil {
			t.Errorf("message %d: %v", n, err)
			continue
		}
		there[subject(string(b))] = true
	}
	total := 0
	sent.Range(func(key, _ any) bool {
		total++
		name := key.(string)
		if deleted := book.seen[name] > 0; deleted == there[name] {
			t.Errorf("%q: deleted %v, there %v", name, deleted, there[name])
		}
		return true
	})
	t.Logf("%d sent, %d deleted, %d there", total, len(book.seen), len(there))
	if len(book.seen) < 10 {
		t.Error("too little has happened")
	}
}
