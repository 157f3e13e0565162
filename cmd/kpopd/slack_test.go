package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test's program stand for kpopd's: started with asSlack it says
// what slack it has, once it has seen to it.
func TestMain(m *testing.M) {
	switch os.Getenv(asSlack) {
	case "":
		os.Exit(m.Run())
	case "nowhere":
		before := limits()
		restart("/nowhere/kpopd")
		fmt.Print(before == limits(), " ", before)
	default:
		relaxTimers()
		now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		fmt.Print(now, err, os.Getpid())
	}
	os.Exit(0)
}

const asSlack = "KPOPD_TEST_SLACK"

// limits are what restart touches: the slack, and how many descriptors there may be.
func limits() string {
	var descriptors unix.Rlimit
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return fmt.Sprint(now, err, unix.Getrlimit(unix.RLIMIT_NOFILE, &descriptors), descriptors.Cur, descriptors.Max)
}

// TestTimerSlack: every thread has it, and the process is the one that was started.
func TestTimerSlack(t *testing.T) {
	c := exec.Command(os.Args[0]) //nolint:gosec // G204: the test itself
	c.Env = append(os.Environ(), asSlack+"=1")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprint(timerSlack, nil, c.Process.Pid); string(out) != want {
		t.Errorf("slack, error and process ID are %q, want %q", out, want)
	}
}

// TestNoRestart: where the program may not be started once more it goes on as it is,
// with all the descriptors that it may have.
func TestNoRestart(t *testing.T) {
	c := exec.Command("/bin/sh", "-c", `ulimit -S -n 64; exec "$0"`, os.Args[0]) //nolint:gosec // G204: the test itself
	c.Env = append(os.Environ(), asSlack+"=nowhere")
	out, err := c.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "true ") {
		t.Errorf("%v; are they the same, and were before: %s", err, out)
	}
}
