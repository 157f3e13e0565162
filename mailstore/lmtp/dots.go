package lmtp

import (
	"bufio"
	"bytes"
	"io"
)

// A dotWriter puts a message on the wire behind DATA (RFC 5321 section 4.5.2), as it
// is: net/textproto's takes the line feed of CR CR LF for a bare one and gives it one
// more carriage return. A bare line feed gets one, for there must be none on the wire
// (RFC 5321 section 2.3.8): a receiver that takes it for a line's end would see an end
// mark where we saw none.
//
// Carriage returns that begin a line are held back until it is seen whether a dot
// follows: then the line is stuffed too, which no receiver minds, since it deletes a
// dot that begins a line with more behind it.
//
// Server: Cyrus's lmtpd drops lone carriage returns before it looks for the end mark,
// and would take what follows such a line for commands.
//
// The last line's end is held back: go-smtp, which was given nothing of the message,
// writes one ahead of the dot.
type dotWriter struct {
	out     *bufio.Writer
	returns int  // carriage returns that are held back
	ended   bool // a line's end is
	within  bool // octets of the line were written
}

func newDotWriter(w io.Writer) *dotWriter { return &dotWriter{out: bufio.NewWriterSize(w, inBuffer)} }

// Write implements io.Writer.
func (d *dotWriter) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		if d.ended {
			_, _ = d.out.WriteString("\r\n") // failed tells
			d.ended, d.within = false, false
		}
		switch rest[0] {
		case '\r':
			d.returns, rest = d.returns+1, rest[1:]
		case '\n':
			d.returns = max(d.returns-1, 0)
			d.giveReturns()
			d.ended, rest = true, rest[1:]
		default:
			n := bytes.IndexAny(rest, "\r\n")
			if n < 0 {
				n = len(rest)
			}
			d.text(rest[:n])
			rest = rest[n:]
		}
	}
	return len(b), d.failed()
}

// text writes octets of a line, behind the carriage returns before them.
func (d *dotWriter) text(b []byte) {
	if !d.within && b[0] == '.' {
		_ = d.out.WriteByte('.') // failed tells
	}
	d.giveReturns()
	_, _ = d.out.Write(b) // failed tells
	d.within = true
}

func (d *dotWriter) giveReturns() {
	for ; d.returns > 0; d.returns-- {
		_ = d.out.WriteByte('\r') // failed tells
	}
}

// failed is the error that a buffer keeps.
func (d *dotWriter) failed() error {
	_, err := d.out.Write(nil)
	return err
}

// finish writes all but the end of the last line.
func (d *dotWriter) finish() error {
	d.giveReturns()
	return d.out.Flush()
}
