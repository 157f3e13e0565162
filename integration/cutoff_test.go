//go:build integration

package integration_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// everyFault has each system call of a QUIT fail in each way; without it each
// is killed at, and fails in one.
var everyFault = flag.Bool("every-fault", false, "let every system call of QUIT fail in every way")

// A cutOff is a daemon that something befalls at one system call of QUIT.
type cutOff struct {
	realm *integration.Realm
	store *cyrus.Store // to look at the spool when the daemon is gone
	kpopd string
	mail  string
	trace string
}

// A systemCall is the nth of its name on a path.
type systemCall struct {
	name, path string
	n          int
}

func (c systemCall) String() string {
	return fmt.Sprintf("%s %d of %s", c.name, c.n, filepath.Base(c.path))
}

// TestQuitCutOff: the daemon is killed, or its disk is full or broken, at every
// system call by which a QUIT changes the disk. The maildrop is the one of before
// or the one of after, as the client was told, and whole in Cyrus's eyes.
func TestQuitCutOff(t *testing.T) {
	t.Parallel()
	x := newCutOff(t)
	x.fill(t)
	if got := x.quit(t, nil); got != "+OK" {
		t.Fatalf("undisturbed: %q", got)
	}
	x.holds(t, "undisturbed", "+OK")
	calls := x.calls(t)
	if len(calls) < 12 {
		t.Fatalf("a QUIT has more system calls than %v", calls)
	}
	for i, call := range calls {
		faults := []string{"signal=KILL", []string{"error=ENOSPC", "error=EIO"}[i%2]}
		if *everyFault {
			faults = []string{"signal=KILL", "error=ENOSPC", "error=EIO"}
		}
		for _, fault := range faults {
			x.cut(t, call, fault)
		}
	}
	t.Logf("%d system calls: %v", len(calls), calls)
}

func newCutOff(t *testing.T) *cutOff {
	t.Helper()
	r, err := integration.Up(t.Context(), filepath.Join(t.TempDir(), "realm"), integration.Options{
		Kpopd: kpopdProgram(t), ExtraTOML: "failure_delay = \"1ms\"\n", ImapdConf: "statuscache: yes\nsync_log: yes\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	x := &cutOff{realm: r, kpopd: r.Kpopd, mail: t.TempDir(), trace: r.Path("strace.out")}
	x.stop(t)
	conf, err := imapdconf.Read(r.Path("imapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	x.store, err = cyrus.Open(cyrus.Options{Config: conf, Mode: cyrus.Embedded, StateDir: r.Path("state")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.store.Close() })
	if err := x.store.SetQuota(t.Context(), "alice", cyrus.Limits{StorageKiB: 1000, Messages: 100}); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		write(t, filepath.Join(x.mail, fmt.Sprint(i+1, ".eml")), fmt.Sprintf("Subject: m%d\r\n\r\nx\r\n", i+1))
	}
	return x
}

func (x *cutOff) fill(t *testing.T) {
	t.Helper()
	if err := x.realm.Fill(t.Context(), "alice", x.mail); err != nil {
		t.Fatal(err)
	}
}

// stop ends the daemon, if it lives, and waits until it is gone.
func (x *cutOff) stop(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		pid, alive := x.realm.Pid()
		if !alive {
			return
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	t.Fatal("kpopd does not end")
}

// quit runs a session under strace that deletes messages 1, 2 and 5, and gives
// the first word of the answer to QUIT, nothing when there is none. It waits
// until the daemon has ended.
func (x *cutOff) quit(t *testing.T, options []string) string {
	t.Helper()
	// With one processor one thread runs all of QUIT: strace counts by thread.
	script := "#!/bin/sh\nexport GOMAXPROCS=1\nexec strace -D -f -y -qq -e signal=none -o " + x.trace + " " + strings.Join(options, " ") + " " + x.kpopd + " \"$@\"\n"
	if options == nil {
		script = strings.ReplaceAll(script, "-e signal=none", "-e signal=none -e trace="+strings.Join(changing, ","))
	}
	x.realm.Kpopd = x.realm.Path("traced")
	if err := os.WriteFile(x.realm.Kpopd, []byte(script), 0o700); err != nil { //nolint:gosec // G306: a script must be executable
		t.Fatal(err)
	}
	if err := x.realm.StartKpopd(); err != nil {
		t.Fatal(err)
	}
	defer x.stop(t)
	c, err := popLogin(x.realm, "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // the daemon ends
	for _, n := range []string{"1", "2", "5"} {
		if _, err := c.say("DELE "+n, "+OK"); err != nil {
			t.Fatal(err)
		}
	}
	line, _ := c.say("QUIT", "")
	word, _, _ := strings.Cut(line, " ")
	return word
}

// changing are the system calls that change a disk.
var changing = []string{"openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "renameat", "unlinkat", "linkat", "utimensat", "mkdirat"}

// A line of strace's is "pid name(arguments", where a descriptor is followed by
// its path in angle brackets and a name is quoted.
var traced = regexp.MustCompile(`^\d+ +(\w+)\((?:\d+<([^>]+)>|AT_FDCWD<[^>]*>, "([^"]+)")(.*)$`)

// calls are those of the session that was traced whole, as far as they change
// the spool, Cyrus's databases or the journal.
func (x *cutOff) calls(t *testing.T) []systemCall {
	t.Helper()
	b, err := os.ReadFile(x.trace)
	if err != nil {
		t.Fatal(err)
	}
	count := map[systemCall]int{}
	var calls []systemCall
	for line := range strings.Lines(string(b)) {
		m := traced.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || m[1] == "openat" && !strings.Contains(m[4], "O_TRUNC") {
			continue
		}
		call := systemCall{name: m[1], path: m[2] + m[3]}
		spool := strings.HasPrefix(call.path, x.realm.Path("spool")) || strings.HasPrefix(call.path, x.realm.Path("cyrus"))
		if !spool && !strings.Contains(call.path, ".journal") || strings.Contains(call.path, "/lock/") {
			continue
		}
		count[call]++
		call.n = count[call]
		calls = append(calls, call)
	}
	return calls
}

// cut has a fault befall one system call, and looks at what is left.
func (x *cutOff) cut(t *testing.T, call systemCall, fault string) {
	t.Helper()
	name := fmt.Sprintf("%s at %s", fault, call)
	for range 5 {
		x.fill(t)
		answer := x.quit(t, []string{
			"-P '" + call.path + "'", "-e trace=" + call.name, fmt.Sprintf("-e inject=%s:%s:when=%d", call.name, fault, call.n),
		})
		x.holds(t, name, answer)
		b, err := os.ReadFile(x.trace)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "(INJECTED)") || answer == "" {
			return
		}
		t.Logf("%s: another thread did it; again", name)
	}
	t.Errorf("%s: it did not happen", name)
}

// holds: the maildrop is what the client was told, and no eye finds a fault.
func (x *cutOff) holds(t *testing.T, name, answer string) {
	t.Helper()
	before, after := "m1 m2 m3 m4 m5 m6", "m3 m4 m6"
	got := strings.Join(x.subjects(t), " ")
	right := got == before
	switch answer {
	case "+OK":
		right = got == after
	case "":
		right = right || got == after // killed before the answer, or before the deed
	}
	if !right {
		t.Errorf("%s: QUIT was answered %q, and left are %q", name, answer, got)
	}
	faults, err := x.store.Check(t.Context(), "alice")
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	for _, f := range faults {
		t.Errorf("%s: %v", name, &f)
	}
	if answer == "-ERR" {
		return // nothing was done: our own check has said so
	}
	if out, err := x.realm.Reconstruct(t.Context(), t.TempDir(), "user.alice"); err != nil || strings.TrimSpace(out) != "user.alice" {
		t.Errorf("%s: reconstruct: %q, %v", name, out, err)
	}
}

// subjects are what a session of kpopd's next life finds.
func (x *cutOff) subjects(t *testing.T) []string {
	t.Helper()
	d, err := x.store.Open(t.Context(), "alice", mailstore.Holder{User: "alice"})
	// The threads of a process that was killed end one after another, and the
	// last one gives its locks back.
	for end := time.Now().Add(time.Minute); errors.Is(err, mailstore.ErrInUse) && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
		d, err = x.store.Open(t.Context(), "alice", mailstore.Holder{User: "alice"})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // only read
	var subjects []string
	for n := range mailstore.Number(d.Len()) {
		b, _, _, err := d.(mailstore.Appender).AppendMessage(nil, n+1, 1<<16)
		if err != nil {
			t.Errorf("message %d: %v", n+1, err)
		}
		subjects = slices.Concat(subjects, subjectsIn(strings.Split(string(b), "\r\n")))
	}
	return subjects
}
