package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kpopd/kpopd/integration/loopback"
)

// A Tool is a command line with the realm's environment.
type Tool struct {
	Env []string // added to the process's own
	Dir string
}

// toolTime is the longest that a program may take.
const toolTime = 30 * time.Second

// Run runs a program to its end and gives all it printed. The error holds the
// output, for a test's log.
func (t Tool) Run(ctx context.Context, name string, args ...string) (string, error) {
	return t.Input(ctx, "", name, args...)
}

// Input is Run with text on standard input.
func (t Tool) Input(ctx context.Context, input, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // G204: the harness runs what its callers name
	cmd.Env, cmd.Dir = append(os.Environ(), t.Env...), t.Dir
	cmd.Stdin = strings.NewReader(input)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// daemon starts a program that stays, with all its descriptors in files: a pipe
// held by a daemon hangs whoever started it. Its pid goes to DIR/NAME.pid.
func (r *Realm) daemon(name, path string, args ...string) error {
	log, err := os.OpenFile(r.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the daemon has its own descriptor
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), r.environment()...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.Dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if name == "kpopd" {
		cmd.SysProcAttr.Credential = r.credential()
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("integration: starting %s: %w", name, err)
	}
	go func() { _ = cmd.Wait() }() // reaps it while this process lives
	return os.WriteFile(r.path(name+".pid"), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600)
}

// pid gives a daemon's process when it is alive and one of this realm's.
func (r *Realm) pid(name string) (int, bool) {
	b, err := os.ReadFile(r.path(name + ".pid"))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 2 {
		return 0, false
	}
	// A pid may have come to belong to somebody else: the realm's own
	// daemons work in its directory.
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	return pid, err == nil && cwd == r.Dir
}

// stop ends a daemon and waits until it is gone.
func (r *Realm) stop(name string) error {
	pid, alive := r.pid(name)
	if !alive {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("integration: stopping %s: %w", name, err)
	}
	gone := func() bool {
		_, alive := r.pid(name)
		return !alive
	}
	if !within(40*time.Second, gone) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return fmt.Errorf("integration: %s did not end when told to and was killed", name)
	}
	return os.Remove(r.path(name + ".pid"))
}

// within polls until ok holds or the time is over.
func within(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// answers says whether somebody listens on a port of loopback.
func answers(port int) bool {
	c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// listening waits until a port of loopback answers.
func (r *Realm) listening(name string, port int) error {
	if within(toolTime, func() bool { return answers(port) }) {
		return nil
	}
	const end = 1000
	log, _ := os.ReadFile(r.path(name + ".log"))
	return fmt.Errorf("integration: %s does not answer on 127.0.0.1:%d; see %s, which ends in\n%s",
		name, port, r.path(name+".log"), log[max(0, len(log)-end):])
}

// choosePort takes the first of the wanted ports that can be bound, or a free
// one.
func choosePort(wanted ...int) (int, error) {
	for _, p := range wanted {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err == nil {
			return p, l.Close()
		}
	}
	return loopback.FreePort()
}

// Signal sends a signal to one of the realm's daemons: kpopd, krb5kdc, slapd.
func (r *Realm) Signal(name string, s syscall.Signal) error {
	pid, alive := r.pid(name)
	if !alive {
		return fmt.Errorf("integration: %s is not running", name)
	}
	if err := syscall.Kill(pid, s); err != nil {
		return err
	}
	// A signal that stops or ends is at work when the last thread has felt it.
	switch {
	case s == syscall.SIGSTOP && !within(toolTime, func() bool { return allStopped(pid) }):
		return fmt.Errorf("integration: %s does not stop", name)
	case s == syscall.SIGKILL && !within(toolTime, func() bool { _, alive := r.pid(name); return !alive }):
		return fmt.Errorf("integration: %s does not end", name)
	}
	return nil
}

// allStopped says whether every thread of a process is stopped.
func allStopped(pid int) bool {
	states, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "stat"))
	for _, file := range states {
		b, err := os.ReadFile(file)
		_, behind, _ := strings.Cut(string(b), ") ")
		if err == nil && !strings.HasPrefix(behind, "T") {
			return false
		}
	}
	return err == nil && len(states) > 0
}

// StartKDC starts krb5kdc again over the database that is there.
func (r *Realm) StartKDC() error {
	if err := r.daemon("krb5kdc", "/usr/sbin/krb5kdc", "-n", "-r", RealmName); err != nil {
		return err
	}
	return r.listening("krb5kdc", r.Ports.KDC)
}
