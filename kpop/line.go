package kpop

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// discardMost bounds what is read of a line that is too long already.
const discardMost = 1 << 20

// readLine returns the next line without its end, LF or CRLF. It sends what is
// gathered before it waits. A line longer than s allows is thrown away up to
// its LF and refused once: its tail is never run as a command.
//
// Client: a bare LF ends a line too, as it does for every server of the field.
func (c *conn) readLine(s state) ([]byte, error) {
	return c.readLimited(func(line []byte) int {
		if s.longLine(line) {
			return c.terms.limits.SASLLine
		}
		return c.terms.limits.LineLength
	})
}

func (c *conn) readLimited(limit func(line []byte) int) ([]byte, error) {
	if !c.parked {
		c.waitFrom = time.Time{}
	}
	c.parked = false
	for seen := c.r; ; {
		if i := bytes.IndexByte(c.in[seen:c.w], '\n'); i >= 0 {
			line := c.in[c.r : seen+i+1]
			c.r = seen + i + 1
			if len(line) > limit(line) {
				return nil, refTooLong
			}
			return trimEnd(line), nil
		}
		if c.first && c.w-c.r >= 2 {
			if end := c.foreign(c.in[c.r:c.w]); end != nil {
				return nil, end
			}
		}
		if n := c.w - c.r; n > 0 && n >= limit(c.in[c.r:c.w]) {
			return nil, c.discardLine()
		}
		held := c.w - c.r
		if err := c.await(held == 0); err != nil {
			return nil, err
		}
		seen = c.r + held
	}
}

func trimEnd(line []byte) []byte {
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}

// discardLine throws the current line away.
func (c *conn) discardLine() error {
	for gone := 0; gone < discardMost; {
		c.r = c.w
		if err := c.await(false); err != nil {
			return err
		}
		if i := bytes.IndexByte(c.in[c.r:c.w], '\n'); i >= 0 {
			c.r += i + 1
			return refTooLong
		}
		gone += c.w - c.r
	}
	return &ending{how: "endless line", reply: refTooLong}
}

// await sends all output, gives its buffer back, and waits for input. Where the
// session may be parked it returns errSilent when the wait becomes long.
func (c *conn) await(mayPark bool) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.releaseOut()
	if err := c.parkErr; err != nil {
		c.parkErr = nil
		return err
	}
	if !c.loggedIn {
		return c.fill()
	}
	if c.waitFrom.IsZero() {
		c.waitFrom = time.Now()
		c.waiting.Store(c.waitFrom.UnixNano())
		c.rested = false
	}
	for {
		by, err := c.limitWait()
		if err != nil {
			return err
		}
		if err = c.fill(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		// The deadline in force may be an earlier wait's (limitWait): only
		// time that has really passed counts.
		switch now := time.Now(); {
		case now.Before(by):
			c.readBy = time.Time{}
		case c.rested || c.layered:
			return err
		default:
			c.rest()
			if mayPark && c.tcp != nil {
				return errSilent
			}
		}
	}
}

// limitWait says by when the wait ends and sets the read deadline unless an
// earlier one is in force: an active client costs a timer operation every few
// seconds, not one for each command.
func (c *conn) limitWait() (time.Time, error) {
	by := c.waitFrom.Add(c.terms.limits.IdleTimeout)
	if soon := c.waitFrom.Add(c.terms.limits.RestAfter); !c.rested && !c.layered && soon.Before(by) {
		by = soon
	} else {
		c.rested = true
	}
	if !c.layered && !c.readBy.IsZero() && !c.readBy.After(by) && c.readBy.After(time.Now()) {
		return by, nil
	}
	c.readBy = by
	return by, c.raw.SetReadDeadline(by)
}

// rest lets the maildrop give memory back: the client is silent.
func (c *conn) rest() {
	c.rested = true
	if c.rester != nil {
		c.rester.Rest()
	}
}

// fill reads at least one octet more. While nothing is buffered it waits
// without a buffer.
func (c *conn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
		if c.direct != nil {
			return c.fillDirect()
		}
		c.releaseIn()
		// One octet read into the conn itself is enough to wake up; the rest
		// of it waits decrypted in the TLS connection.
		n, err := c.nc.Read(c.one[:])
		if n == 0 {
			return orEOF(err)
		}
		c.takeIn()
		c.w = copy(c.in, c.one[:n])
		return nil
	}
	if err := c.makeSpace(); err != nil {
		return err
	}
	n, err := c.nc.Read(c.in[c.w:])
	if n == 0 {
		return orEOF(err)
	}
	c.w += n
	return nil
}

func orEOF(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// fillDirect reads from the socket of a clear connection. The runtime calls
// readReady, and calls it again when the socket has become readable; between
// the two calls the session holds no buffer.
func (c *conn) fillDirect() error {
	if err := c.direct.Read(c.ready); err != nil {
		return err
	}
	switch {
	case c.readErr != nil:
		return os.NewSyscallError("read", c.readErr)
	case c.w == 0:
		return io.EOF
	}
	return nil
}

func (c *conn) readReady(fd uintptr) bool {
	c.takeIn()
	for {
		n, err := syscall.Read(int(fd), c.in)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			c.releaseIn()
			return false
		}
		c.w, c.readErr = max(n, 0), err
		return true
	}
}

// makeSpace makes room behind the octets that are held, by moving them to the
// front or into a longer buffer. readLimited keeps that length bounded, and
// LoginMemory the sum over all who have not logged in.
func (c *conn) makeSpace() error {
	if c.w < len(c.in) {
		return nil
	}
	held := c.in[c.r:c.w]
	if len(held) > len(c.in)/2 {
		if err := c.claim(2 * len(c.in)); err != nil {
			return err
		}
		longer := make([]byte, 2*len(c.in))
		c.w = copy(longer, held)
		c.returnPage()
		c.in = longer
	} else {
		c.w = copy(c.in, held)
	}
	c.r = 0
	return nil
}

// claim counts a long line's buffer while nobody has logged in.
func (c *conn) claim(octets int) error {
	if c.loggedIn {
		return nil
	}
	more := int64(octets) - c.claimed
	limit := int64(c.terms.limits.LoginMemory)
	if c.srv.early.Add(more) > limit && limit >= 0 {
		c.srv.early.Add(-more)
		return &ending{how: "no memory for a long line before login", reply: refBusy}
	}
	c.claimed += more
	return nil
}

func (c *conn) takeIn() {
	if c.in == nil {
		c.page = c.srv.pools.in.Get().(*[inSize]byte)
		c.in = c.page[:]
	}
}

func (c *conn) releaseIn() {
	c.returnPage()
	c.in, c.r, c.w = nil, 0, 0
	if c.claimed != 0 {
		c.srv.early.Add(-c.claimed)
		c.claimed = 0
	}
}

// returnPage gives the pooled read buffer back, wiped: it may have held a
// password, and the next session's line ends where it ends.
func (c *conn) returnPage() {
	if c.page != nil {
		clear(c.page[:])
		c.srv.pools.in.Put(c.page)
		c.page = nil
	}
}
