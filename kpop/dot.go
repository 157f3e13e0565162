package kpop

import "bytes"

// A stuffer turns stored octets into a multi-line reply (RFC 1939 section 3):
// bare line feeds become CRLF, lines that begin with a dot get another one. It
// is fed blocks; the state between them is two bits.
type stuffer struct {
	midLine bool // the octet before was not a line feed
	cr      bool // the octet before was a carriage return
}

var newlineDot = []byte("\n.")

// canonical appends a block all of whose lines end in CRLF.
func (s *stuffer) canonical(dst, src []byte) []byte {
	if len(src) == 0 {
		return dst
	}
	if !s.midLine && src[0] == '.' {
		dst = append(dst, '.')
	}
	s.end(src)
	for {
		i := bytes.Index(src, newlineDot)
		if i < 0 {
			return append(dst, src...)
		}
		dst = append(append(dst, src[:i+1]...), '.')
		src = src[i+1:]
	}
}

// any appends a block of whatever octets.
func (s *stuffer) any(dst, src []byte) []byte {
	for len(src) > 0 {
		if !s.midLine && src[0] == '.' {
			dst = append(dst, '.')
		}
		i := bytes.IndexByte(src, '\n')
		if i < 0 {
			s.end(src)
			return append(dst, src...)
		}
		crlf := i > 0 && src[i-1] == '\r' || i == 0 && s.cr
		dst = append(dst, src[:i]...)
		if !crlf {
			dst = append(dst, '\r')
		}
		dst = append(dst, '\n')
		s.midLine, s.cr = false, false
		src = src[i+1:]
	}
	return dst
}

func (s *stuffer) end(src []byte) {
	last := src[len(src)-1]
	s.midLine, s.cr = last != '\n', last == '\r'
}

// finish appends the line end that a last line without one is given, and the
// end mark.
func (s *stuffer) finish(dst []byte) []byte {
	if s.midLine {
		dst = append(dst, "\r\n"...)
	}
	return append(dst, ".\r\n"...)
}

// A topCounter finds where TOP ends: after the headers, the blank line and the
// asked number of body lines (RFC 1939 section 7).
type topCounter struct {
	lines  int64 // body lines still to come
	body   bool
	atLine bool // at the beginning of a line
	cr     bool // the line so far is a single CR
}

func newTopCounter(lines int64) *topCounter { return &topCounter{lines: lines, atLine: true} }

// take gives how many octets of the block belong to the answer, and whether
// the answer ends there.
func (t *topCounter) take(src []byte) (n int, done bool) {
	for n < len(src) {
		if t.body && t.lines == 0 {
			return n, true
		}
		i := bytes.IndexByte(src[n:], '\n')
		if i < 0 {
			t.cr = t.atLine && len(src) == n+1 && src[n] == '\r'
			t.atLine = false
			return len(src), false
		}
		empty := t.atLine && (i == 0 || i == 1 && src[n] == '\r') || t.cr && i == 0
		if t.body {
			t.lines--
		} else {
			t.body = empty
		}
		n += i + 1
		t.atLine, t.cr = true, false
	}
	return n, t.body && t.lines == 0
}
