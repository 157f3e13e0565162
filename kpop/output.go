package kpop

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	inSize    = 4 << 10   // read buffer: some 400 pipelined commands
	outSize   = 128 << 10 // gathered replies
	blockSize = 256 << 10 // one read of a large message
)

// pools are a server's buffers. Arrays and not slices are kept, so that giving
// one back does not allocate.
type pools struct {
	in, out, block sync.Pool
}

func newPools() *pools {
	return &pools{
		in:    sync.Pool{New: func() any { return new([inSize]byte) }},
		out:   sync.Pool{New: func() any { return new([outSize]byte) }},
		block: sync.Pool{New: func() any { return new([blockSize]byte) }},
	}
}

// room makes sure that n octets, at most outSize, can be appended to c.out
// without growing it.
func (c *conn) room(n int) {
	if c.outPage == nil {
		c.outPage = c.srv.pools.out.Get().(*[outSize]byte)
		c.out = c.outPage[:0]
	}
	if cap(c.out)-len(c.out) < n {
		// The error is kept in c.wrErr, which the loop looks at.
		_ = c.flush()
	}
}

// put sends p behind what is gathered: by copy when it is short, else at once.
func (c *conn) put(p []byte) {
	if len(p) <= outSize/16 {
		c.room(len(p))
		c.out = append(c.out, p...)
		return
	}
	if c.flush() == nil {
		c.write(p)
	}
}

func (c *conn) putString(s string) {
	c.room(len(s))
	c.out = append(c.out, s...)
}

// flush sends what is gathered.
func (c *conn) flush() error {
	if len(c.out) > 0 {
		c.write(c.out)
		c.out = c.out[:0]
	}
	return c.wrErr
}

func (c *conn) write(p []byte) {
	if c.wrErr != nil {
		return
	}
	var n int
	if c.tls == nil && !c.layered {
		n, c.wrErr = c.writeRaw(p)
	} else {
		n, c.wrErr = c.nc.Write(p)
	}
	c.sent.Add(int64(n))
}

// writeRaw writes to the socket. A client that has taken anything when the
// deadline passes is slow, not gone: the rest goes out under a new one.
func (c *conn) writeRaw(p []byte) (sent int, err error) {
	for {
		c.limitWrite()
		n, err := c.raw.Write(p[sent:])
		sent += n
		if err == nil || n == 0 || !c.loggedIn || !errors.Is(err, os.ErrDeadlineExceeded) {
			return sent, err
		}
	}
}

// A patientConn is the socket as TLS and a layer have it, which write records and
// tokens of their own.
type patientConn struct {
	net.Conn
	c *conn
}

func (p patientConn) Write(b []byte) (int, error) { return p.c.writeRaw(b) }

// limitWrite renews the write deadline after login; before, one absolute
// deadline bounds everything, as that of hangUp does at the end. It is renewed when
// a quarter is used up, since that is a timer operation.
func (c *conn) limitWrite() {
	if !c.loggedIn || c.leaving {
		return
	}
	now := time.Now()
	if c.writeBy.Sub(now) < c.terms.limits.WriteTimeout*3/4 {
		c.writeBy = now.Add(c.terms.limits.WriteTimeout)
		if err := c.raw.SetWriteDeadline(c.writeBy); err != nil {
			c.wrErr = err
		}
	}
}

// releaseOut gives the output buffer back; it is empty.
func (c *conn) releaseOut() {
	if c.outPage != nil {
		c.srv.pools.out.Put(c.outPage)
		c.outPage, c.out = nil, nil
	}
}
