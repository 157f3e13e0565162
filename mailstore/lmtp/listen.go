package lmtp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Listen opens a unix socket, when address begins with a slash, or host:port.
// The mode is the socket's: whoever may write to it delivers mail. A socket that
// nobody listens on any more, left by a kill, is replaced.
func Listen(address string, mode fs.FileMode) (net.Listener, error) {
	f := Forwarder{Address: address}
	if f.network() == "tcp" {
		return net.Listen("tcp", address)
	}
	l, err := net.Listen("unix", address)
	if errors.Is(err, syscall.EADDRINUSE) && isStale(address) {
		if err := os.Remove(address); err != nil {
			return nil, fmt.Errorf("lmtp: a stale socket: %w", err)
		}
		l, err = net.Listen("unix", address)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(address, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func isStale(address string) bool {
	info, err := os.Lstat(address)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", address)
	if err == nil {
		_ = c.Close() // somebody is there
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
