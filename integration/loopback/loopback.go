// Package loopback finds ports for servers of tests.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The kernel gives clients ports from 32768 on: a server's port is taken from
// below, or a client of somebody else's could have it before the server binds it.
const first, last = 15000, 32000

// Free finds n different ports of 127.0.0.1 that nobody has bound, by TCP or UDP.
func Free(n int) ([]int, error) {
	var ports []int
	taken := map[int]bool{}
	for try := 0; len(ports) < n; try++ {
		if try > 1000 {
			return nil, fmt.Errorf("loopback: no free port between %d and %d", first, last)
		}
		port := first + rand.IntN(last-first)
		if !taken[port] && unbound(port) {
			taken[port] = true
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
