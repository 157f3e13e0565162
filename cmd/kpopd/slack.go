package main

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is how much later than asked the kernel may wake a thread, in
// nanoseconds; its own default is a sixth of that. While there is work the runtime's
// monitor sleeps for 20 µs at a time, which made a tenth of what a login costs ("GSSAPI
// login, clear, 8 clients" of make bench). It also takes the processor away from
// threads that wait for the disk: with 1 ms other deliveries waited for it.
const timerSlack = 300_000

// startedOnce is in the environment of the second start, lest a kernel that forgets
// the slack have a third.
const startedOnce = "KPOPD_TIMERS_RELAXED"

// relaxTimers gives the process its timer slack (PR_SET_TIMERSLACK(2const)). Threads
// have that of the thread which made them, and the monitor is there before main: so
// the program is started once more, under the same process ID and before it has done
// or caught anything. Where somebody has given it more, as by TimerSlackNSec= of
// systemd.exec(5), or it cannot be started, nothing is changed.
func relaxTimers() {
	if os.Getenv(startedOnce) != "" {
		_ = os.Unsetenv(startedOnce)
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || now == 0 || now >= timerSlack {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0); err != nil {
		return
	}
	_ = unix.Exec(program, os.Args, append(os.Environ(), startedOnce+"=1")) // it only returns when it fails
}
