package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test's program stand for kpopd's: started with asSlack it says
// what slack it has, once it has seen to it.
func TestMain(m *testing.M) {
	if os.Getenv(asSlack) != "" {
		relaxTimers()
		now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		fmt.Print(now, err, os.Getpid())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const asSlack = "KPOPD_TEST_SLACK"

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
