package sockets

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How a client that is gone without a word is found: its maildrop's lock should
// not wait for the idle timeout.
const (
	keepAliveAfter = 15 * time.Second
	keepAliveEvery = 15 * time.Second
	keepAliveTimes = 9
)

// listen opens a TCP socket. What is set on it an accepted connection inherits,
// so that this costs no system call for each. Multipath TCP is off: no client
// of POP3 asks for it, and every connection would be asked about.
func listen(address string) (net.Listener, error) {
	c := net.ListenConfig{KeepAlive: -1, Control: keepAlive}
	c.SetMultipathTCP(false)
	return c.Listen(context.Background(), "tcp", address)
}

func keepAlive(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		set := func(level, option, value int) {
			failed = errors.Join(failed, unix.SetsockoptInt(int(fd), level, option, value)) //nolint:gosec // G115: descriptors are small
		}
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveAfter.Seconds()))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveEvery.Seconds()))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveTimes)
	})
	return errors.Join(err, failed)
}
