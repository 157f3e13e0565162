package kpop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errSilent: the client has been silent for RestAfter; the session is to be
// parked.
var errSilent = errors.New("the client is silent")

// A lot is where sessions are parked whose clients are silent. None of them has a
// goroutine: one that waits for a socket has a stack of 4 KiB, which a login has
// made the runtime begin with and which the runtime never halves. One goroutine
// waits for all of them, by an epoll instance that the runtime's own poller waits
// for. That halves an idle session (BenchmarkIdle).
//
// It is the place for clear connections and for TLS: a record that is whole would
// have been read before.
type lot struct {
	mu     sync.Mutex
	queue  *os.File // the epoll instance; nil: not made yet
	parked map[uint64]*conn
	watch  bool      // the goroutine runs; it ends when nobody is parked
	next   time.Time // when the first of their waits ends; the queue's deadline
}

// park leaves c in state silent to the lot until octets have come, its wait has
// ended or it is stopped. The caller's goroutine must not touch c any more.
func (l *lot) park(ctx context.Context, c *conn, silent state) {
	c.idle, c.idleCtx = silent, ctx
	c.readBy = c.waitFrom.Add(c.terms.limits.IdleTimeout)
	if err := l.enter(c); err != nil {
		// The socket is closed, or nobody can watch it: it is read again, which
		// tells, and the session keeps its goroutine.
		l.wake(c.id, nil)
	}
}

// enter has c watched. On an error c may be parked all the same, for wake.
func (l *lot) enter(c *conn) error {
	// The lot keeps the time; the connection's own timer is not needed.
	deadlineErr := c.raw.SetReadDeadline(time.Time{})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked == nil {
		l.parked = map[uint64]*conn{}
	}
	l.parked[c.id] = c
	if deadlineErr != nil {
		return deadlineErr
	}
	if l.queue == nil {
		var err error
		if l.queue, err = newQueue(); err != nil {
			l.queue = nil
			return fmt.Errorf("kpop: epoll: %w", err)
		}
	}
	if err := l.control(unix.EPOLL_CTL_ADD, c); err != nil {
		return err
	}
	if !l.watch || c.readBy.Before(l.next) {
		l.next = c.readBy
		if err := l.queue.SetReadDeadline(l.next); err != nil {
			return fmt.Errorf("kpop: epoll: %w", err)
		}
	}
	if !l.watch {
		sys, err := l.queue.SyscallConn()
		if err != nil {
			return fmt.Errorf("kpop: epoll: %w", err)
		}
		l.watch = true
		go l.attend(sys)
	}
	return nil
}

// newQueue makes an epoll instance that the runtime's poller takes: it must not
// block.
func newQueue() (*os.File, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, os.NewSyscallError("epoll", err)
	}
	f := os.NewFile(uintptr(fd), "epoll")
	return f, f.SetReadDeadline(time.Time{}) // refused when the poller did not take it
}

// control changes what the queue knows of c's socket. It fails when that is
// closed. One event is told, and no more before the socket is added again.
func (l *lot) control(op int, c *conn) error {
	queue, err := l.queue.SyscallConn()
	if err != nil {
		return err
	}
	socket, err := c.tcp.SyscallConn()
	if err != nil {
		return err
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT}
	event.Fd, event.Pad = int32(c.id), int32(c.id>>32) //nolint:gosec // G115: the two halves of a number
	var ctlErr error
	err = socket.Control(func(fd uintptr) {
		err := queue.Control(func(epoll uintptr) { ctlErr = unix.EpollCtl(int(epoll), op, int(fd), &event) })
		ctlErr = errors.Join(err, ctlErr)
	})
	return errors.Join(err, ctlErr)
}

// wake lets the session of that number go on, if it is parked. Its wait has ended
// by err; nil: reading will tell.
func (l *lot) wake(id uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, there := l.parked[id]
	if !there {
		return
	}
	delete(l.parked, id)
	if l.queue != nil {
		_ = l.control(unix.EPOLL_CTL_DEL, c) // a closed socket has left by itself
	}
	if len(l.parked) == 0 && l.watch {
		_ = l.queue.SetReadDeadline(time.Unix(1, 0)) // attend looks whether it is needed
	}
	go c.resume(err)
}

// attend waits for the sockets of all parked sessions until there is none.
func (l *lot) attend(queue syscall.RawConn) {
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := queue.Read(func(fd uintptr) bool {
			n = ready(int(fd), events[:])
			return n > 0
		})
		if err != nil && !l.late(err) {
			return
		}
		for _, e := range events[:n] {
			l.wake(uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32, nil) //nolint:gosec // G115: the two halves of a number
		}
	}
}

// ready asks the kernel, without waiting, which sockets can be read.
func ready(epoll int, events []unix.EpollEvent) int {
	for {
		n, err := unix.EpollWait(epoll, events, 0)
		if err != unix.EINTR {
			return max(n, 0)
		}
	}
}

// late ends the waits that have been long enough, and says whether there are
// others. It looks at each; that is seldom. After another error than the
// deadline's nobody can be watched any more.
func (l *lot) late(cause error) bool {
	broken := !errors.Is(cause, os.ErrDeadlineExceeded)
	now := time.Now()
	var over []uint64
	l.mu.Lock()
	l.next = now.Add(time.Hour)
	for id, c := range l.parked {
		switch {
		case broken || !now.Before(c.readBy):
			over = append(over, id)
		case c.readBy.Before(l.next):
			l.next = c.readBy
		}
	}
	watch := len(l.parked) > len(over)
	l.watch = watch
	if watch {
		_ = l.queue.SetReadDeadline(l.next) // it has taken deadlines before
	}
	l.mu.Unlock()
	ended := os.ErrDeadlineExceeded
	if broken {
		ended = nil
	}
	for _, id := range over {
		l.wake(id, ended)
	}
	return watch
}

// resume goes on with a session that was parked.
func (c *conn) resume(err error) {
	ctx, silent := c.idleCtx, c.idle
	c.idleCtx, c.idle, c.readBy = nil, nil, time.Time{}
	c.parkErr, c.parked = err, true
	c.live(ctx, func(ctx context.Context) (string, state) { return c.goOn(ctx, silent) })
}
