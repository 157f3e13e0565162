package kpop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// Buffer sizes, in octets. Both kinds come from pools and are held only while
// there is work, so that a session at rest has neither.
const (
	readBuffer  = 4 << 10
	writeBuffer = 64 << 10
)

var (
	readBuffers  = sync.Pool{New: func() any { return new([readBuffer]byte) }}
	writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeBuffer+8<<10); return &b }}
)

// errHangUp ends a session without a word to the client.
var errHangUp = errors.New("kpop: connection ends")

// A conn is one client's connection below the states: lines in, replies out.
type conn struct {
	server *Server
	port   *Port
	log    *slog.Logger
	raw    net.Conn // as accepted
	rw     net.Conn // raw, or TLS, or a security layer over it
	peer   auth.Peer

	in      *[readBuffer]byte // nil while nothing is buffered
	inFrom  int
	inTo    int
	long    []byte // a SASL line that outgrew the read buffer
	out     *[]byte
	args    [2][]byte
	limit   time.Time // before login: when patience ends
	rest    func()    // called when the client has been silent for a while
	layered bool

	badCommands int
	failures    int
	stats       stats
	closed      atomic.Bool // by Kick or Shutdown
	busy        atomic.Bool // a command is being worked on
}

// stats is what a session's last log line counts.
type stats struct {
	retrieved, topped, deleted int
	octets                     int64 // of messages, before stuffing
	sent                       int64 // on the wire above TLS
}

// errLong is a line beyond its limit. The line has been read to its end.
var errLong = errors.New("kpop: line too long")

// readLine gives the next line without its line end; it is valid until the
// next call. A line longer than limit is dropped to its end and answered by
// errLong; no tail of it is ever taken for a command.
func (c *conn) readLine(limit int) ([]byte, error) {
	c.long = c.long[:0]
	scanned, dropping := 0, false
	for {
		if c.in != nil {
			if i := bytes.IndexByte(c.in[c.inFrom+scanned:c.inTo], '\n'); i >= 0 {
				line := c.in[c.inFrom : c.inFrom+scanned+i]
				c.inFrom += scanned + i + 1
				return c.wholeLine(line, limit, dropping)
			}
			scanned = c.inTo - c.inFrom
			if scanned > 0 && scanned >= readBuffer-c.inFrom {
				dropping = dropping || !c.stash(c.in[c.inFrom:c.inTo], limit)
				c.inFrom, c.inTo, scanned = 0, 0, 0
			}
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// stash keeps the beginning of a line that outgrew the read buffer. It says
// false, and keeps nothing, once the line is beyond its limit.
func (c *conn) stash(part []byte, limit int) bool {
	if len(c.long)+len(part) > limit {
		c.long = nil
		return false
	}
	c.long = append(c.long, part...)
	return true
}

func (c *conn) wholeLine(line []byte, limit int, dropping bool) ([]byte, error) {
	if dropping || len(c.long)+len(line) > limit {
		c.long = nil
		return nil, errLong
	}
	if len(c.long) > 0 {
		c.long = append(c.long, line...)
		line = c.long
	}
	return bytes.TrimSuffix(line, []byte{'\r'}), nil
}

// buffered says whether a whole line waits, so that its reply may share a
// packet with the one before.
func (c *conn) buffered() bool {
	return c.in != nil && bytes.IndexByte(c.in[c.inFrom:c.inTo], '\n') >= 0
}

// fill reads more, after what was answered so far has gone out. With nothing
// buffered it waits without holding a buffer.
func (c *conn) fill() error {
	if err := c.flush(); err != nil {
		return err
	}
	c.dropOut()
	if c.in != nil && c.inFrom == c.inTo {
		readBuffers.Put(c.in)
		c.in, c.inFrom, c.inTo = nil, 0, 0
	}
	if c.in == nil {
		return c.park()
	}
	if c.inFrom > 0 {
		copy(c.in[:], c.in[c.inFrom:c.inTo])
		c.inFrom, c.inTo = 0, c.inTo-c.inFrom
	}
	if err := c.rw.SetReadDeadline(c.patience()); err != nil {
		return err
	}
	n, err := c.rw.Read(c.in[c.inTo:])
	c.inTo += n
	if n > 0 {
		return nil
	}
	return err
}

// patience is when a client that says nothing is given up (RFC 1939 section 3:
// after login at least ten minutes). Before login it is fixed at accept and no
// octet renews it.
func (c *conn) patience() time.Time {
	if !c.limit.IsZero() {
		return c.limit
	}
	return time.Now().Add(c.server.Limits.idleTimeout())
}

// restAfter is how long a client is silent before memory that can be rebuilt is
// given back.
const restAfter = 3 * time.Second

// park waits for the client with no buffer held, and first for a little while
// with what makes the next answer cheap.
func (c *conn) park() error {
	c.busy.Store(false)
	defer c.busy.Store(true)
	if c.closed.Load() {
		return errHangUp
	}
	until := c.patience()
	if c.rest != nil && !c.layered {
		err := c.wait(time.Now().Add(restAfter))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.rest()
		c.long = nil
	}
	return c.wait(until)
}

// wait blocks until the client has sent something and reads it into a fresh
// buffer.
func (c *conn) wait(until time.Time) error {
	if err := c.rw.SetReadDeadline(until); err != nil {
		return err
	}
	if tcp, ok := c.rw.(*net.TCPConn); ok {
		return c.waitTCP(tcp)
	}
	// Under TLS or a security layer octets may wait above the socket. One octet
	// read into the connection itself waits for both.
	var first [1]byte
	n, err := c.rw.Read(first[:])
	if n == 0 {
		return err
	}
	c.in = readBuffers.Get().(*[readBuffer]byte)
	c.in[0], c.inFrom, c.inTo = first[0], 0, 1
	return nil
}

// waitTCP takes a buffer only when the socket has something to read.
func (c *conn) waitTCP(tcp *net.TCPConn) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		b := readBuffers.Get().(*[readBuffer]byte)
		n, rerr = syscall.Read(int(fd), b[:])
		if n > 0 {
			c.in, c.inFrom, c.inTo = b, 0, n
			return true
		}
		readBuffers.Put(b)
		return rerr != syscall.EAGAIN && rerr != syscall.EINTR //nolint:errorlint // errno from the system call itself
	})
	switch {
	case err != nil:
		return err
	case n > 0:
		return nil
	case rerr != nil:
		return rerr
	default:
		return errClosedByClient
	}
}

var errClosedByClient = errors.New("kpop: client closed the connection")

// reply appends text to what goes out next. It reaches the client when no whole
// command waits or the buffer is full.
func (c *conn) reply(parts ...string) error {
	b := c.output()
	for _, p := range parts {
		*b = append(*b, p...)
	}
	*b = append(*b, "\r\n"...)
	return c.relieve()
}

// put appends text to what goes out next.
func (c *conn) put(text string) {
	b := c.output()
	*b = append(*b, text...)
}

// output gives the output buffer to append to.
func (c *conn) output() *[]byte {
	if c.out == nil {
		c.out = writeBuffers.Get().(*[]byte)
	}
	return c.out
}

// relieve writes the output once it has grown to a buffer's worth.
func (c *conn) relieve() error {
	if len(*c.out) < writeBuffer {
		return nil
	}
	return c.flush()
}

func (c *conn) flush() error {
	if c.out == nil || len(*c.out) == 0 {
		return nil
	}
	if err := c.extendWrite(); err != nil {
		return err
	}
	n, err := c.rw.Write(*c.out)
	c.stats.sent += int64(n)
	*c.out = (*c.out)[:0]
	return err
}

// extendWrite gives the client its time to take the next piece.
func (c *conn) extendWrite() error {
	return c.rw.SetWriteDeadline(time.Now().Add(c.server.Limits.writeTimeout()))
}

// dropOut gives an empty output buffer back.
func (c *conn) dropOut() {
	if c.out == nil || len(*c.out) > 0 {
		return
	}
	if cap(*c.out) <= 2*writeBuffer {
		writeBuffers.Put(c.out)
	}
	c.out = nil
}

// close ends the connection, whatever else happened.
func (c *conn) close() {
	if c.in != nil {
		readBuffers.Put(c.in)
		c.in = nil
	}
	if c.out != nil {
		*c.out = (*c.out)[:0]
		c.dropOut()
	}
	_ = c.rw.Close()
	if c.rw != c.raw {
		_ = c.raw.Close()
	}
}

// tlsState gives the TLS state of now, nil without TLS.
func tlsState(rw net.Conn) *tls.ConnectionState {
	t, ok := rw.(*tls.Conn)
	if !ok {
		return nil
	}
	s := t.ConnectionState()
	return &s
}

// pause waits before a refusal is answered, unless the server ends.
func (c *conn) pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
