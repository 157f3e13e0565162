package kpop

import "bytes"

// A dotWriter sends a stored message as a multi-line reply (RFC 1939 section
// 3): every line ends in CRLF, a line that begins with a dot gets a second one.
// A bare LF counts as a line end and becomes CRLF, so that no message text can
// pass for the end of the reply; a bare CR and NUL are sent as they are.
type dotWriter struct {
	c      *conn
	octets int64 // sent, without the stuffed dots: what LIST says
	inLine bool  // the last octet was not LF
	cr     bool  // the last octet was CR
}

// writeCanonical sends p, part of a message whose lines all end in CRLF, so
// that only dots have to be looked for, in one pass of a vectorised search.
func (d *dotWriter) writeCanonical(p []byte) {
	if len(p) == 0 {
		return
	}
	d.octets += int64(len(p))
	if !d.inLine && p[0] == '.' {
		d.c.putString(".")
	}
	d.inLine = p[len(p)-1] != '\n'
	for {
		i := indexLineDot(p)
		if i < 0 {
			d.c.put(p)
			return
		}
		d.c.put(p[:i+1])
		d.c.putString(".")
		p = p[i+1:]
	}
}

var lfDot = []byte("\n.")

const (
	dotsSparse = 128     // octets between two dots from which on looking for dots is the faster way
	dotsDense  = 4 << 10 // octets that are searched the other way after two dots with less between them
)

// indexLineDot is where the first line end with a dot behind it lies in p; -1:
// nowhere. What makes a message large is an attachment in base64, which has line
// ends but no dots: a dot is looked for and then what is before it. Where dots
// are frequent both are looked for at once (BenchmarkIndexLineDot).
func indexLineDot(p []byte) int {
	for at := 0; at < len(p); {
		i := bytes.IndexByte(p[at:], '.')
		if i < 0 {
			return -1
		}
		dot := at + i
		if dot > 0 && p[dot-1] == '\n' {
			return dot - 1
		}
		at = dot + 1
		if i < dotsSparse {
			end := min(at+dotsDense, len(p))
			if k := bytes.Index(p[at:end], lfDot); k >= 0 {
				return at + k
			}
			at = end
		}
	}
	return -1
}

// write sends p, part of any message.
func (d *dotWriter) write(p []byte) {
	for len(p) > 0 {
		if !d.inLine && p[0] == '.' {
			d.c.putString(".")
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			d.c.put(p)
			d.octets += int64(len(p))
			d.inLine, d.cr = true, p[len(p)-1] == '\r'
			return
		}
		if i > 0 {
			d.cr = p[i-1] == '\r'
		}
		if d.cr {
			d.c.put(p[:i+1])
			d.octets += int64(i) + 1
		} else {
			d.c.put(p[:i])
			d.c.putString("\r\n")
			d.octets += int64(i) + 2
		}
		d.inLine, d.cr = false, false
		p = p[i+1:]
	}
}

// end gives a last line its end and sends the end mark.
func (d *dotWriter) end() {
	if d.inLine {
		d.c.putString("\r\n")
		d.octets += 2
	}
	d.c.putString(".\r\n")
}

// A topCutter finds where TOP stops: after the header, the blank line and a
// number of body lines (RFC 1939 section 7).
type topCutter struct {
	lines  int64 // body lines left
	body   bool
	length int // octets of the current line so far: 0, 1 (a CR), 2 (anything longer)
}

// cut returns how much of p, the next part of the message, belongs to the
// reply, and whether that is the end of it.
func (t *topCutter) cut(p []byte) (n int, done bool) {
	for n < len(p) {
		if t.body && t.lines == 0 {
			return n, true
		}
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			t.extend(p[n:])
			return len(p), false
		}
		t.extend(p[n : n+i])
		if t.body {
			t.lines--
		}
		t.body = t.body || t.length < 2
		t.length = 0
		n += i + 1
	}
	return n, t.body && t.lines == 0
}

func (t *topCutter) extend(p []byte) {
	switch {
	case len(p) == 0:
	case t.length == 0 && len(p) == 1 && p[0] == '\r':
		t.length = 1
	default:
		t.length = 2
	}
}
