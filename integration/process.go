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
)

// A Tool runs programs with a realm's environment.
type Tool struct {
	Env []string // added to the process's own
	Dir string
}

// Run runs a program to its end and gives all it printed. The error holds the
// output, for a test's log.
func (t Tool) Run(ctx context.Context, name string, args ...string) (string, error) {
	return t.Input(ctx, "", name, args...)
}

// Input is Run with text on standard input.
func (t Tool) Input(ctx context.Context, input, name string, args ...string) (string, error) {
	cmd := t.Command(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Command is a program that has not been started yet.
func (t Tool) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // G204: the harness runs what its callers name
	cmd.Env, cmd.Dir = append(os.Environ(), t.Env...), t.Dir
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// daemon starts a program that stays, with all its descriptors in files: a pipe
// held by a daemon hangs whoever started it. Its mark goes to DIR/NAME.pid.
func (r *Realm) daemon(name string, as *account, path string, args ...string) error {
	log, err := os.OpenFile(r.Path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()                  //nolint:errcheck // the daemon has its own descriptor
	cmd := exec.Command(path, args...) //nolint:gosec // G204: the harness names its daemons
	cmd.Env = append(os.Environ(), r.environment()...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.Dir, log, log
	cmd.SysProcAttr = as.attributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("integration: starting %s: %w", name, err)
	}
	pid := cmd.Process.Pid
	started, _ := startTime(pid)   // zero when it is gone already; listening will tell
	go func() { _ = cmd.Wait() }() // reaps it while this process lives
	return os.WriteFile(r.Path(name+".pid"), fmt.Appendf(nil, "%d %d\n", pid, started), 0o600)
}

// pid gives a daemon's process when it is alive and still the one that was
// started: a process number comes to belong to somebody else in time, a number
// together with its start time does not.
func (r *Realm) pid(name string) (int, bool) {
	b, err := os.ReadFile(r.Path(name + ".pid"))
	if err != nil {
		return 0, false
	}
	var pid int
	var started uint64
	if _, err := fmt.Sscan(string(b), &pid, &started); err != nil || pid < 2 {
		return 0, false
	}
	now, alive := startTime(pid)
	return pid, alive && now == started
}

// startTime is when a process began, in clock ticks since boot; false when there
// is none or only its exit status is left (proc(5), /proc/pid/stat).
func startTime(pid int) (uint64, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, false
	}
	// The second field is the program's name, in parentheses, and may hold
	// blanks and parentheses itself.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return ticks, err == nil
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
	if !Within(40*time.Second, gone) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return fmt.Errorf("integration: %s did not end when told to and was killed", name)
	}
	return os.Remove(r.Path(name + ".pid"))
}

// Within polls until ok holds or the time is over.
func Within(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// listening waits until a daemon answers on a port of loopback, or has ended.
func (r *Realm) listening(name string, port int) error {
	address := Loopback(port)
	answered, ended := false, false
	Within(20*time.Second, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if answered = err == nil; answered {
			_ = c.Close()
		}
		_, alive := r.pid(name)
		ended = !alive
		return answered || ended
	})
	if answered && !ended {
		return nil
	}
	return fmt.Errorf("integration: %s does not answer on %s; the end of %s:\n%s", name, address, r.Path(name+".log"), r.LogTail(name, 10))
}

// LogTail gives the last lines of a daemon's log.
func (r *Realm) LogTail(name string, lines int) string {
	b, err := os.ReadFile(r.Path(name + ".log"))
	if err != nil {
		return err.Error()
	}
	all := strings.SplitAfter(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
