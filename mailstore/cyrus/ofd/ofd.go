// Package ofd takes fcntl locks that belong to an open file description.
//
// Cyrus locks whole files with classic POSIX locks. Those belong to the
// process: two goroutines would both get the same exclusive lock, and closing
// any descriptor of the file drops it. Open-file-description locks (Linux 3.15
// and later) belong to one open() and conflict with POSIX locks in both
// directions, so they keep goroutines apart and Cyrus too.
//
// The wait is by polling: a blocking F_OFD_SETLKW holds an OS thread and
// cannot be cancelled. There is no deadlock detection: callers take locks in
// Cyrus's order and never hold one while they wait for the network.
package ofd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The poll starts often and slows down: most holders are gone within a
// millisecond, the others within a second.
const (
	firstWait = 1 * time.Millisecond
	lastWait  = 50 * time.Millisecond
)

// Lock locks the whole of f, as Cyrus does, and waits for it until ctx ends.
// An exclusive lock needs f open for writing.
func Lock(ctx context.Context, f *os.File, exclusive bool) error {
	return LockRange(ctx, f, exclusive, 0, 0)
}

// TryLock is Lock without waiting: false when somebody else holds f.
func TryLock(f *os.File, exclusive bool) (bool, error) {
	return TryLockRange(f, exclusive, 0, 0)
}

// Unlock gives back all that this open file holds. Closing f does too.
func Unlock(f *os.File) error {
	return UnlockRange(f, 0, 0)
}

// LockRange locks length octets of f from start; length 0 is to the end,
// however far the file grows. The octets need not exist.
func LockRange(ctx context.Context, f *os.File, exclusive bool, start, length int64) error {
	var timer *time.Timer
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		ok, err := TryLockRange(f, exclusive, start, length)
		if ok || err != nil {
			return err
		}
		if timer == nil {
			timer = time.NewTimer(wait)
			defer timer.Stop()
		} else {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ofd: %s is locked by another program: %w", f.Name(), ctx.Err())
		case <-timer.C:
		}
	}
}

// TryLockRange is LockRange without waiting.
func TryLockRange(f *os.File, exclusive bool, start, length int64) (bool, error) {
	kind := int16(unix.F_RDLCK)
	if exclusive {
		kind = unix.F_WRLCK
	}
	err := set(f, kind, start, length)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// UnlockRange gives back length octets from start.
func UnlockRange(f *os.File, start, length int64) error {
	return set(f, unix.F_UNLCK, start, length)
}

func set(f *os.File, kind int16, start, length int64) error {
	// Pid must be zero for the OFD commands.
	return control(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
}

// control runs the fcntl through SyscallConn: f.Fd() would put the file into
// blocking mode and lets the descriptor be closed under the call.
func control(f *os.File, cmd int, l *unix.Flock_t) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("ofd: %w", err)
	}
	var fcntlErr error
	err = conn.Control(func(fd uintptr) {
		for {
			fcntlErr = unix.FcntlFlock(fd, cmd, l)
			if !errors.Is(fcntlErr, unix.EINTR) {
				return
			}
		}
	})
	if err == nil {
		err = fcntlErr
	}
	if err != nil {
		return fmt.Errorf("ofd: lock %s: %w", f.Name(), err)
	}
	return nil
}
