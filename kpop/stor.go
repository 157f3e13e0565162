package kpop

import (
	"context"
	"errors"
	"io"
	"time"
)

// stor takes a message: STOR folder, then the message as RETR sends one.
func (p *pop4) stor(ctx context.Context, cmd *command) (state, error) {
	names, err := p.names(cmd, 1)
	if err != nil {
		return p, err
	}
	p.ok("Send the message and a line with a dot")
	message := &dataReader{conn: p.conn, left: p.terms.limits.MessageSize}
	err = p.folders.Append(context.WithoutCancel(ctx), names[0], message)
	switch drained := message.drain(); {
	case drained != nil:
		return p, drained
	case errors.Is(err, errTooLarge):
		return p, refTooLarge
	case err != nil:
		return p, p.folderRefusal("STOR", err)
	}
	p.ok("Stored")
	return p, nil
}

// errTooLarge: the client sends more than Limits.MessageSize.
var errTooLarge = errors.New("kpop: message is too large")

// errBrokenOff: the connection ended before the message. What became of the
// connection is dataReader.err: there may be an io.EOF in it, which a store could
// take for the message's end.
var errBrokenOff = errors.New("kpop: the message was broken off")

// A dataReader reads a message that the client sends, without its dots (RFC
// 1939 section 3), up to the end mark and not an octet further.
type dataReader struct {
	conn *conn
	left int64 // octets that may still come
	at   dataState
	over bool  // the end mark was read
	err  error // of the connection
}

// A dataState is where in a line the reader is.
type dataState int

const (
	lineStart dataState = iota
	lineDot             // behind a dot at the line's beginning
	lineDotCR           // behind a dot and a CR
	inLine
)

// Read implements io.Reader. When the connection ends before the end mark it
// fails: nothing of the message may be kept.
func (d *dataReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n := 0
	for n == 0 && !d.over {
		if d.err != nil {
			return 0, errBrokenOff
		}
		if d.conn.r == d.conn.w {
			d.err = d.fill()
			continue
		}
		n = d.take(p)
	}
	if d.left -= int64(n); d.left < 0 {
		return 0, errTooLarge
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// fill reads the next octets. The buffer is kept meanwhile: this client is not
// at rest.
func (d *dataReader) fill() error {
	c := d.conn
	if err := c.flush(); err != nil {
		return connError{err}
	}
	c.readBy = time.Now().Add(c.terms.limits.IdleTimeout)
	if err := c.raw.SetReadDeadline(c.readBy); err != nil {
		return connError{err}
	}
	c.takeIn()
	c.r, c.w = 0, 0
	n, err := c.nc.Read(c.in)
	if n == 0 {
		return connError{orEOF(err)}
	}
	c.w = n
	return nil
}

// take moves octets from the connection's buffer to p, which may be as short as
// one octet: a store that fills a block asks for its last one alone.
func (d *dataReader) take(p []byte) (n int) {
	c := d.conn
	for c.r < c.w && n < len(p) && !d.over {
		b := c.in[c.r]
		c.r++
		switch {
		case d.at == lineStart && b == '.':
			d.at = lineDot
			continue
		case d.at == lineDot && b == '\r':
			d.at = lineDotCR
			continue
		case d.at != inLine && d.at != lineStart && b == '\n':
			d.over = true
			continue
		case d.at == lineDotCR: // the CR that was held back; b is looked at again
			c.r--
			b = '\r'
		}
		p[n] = b
		n++
		if d.at = inLine; b == '\n' {
			d.at = lineStart
		}
	}
	return n
}

// drain reads what is left of the message, so that its text is never taken for
// commands. A client that goes on far beyond the limit is left.
func (d *dataReader) drain() error {
	d.left = drainMost
	var block [4 << 10]byte
	for !d.over {
		switch _, err := d.Read(block[:]); {
		case errors.Is(err, errTooLarge):
			return &ending{how: "endless message", reply: refTooLarge}
		case d.err != nil:
			return d.err
		}
	}
	return nil
}

// drainMost is what is read in vain of a message that was refused.
const drainMost = 64 << 20
