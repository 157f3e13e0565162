// Package loopback finds ports for servers of tests.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The kernel gives clients ports from 32768 on: a server's port is taken from
// below, or a client of somebody else's could have it before the server binds it.
const first, last = 15000, 32000

// given are the ports that this process has handed out, which their servers may
// not have bound yet. Each is a socket in the abstract namespace, so that other
// processes of ours see it, and it goes with the process.
var given struct {
	sync.Mutex
	marks []net.Listener
}

// mark takes a port for this process; it is false when it was given already.
func mark(port int) bool {
	l, err := net.Listen("unix", "@kpopd-loopback-"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	given.Lock()
	defer given.Unlock()
	given.marks = append(given.marks, l)
	return true
}

// Free finds n different ports of 127.0.0.1 that nobody has bound, by TCP or UDP,
// and that were given to nobody.
func Free(n int) ([]int, error) {
	var ports []int
	for try := 0; len(ports) < n; try++ {
		if try > 1000 {
			return nil, fmt.Errorf("loopback: no free port between %d and %d", first, last)
		}
		port := first + rand.IntN(last-first)
		if unbound(port) && mark(port) {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

// FreePort finds one.
func FreePort() (int, error) {
	ports, err := Free(1)
	if err != nil {
		return 0, err
	}
	return ports[0], nil
}

func unbound(port int) bool {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
