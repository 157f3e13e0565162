package bodycache

import (
	"bytes"
	"fmt"
	"strings"
)

// A part is a message or a body part of one.
type part struct {
	headerOffset, headerSize, headerLines    int
	contentOffset, contentSize, contentLines int
	// The boundary that ended the part, with the line end before it, which
	// belongs to it (RFC 2046 section 5.1.1). It is counted by the multipart
	// around.
	boundarySize, boundaryLines int

	kind, subtype     string // in upper case
	params            []param
	id, description   *string
	encoding          *string
	md5, location     *string
	disposition       *string
	dispositionParams []param
	language          []string

	date, subject, inReplyTo, messageID *string
	from, sender, replyTo, to, cc, bcc  []address

	cached []byte // header fields kept for searches; of the top part only

	parts   []*part // of a multipart
	message *part   // of a message/rfc822

	contentGUID [20]byte // SHA-1 of the decoded content
	decodedSize int
}

// Content types of parts without one (RFC 2045 section 5.2, RFC 2046 section
// 5.1.5).
const (
	defaultType = "TEXT/PLAIN; CHARSET=us-ascii"
	digestType  = "MESSAGE/RFC822"
)

// A parser walks through a message once, line by line, as Cyrus does.
type parser struct {
	data       []byte
	at         int
	boundaries []string // of the multiparts around, outermost first
	depth      int
	parts      int
	maxLines   int
}

func distrust(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDistrusted, fmt.Sprintf(format, args...))
}

func parse(message []byte, maxLines int) (*part, error) {
	if bytes.IndexByte(message, 0) >= 0 {
		return nil, distrust("a NUL")
	}
	p := &parser{data: message, maxLines: maxLines}
	return p.body(defaultType, true)
}

// body parses a part: its header, then what its type says.
func (p *parser) body(defaultType string, top bool) (*part, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, distrust("parts nest deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	if p.parts++; p.parts > maxParts {
		return nil, distrust("more than %d parts", maxParts)
	}
	b := &part{}
	ended, err := p.header(b, top)
	if err != nil {
		return nil, err
	}
	if b.kind == "" {
		if err := b.setType(defaultType); err != nil {
			return nil, err
		}
	}
	if err := b.checkCharset(); err != nil {
		return nil, err
	}
	switch {
	case b.kind == "MULTIPART":
		if !ended {
			err = p.multipart(b)
		}
	case b.isMessage():
		err = p.embedded(b, ended)
	case !ended:
		p.content(b, b)
	}
	return b, err
}

func (b *part) isMessage() bool { return b.kind == "MESSAGE" && b.subtype == "RFC822" }

// embedded parses the message within a message/rfc822.
func (p *parser) embedded(b *part, ended bool) (err error) {
	if ended {
		b.message = &part{}
		return b.message.setType(defaultType)
	}
	start := p.at
	if b.message, err = p.body(defaultType, false); err != nil {
		return err
	}
	m := b.message
	b.contentSize = m.headerSize + m.contentSize
	b.contentLines = m.headerLines + m.contentLines
	b.boundarySize, b.boundaryLines = m.boundarySize, m.boundaryLines
	b.hashContent(p.data[start : start+b.contentSize])
	return nil
}

// multipart parses the parts between boundaries.
func (p *parser) multipart(b *part) error {
	boundary, err := b.boundary()
	if err != nil {
		return err
	}
	if boundary == nil {
		p.content(b, b) // no boundary parameter: one lump
		return nil
	}
	p.boundaries = append(p.boundaries, *boundary)
	depth := len(p.boundaries)
	var preamble, epilogue part
	p.content(&preamble, nil)
	child := defaultType
	if b.subtype == "DIGEST" {
		child = digestType
	}
	for len(p.boundaries) == depth {
		sub, err := p.body(child, false)
		if err != nil {
			return err
		}
		b.parts = append(b.parts, sub)
		if p.at == len(p.data) && sub.boundarySize == 0 {
			p.boundaries = p.boundaries[:0] // the message ends, and all multiparts with it
		}
	}
	switch {
	case len(p.boundaries) == depth-1:
		p.content(&epilogue, nil)
	case len(b.parts) > 0: // the boundary of a multipart around ended the last part
		b.takeBoundary(b.parts[len(b.parts)-1])
	default:
		b.takeBoundary(&preamble)
	}
	b.sum(&preamble, &epilogue)
	return nil
}

// boundary is the multipart's parameter.
func (b *part) boundary() (*string, error) {
	for i := range b.params {
		switch b.params[i].name {
		case "BOUNDARY":
			return &b.params[i].value, nil
		case "BOUNDARY*":
			return nil, distrust("an encoded boundary")
		}
	}
	return nil, nil
}

// takeBoundary moves the boundary of a multipart around up from a part.
func (b *part) takeBoundary(from *part) {
	b.boundarySize, b.boundaryLines = from.boundarySize, from.boundaryLines
	from.boundarySize, from.boundaryLines = 0, 0
}

// sum counts a multipart's content from what it is made of.
func (b *part) sum(preamble, epilogue *part) {
	b.contentSize = preamble.contentSize + preamble.boundarySize + epilogue.contentSize
	b.contentLines = preamble.contentLines + preamble.boundaryLines + epilogue.contentLines
	for _, s := range b.parts {
		b.contentSize += s.headerSize + s.contentSize + s.boundarySize
		b.contentLines += s.headerLines + s.contentLines + s.boundaryLines
	}
	b.boundarySize += epilogue.boundarySize
	b.boundaryLines += epilogue.boundaryLines
}

// line takes the next line, with its line feed.
func (p *parser) line() []byte {
	rest := p.data[p.at:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i+1]
	}
	p.at += len(rest)
	return rest
}

// content takes lines up to a boundary into b. Its decoded form is hashed for
// typed, unless that is nil: nobody asks for a preamble's.
func (p *parser) content(b, typed *part) {
	start := p.at
	for p.at < len(p.data) {
		line := p.line()
		if p.pending(line) {
			b.boundarySize = len(line)
			b.boundaryLines++
			if b.contentLines > 0 {
				b.contentLines--
				b.boundaryLines++
			}
			if b.contentSize > 1 {
				b.contentSize -= 2
				b.boundarySize += 2
			}
			break
		}
		b.contentSize += len(line)
		if line[len(line)-1] == '\n' {
			b.contentLines++
		}
	}
	if typed != nil {
		typed.hashContent(p.data[start : start+b.contentSize])
	}
}

// pending tells whether a line is a boundary of a multipart around, and ends
// the multiparts that it ends.
func (p *parser) pending(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("--"))
	if !ok {
		return false
	}
	for i, boundary := range p.boundaries {
		after, ok := bytes.CutPrefix(rest, []byte(boundary))
		if !ok {
			continue
		}
		if bytes.HasPrefix(after, []byte("--")) {
			p.boundaries = p.boundaries[:i]
		} else if len(after) > 1 && !isSpace(after[0]) {
			continue // a longer boundary begins like this one
		}
		return true
	}
	return false
}

// header takes a part's header and reads its fields. ended is true when a
// boundary came before the header's end.
func (p *parser) header(b *part, top bool) (ended bool, err error) {
	b.headerOffset = p.at
	end := p.at
	for p.at < len(p.data) {
		start := p.at
		line := p.line()
		if line[0] == '-' && p.pending(line) {
			b.boundarySize = len(line)
			b.boundaryLines++
			if start > b.headerOffset {
				b.boundarySize += 2
				b.boundaryLines++
				end -= 2
			}
			ended = true
			break
		}
		end = p.at
		if string(line) == "\r\n" {
			break
		}
	}
	b.contentOffset = p.at
	text := string(p.data[b.headerOffset:max(end, b.headerOffset)])
	b.headerSize = len(text)
	b.headerLines = strings.Count(text, "\n")
	if err := p.trusted(text); err != nil {
		return ended, err
	}
	return ended, b.fields(text, top)
}

// trusted refuses headers whose lines are not told apart by CRLF alone, and
// those that Cyrus would not read to their end.
func (p *parser) trusted(text string) error {
	if len(text) > maxHeaderSize {
		return distrust("a header of %d octets", len(text))
	}
	n := strings.Count(text, "\r\n")
	if n != strings.Count(text, "\n") || n != strings.Count(text, "\r") {
		return distrust("a bare CR or LF in a header")
	}
	if n > p.maxLines {
		return distrust("a header of %d lines", n)
	}
	return nil
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }
