// Package surrogate makes of a message with internationalised headers (RFC
// 6532) one that a client of plain POP3 can read, as RFC 6858 says: addresses
// become invalid ones whose display name tells what they were, the subject is
// encoded (RFC 2047), parameters of MIME fields and all other fields that
// cannot be shown are left out. Bodies stay octet for octet.
//
// The same message always gives the same surrogate, and it is read as a stream:
// nothing but the field at hand is in memory.
package surrogate

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/kpopd/kpopd/kpop/mimepart"
)

// MaxField is the most octets of a field that are understood. In a longer one
// each octet above 0x7F becomes a question mark.
const MaxField = 64 << 10

const bufferSize = 16 << 10

// A Reader reads a message's surrogate.
type Reader struct {
	in      *bufio.Reader
	parser  mimepart.Parser
	kind    mimepart.Kind
	broken  bool   // the line before had no end: it was longer than the buffer
	field   []byte // the header field so far
	long    bool   // the field is longer than MaxField; its beginning is out
	ready   []byte // not yet read
	err     error
	changed bool
}

// NewReader reads the surrogate of the message in r.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(r, bufferSize)}
}

// Changed says whether the surrogate differs from the message, once it is read
// to its end. When it does not, the message had no octet above 0x7F in a header.
func (s *Reader) Changed() bool { return s.changed }

// Read implements io.Reader.
func (s *Reader) Read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.parser.Plain() && len(s.field) == 0 {
			return s.in.Read(p)
		}
		s.step()
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// step takes one line, or a buffer full of a longer one.
func (s *Reader) step() {
	line, err := s.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	s.err = err
	if len(line) > 0 {
		if !s.broken {
			s.begin(line)
		}
		s.broken = line[len(line)-1] != '\n'
		s.take(line)
	}
	if s.err != nil {
		s.endField()
	}
}

// begin finds out what a new line is; a line that continues no field ends it.
func (s *Reader) begin(line []byte) {
	s.kind = s.parser.Line(line)
	if s.kind != mimepart.Header || line[0] != ' ' && line[0] != '\t' {
		s.endField()
	}
}

func (s *Reader) take(line []byte) {
	switch {
	case s.kind != mimepart.Header:
		s.ready = append(s.ready, line...)
	case s.long || len(s.field)+len(line) > MaxField:
		s.long = true
		s.ready = s.appendMasked(s.ready, s.field)
		s.field = s.field[:0]
		s.ready = s.appendMasked(s.ready, line)
	default:
		s.field = append(s.field, line...)
	}
}

func (s *Reader) appendMasked(dst, b []byte) []byte {
	for _, c := range b {
		if c >= 0x80 {
			c, s.changed = '?', true
		}
		dst = append(dst, c)
	}
	return dst
}

// endField puts the field that is complete now behind what is ready.
func (s *Reader) endField() {
	if isASCII(s.field) {
		s.ready = append(s.ready, s.field...)
	} else {
		s.changed = true
		s.ready = appendSurrogate(s.ready, s.field)
	}
	s.field, s.long = s.field[:0], false
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// unfold takes a field's line ends out (RFC 5322 section 2.2.3).
func unfold(b []byte) string {
	text := make([]byte, 0, len(b))
	for _, c := range b {
		if c != '\r' && c != '\n' {
			text = append(text, c)
		}
	}
	return string(bytes.Trim(text, " \t"))
}
