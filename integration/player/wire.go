package player

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A Wire is what a network does to the octets that it carries. TCP keeps their
// order: what a program sees of lost and reordered packets are pauses, and much
// at once behind them.
type Wire struct {
	Cut   int           // octets of a segment, at most, drawn for each; 0: as they come
	Delay time.Duration // before what has come is sent on, at most, drawn each time
	Hold  time.Duration // what comes so soon behind other octets goes out with them

	// Dial connects to a port of loopback on the connection's behalf; nil: directly.
	Dial func(port int) (net.Conn, error)
}

// Lay carries connections to a port of loopback as w says, and tells its own
// port. It ends with the test.
func (w Wire) Lay(t testing.TB, port int) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dial := w.Dial
	if dial == nil {
		dial = func(port int) (net.Conn, error) {
			return net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		}
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := dial(port)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { w.join(client.(*net.TCPConn), server.(*net.TCPConn)) })
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// join carries octets both ways until both sides have said that they are done, or
// one is gone.
func (w Wire) join(client, server *net.TCPConn) {
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{client, server}, {server, client}} {
		both.Go(func() {
			if w.carry(way[0], way[1]) != nil {
				_, _ = way[0].Close(), way[1].Close()
				return
			}
			_ = way[1].CloseWrite()
		})
	}
	both.Wait()
	_, _ = client.Close(), server.Close()
}

// carry is one direction; nil is its orderly end.
func (w Wire) carry(from, to *net.TCPConn) error {
	block := make([]byte, 64<<10)
	for {
		n, err := w.gather(from, block)
		if w.Delay > 0 && n > 0 {
			time.Sleep(rand.N(w.Delay))
		}
		if sent := w.send(to, block[:n]); sent != nil {
			return sent
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// gather reads what is there, and what comes within Hold behind it.
func (w Wire) gather(from *net.TCPConn, block []byte) (int, error) {
	n, err := from.Read(block)
	for w.Hold > 0 && err == nil && n < len(block) {
		if err = from.SetReadDeadline(time.Now().Add(w.Hold)); err != nil {
			return n, err
		}
		var more int
		more, err = from.Read(block[n:])
		n += more
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = from.SetReadDeadline(time.Time{})
	}
	return n, err
}

// send sends each segment by a call of its own; Go lets none wait for another.
func (w Wire) send(to *net.TCPConn, octets []byte) error {
	for len(octets) > 0 {
		n := len(octets)
		if w.Cut > 0 {
			n = min(n, 1+rand.IntN(w.Cut))
		}
		if _, err := to.Write(octets[:n]); err != nil {
			return err
		}
		octets = octets[n:]
	}
	return nil
}
