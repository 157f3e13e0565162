package kpop

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errSilent: the client has been silent for RestAfter; the session is to be
// parked.
var errSilent = errors.New("the client is silent")

// park waits for a silent client on a goroutine of its own, and goes on when
// octets have come or the wait has ended otherwise. The goroutine that served
// the session so far has ended: its stack, grown by a login's cryptography, is
// free, and this one's is the least that there is. Little may be called on it
// before the wait. BenchmarkIdle shows what it buys.
func (c *conn) park(ctx context.Context, silent state) {
	c.parkErr = c.awaitOctets()
	c.parked = true
	c.live(ctx, func(ctx context.Context) (string, state) { return c.goOn(ctx, silent) })
}

// awaitOctets returns when the socket has something to be read, of TLS too: a
// record that is whole would have been read before.
func (c *conn) awaitOctets() error {
	sys, err := c.tcp.SyscallConn()
	if err != nil {
		return err
	}
	for {
		err = sys.Read(readable)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		// The deadline in force may be an earlier one: limitWait.
		c.readBy = time.Time{}
		by, err := c.limitWait()
		if err != nil {
			return err
		}
		if !time.Now().Before(by) {
			return os.ErrDeadlineExceeded
		}
	}
}

// readable asks the kernel, without reading, whether a read would return.
func readable(fd uintptr) bool {
	ask := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // G115: descriptors are small
	for {
		n, err := unix.Poll(ask[:], 0)
		if err != unix.EINTR {
			return n > 0 || err != nil
		}
	}
}
