package network

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Path is what becomes of the packets between two networks, either way.
type Path struct {
	Lost, Doubled float64       // how many of one
	Delay         time.Duration // of a packet, at most, drawn for each: so they overtake each other
	Gone          time.Duration // for so long nothing comes through
	Every         int           // after so many packets, again and again; 0: never
}

// Far is the network at the far end. There 127.0.0.1 is the near one's loopback.
type Far struct {
	path      Path
	namespace int // a descriptor

	seen, lost atomic.Int64
	back       atomic.Int64 // when the path is there again, in nanoseconds
}

// Lost is how many packets have not arrived.
func (f *Far) Lost() int64 { return f.lost.Load() }

// Lay makes a second network and the path to it. Both end with the test. The test
// must be in a network of its own.
func (p Path) Lay(t testing.TB) *Far {
	t.Helper()
	near, err := newTunnel("near", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"))
	if err != nil {
		t.Fatal(err)
	}
	far, f, err := newFar()
	if err != nil {
		t.Fatal(errors.Join(err, near.Close()))
	}
	f.path = p
	var running sync.WaitGroup
	running.Go(func() { f.carry(near, far) })
	running.Go(func() { f.carry(far, near) })
	t.Cleanup(func() {
		_, _, _ = near.Close(), far.Close(), unix.Close(f.namespace)
		running.Wait()
	})
	return f
}

// newFar makes the far network and its end of the path. The thread that does it is
// in there, and ends.
func newFar() (end *os.File, f *Far, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		// Its own loopback stays down, or 127.0.0.1 would be there.
		if end, err = newTunnel("far", netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("127.0.0.1")); err != nil {
			return
		}
		f = &Far{}
		if f.namespace, err = ownNamespace(); err != nil {
			err = errors.Join(err, end.Close())
		}
	}()
	<-done
	return end, f, err
}

func ownNamespace() (int, error) {
	return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// Dial connects from the far end to a TCP port of the near one's loopback.
func (f *Far) Dial(port int) (c net.Conn, err error) {
	runtime.LockOSThread()
	here, err := ownNamespace()
	if err != nil {
		return nil, err
	}
	defer func() {
		defer unix.Close(here)
		if back := unix.Setns(here, unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, back) // and the thread ends with its goroutine
			return
		}
		runtime.UnlockOSThread()
	}()
	if err := unix.Setns(f.namespace, unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	return net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// carry is one direction, until an end is closed.
func (f *Far) carry(from, to *os.File) {
	packet := make([]byte, 64<<10)
	for {
		n, err := from.Read(packet)
		if err != nil {
			return
		}
		copies := f.copies(time.Now())
		if copies == 0 {
			f.lost.Add(1)
		}
		for range copies {
			f.path.send(to, bytes.Clone(packet[:n]))
		}
	}
}

// copies is how many of the next packet arrive.
func (f *Far) copies(now time.Time) int {
	p := &f.path
	if p.Every > 0 && f.seen.Add(1)%int64(p.Every) == 0 {
		f.back.Store(now.Add(p.Gone).UnixNano())
	}
	switch {
	case now.UnixNano() < f.back.Load(), rand.Float64() < p.Lost:
		return 0
	case rand.Float64() < p.Doubled:
		return 2
	}
	return 1
}

func (p Path) send(to *os.File, packet []byte) {
	deliver := func() { _, _ = to.Write(packet) } // the end may be closed
	if p.Delay == 0 {
		deliver()
		return
	}
	time.AfterFunc(rand.N(p.Delay), deliver)
}
