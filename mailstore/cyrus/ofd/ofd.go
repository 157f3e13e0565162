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

// The poll starts often and slows down slowly. Most holders are gone within a
// millisecond. But where others queue in the kernel for the same lock, as Cyrus's
// lmtpd does for a mailbox that gets much mail, the lock is free only for some
// fifty microseconds at a time, between one holder and the next: it takes dozens of
// tries to meet that, and with pauses of 50 ms seconds. After hundreds the holder
// is one that keeps it, as a reconstruct does.
const (
	firstWait = 1 * time.Millisecond
	lastWait  = 20 * time.Millisecond
	slower    = 128 // each pause is longer by one part of so many: 10 ms after a second
)

// Lock locks the whole of f, as Cyrus does, and waits for it until ctx ends.
// An exclusive lock needs f open for writing.
func Lock(ctx context.Context, f Descriptor, exclusive bool) error {
	return LockRange(ctx, f, exclusive, 0, 0)
}

// TryLock is Lock without waiting: false when somebody else holds f.
func TryLock(f Descriptor, exclusive bool) (bool, error) {
	return TryLockRange(f, exclusive, 0, 0)
}

// Unlock gives back all that this open file holds. Closing f does too.
func Unlock(f Descriptor) error {
	return UnlockRange(f, 0, 0)
}

// LockRange locks length octets of f from start; length 0 is to the end,
// however far the file grows. The octets need not exist.
func LockRange(ctx context.Context, f Descriptor, exclusive bool, start, length int64) error {
	ok, err := TryLockRange(f, exclusive, start, length)
	if ok || err != nil {
		return err
	}
	return poll(ctx, f, exclusive, start, length)
}

// poll takes a lock that somebody had a moment ago.
func poll(ctx context.Context, f Descriptor, exclusive bool, start, length int64) error {
	var pauses pauser
	defer pauses.close()
	for wait := firstWait; ; wait = min(wait+wait/slower, lastWait) {
		if err := pauses.wait(ctx, wait); err != nil {
			return fmt.Errorf("ofd: %s is locked by another program: %w", f.Name(), err)
		}
		ok, err := TryLockRange(f, exclusive, start, length)
		if ok || err != nil {
			return err
		}
	}
}

// TryLockRange is LockRange without waiting.
func TryLockRange(f Descriptor, exclusive bool, start, length int64) (bool, error) {
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
func UnlockRange(f Descriptor, start, length int64) error {
	return set(f, unix.F_UNLCK, start, length)
}

func set(f Descriptor, kind int16, start, length int64) error {
	// Pid must be zero for the OFD commands.
	return control(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
}

// A Descriptor is an open file: a *File or an *os.File.
type Descriptor interface {
	Name() string
	Close() error
}

func control(f Descriptor, cmd int, l *unix.Flock_t) error {
	var err error
	switch f := f.(type) {
	case *File:
		err = fcntl(f.fd, cmd, l)
	case *os.File:
		err = controlOS(f, cmd, l)
	default:
		err = unix.EBADF
	}
	if err != nil {
		return fmt.Errorf("ofd: lock %s: %w", f.Name(), err)
	}
	return nil
}

func fcntl(fd, cmd int, l *unix.Flock_t) error {
	for {
		if err := unix.FcntlFlock(uintptr(fd), cmd, l); err != unix.EINTR {
			return err
		}
	}
}

// controlOS runs the fcntl through SyscallConn: f.Fd() would put the file into
// blocking mode and lets the descriptor be closed under the call.
func controlOS(f *os.File, cmd int, l *unix.Flock_t) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	lock := *l // what the closure holds goes to the heap
	var fcntlErr error
	if err := conn.Control(func(fd uintptr) { fcntlErr = fcntl(int(fd), cmd, &lock) }); err != nil {
		return err
	}
	return fcntlErr
}
