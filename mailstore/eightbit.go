package mailstore

import "bytes"

// An EightBiter is a Maildrop that knows which messages may have octets above
// 0x7F in a header (RFC 6532), so that all others never pay for what is done to
// those. A Maildrop that is none has ASCII headers only.
type EightBiter interface {
	// EightBit lists those messages, ascending: all that have such octets, and
	// perhaps some that only look like it (see EightBitScan).
	EightBit() ([]Number, error)
}

// An EightBitScan looks for octets above 0x7F in the headers of a message that
// is given to it block by block: its own header, those of MIME parts, and those
// of messages within. It keeps a few octets whatever it is given.
//
// It knows no boundary: every line that begins with "--" is taken for one, and
// the lines up to the next empty one for a header. So it misses nothing, and
// may find something in the lines under a signature.
type EightBitScan struct {
	Found bool

	body   bool // between headers
	more   bool // this header says that another one follows it: a message within
	digest bool // parts may be messages without saying so (RFC 2046 section 5.1.5)
	border int  // how much of "\n--" the octets before end with, in a body
	length int  // octets of the current header line, without a CR at its end
	cr     bool // the octet before was a CR

	message, digests int // how much of messageType and digestType was just seen
}

const (
	boundaryMark = "\n--"
	messageType  = "message/"
	digestType   = "/digest"
)

// Add looks at the next octets.
func (s *EightBitScan) Add(b []byte) {
	for len(b) > 0 && !s.Found {
		if s.body {
			b = s.skip(b)
		} else {
			b = s.header(b)
		}
	}
}

// skip goes to the end of what may be a boundary's dashes.
func (s *EightBitScan) skip(b []byte) []byte {
	for s.border > 0 && len(b) > 0 { // a mark that crosses blocks
		switch {
		case b[0] == boundaryMark[s.border]:
			s.border++
		case b[0] == '\n':
			s.border = 1
		default:
			s.border = 0
		}
		b = b[1:]
		if s.border == len(boundaryMark) {
			s.begin(len("--"))
			return b
		}
	}
	if i := bytes.Index(b, []byte(boundaryMark)); i >= 0 {
		s.begin(len("--"))
		return b[i+len(boundaryMark):]
	}
	switch {
	case bytes.HasSuffix(b, []byte("\n-")):
		s.border = 2
	case bytes.HasSuffix(b, []byte("\n")):
		s.border = 1
	}
	return nil
}

// begin begins a header, whose first line has length octets already.
func (s *EightBitScan) begin(length int) {
	s.body, s.border, s.more, s.length, s.cr = false, 0, false, length, false
	s.message, s.digests = 0, 0
}

// header goes through a header, to its empty line.
func (s *EightBitScan) header(b []byte) []byte {
	for i, c := range b {
		switch {
		case c >= 0x80:
			s.Found = true
			return nil
		case c == '\n' && s.length == 0:
			s.endHeader()
			return b[i+1:]
		case c == '\n':
			s.length, s.cr = 0, false
			continue
		}
		if s.cr {
			s.length++ // the CR stood alone
		}
		if s.cr = c == '\r'; !s.cr {
			s.length++
		}
		s.match(c)
	}
	return nil
}

func (s *EightBitScan) endHeader() {
	if s.more || s.digest {
		s.begin(0)
		return
	}
	s.body, s.border = true, 1
}

// match looks for types after which another header follows.
func (s *EightBitScan) match(c byte) {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	s.message = progress(messageType, s.message, c)
	s.digests = progress(digestType, s.digests, c)
	if s.message == len(messageType) {
		s.more, s.message = true, 0
	}
	if s.digests == len(digestType) {
		s.digest, s.digests = true, 0
	}
}

// progress is how much of word is seen after c; its first octet occurs in it
// only once.
func progress(word string, seen int, c byte) int {
	switch c {
	case word[seen]:
		return seen + 1
	case word[0]:
		return 1
	}
	return 0
}
