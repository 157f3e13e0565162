package main

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is how much later than asked the kernel may wake a thread, in
// nanoseconds; its own default is 50,000. While there is work the runtime's monitor
// sleeps for 20 µs at a time, which made a fifth of what a login costs ("GSSAPI login,
// clear, 8 clients" of make bench). Within 5 ms most kernels have a tick of their own
// (CONFIG_HZ=250), and the monitor wakes with that instead of by a timer, which is dear
// to a virtual machine.
//
// The monitor also takes the processor away from threads that wait for the disk. What
// the spool waits for gives it away itself (package ofd), but for sendfile(2), and what
// may not be late does not wait by such timers (there too).
const timerSlack = 5_000_000

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
	if program, err := os.Executable(); err == nil {
		restart(program)
	}
}

// restart starts program in the place of this one. It comes back only where that is
// not to be, as under an AppArmor profile that does not let it, and then leaves all as
// it was: syscall.Exec lowers the limit of descriptors to what the runtime found.
func restart(program string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var descriptors unix.Rlimit
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || now == 0 || now >= timerSlack || unix.Getrlimit(unix.RLIMIT_NOFILE, &descriptors) != nil {
		return
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0); err != nil {
		return
	}
	_ = unix.Exec(program, os.Args, append(os.Environ(), startedOnce+"=1"))
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &descriptors)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(now), 0, 0, 0) //nolint:gosec // G115: it is what the kernel gave
}
