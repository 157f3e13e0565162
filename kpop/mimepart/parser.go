// Package mimepart follows the structure of a message (RFC 2045, RFC 2046) line
// by line: where headers, bodies and boundaries are. It holds no more of a
// message than one Content-Type field, and gives up nothing: whatever is
// malformed or too deep is body.
package mimepart

import (
	"bytes"
	"mime"
	"strings"
)

// Limits of what is followed.
const (
	MaxDepth    = 32      // multiparts and messages within one another
	maxField    = 8 << 10 // octets of a Content-Type field that is understood
	maxBoundary = 200     // RFC 2046 section 5.1.1 gives 70
)

// A Kind is what a line is.
type Kind int

// The kinds.
const (
	Header   Kind = iota // part of a header
	Blank                // the empty line that ends a header
	Body                 // part of a body, a preamble or an epilogue
	Boundary             // begins the next part of a multipart
	Close                // ends a multipart
)

// A Parser tells what lines are. Its zero value is at the beginning of a
// message's header.
type Parser struct {
	open   []frame
	body   bool
	within int    // messages that the current part is within
	field  []byte // Content-Type or Content-Transfer-Encoding, so far
	typ    string // of the current header's entity
	params map[string]string
	opaque bool   // its body is encoded: nothing of it can be followed
	ended  string // type of the entity whose header ended last
}

// A frame is an open multipart.
type frame struct {
	boundary string
	digest   bool
	within   int
}

// InHeader says whether the next line is a header's, unless it is a boundary.
// After a Blank it means that a message follows within this one.
func (p *Parser) InHeader() bool { return !p.body }

// Plain says that all that follows is body.
func (p *Parser) Plain() bool { return p.body && len(p.open) == 0 }

// Line tells what the next line is. It may lack its line end when it is the
// last one; of a line longer than a buffer the first part will do, and what
// follows it is of the same kind.
func (p *Parser) Line(line []byte) Kind {
	if len(p.open) > 0 && len(line) > 2 && line[0] == '-' && line[1] == '-' {
		if kind, found := p.boundary(line[2:]); found {
			return kind
		}
	}
	if p.body {
		return Body
	}
	if len(trim(line)) == 0 {
		p.endHeader()
		return Blank
	}
	p.header(line)
	return Header
}

func trim(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// boundary compares a line with the boundaries of all open multiparts: a part
// that was not closed ends with the one around it.
func (p *Parser) boundary(line []byte) (Kind, bool) {
	line = bytes.TrimRight(line, " \t\r\n")
	for i := len(p.open) - 1; i >= 0; i-- {
		f := &p.open[i]
		rest, ok := bytes.CutPrefix(line, []byte(f.boundary))
		switch {
		case !ok:
			continue
		case len(rest) == 0:
			p.open = p.open[:i+1]
			p.begin(f.within)
			if f.digest {
				p.typ = "message/rfc822"
			}
			return Boundary, true
		case string(rest) == "--":
			p.open = p.open[:i]
			p.body = true
			return Close, true
		}
	}
	return Body, false
}

func (p *Parser) begin(within int) {
	p.body, p.within = false, within
	p.field, p.params, p.opaque = nil, nil, false
	p.typ = "text/plain" // RFC 2045 section 5.2
}

func (p *Parser) header(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		if p.field != nil && len(p.field)+len(line) <= maxField {
			p.field = append(p.field, line...)
		}
		return
	}
	p.endField()
	if name, _, ok := bytes.Cut(line, []byte(":")); ok && len(line) <= maxField {
		switch strings.ToLower(string(bytes.TrimRight(name, " \t"))) {
		case "content-type", "content-transfer-encoding":
			p.field = append([]byte(nil), line...)
		}
	}
}

func (p *Parser) endField() {
	if p.field == nil {
		return
	}
	name, value, _ := strings.Cut(string(p.field), ":")
	p.field = nil
	value = strings.NewReplacer("\r", "", "\n", "").Replace(value)
	if len(strings.TrimRight(name, " \t")) == len("content-type") {
		p.setType(value)
		return
	}
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "base64", "quoted-printable":
		p.opaque = true
	}
}

// setType takes a Content-Type's value. Where the parameters are broken, the
// boundary may be readable all the same.
func (p *Parser) setType(value string) {
	typ, params, err := mime.ParseMediaType(value)
	if err != nil {
		first, rest, _ := strings.Cut(value, ";")
		typ = strings.ToLower(strings.TrimSpace(first))
		params = map[string]string{"boundary": looseBoundary(rest)}
	}
	p.typ, p.params = typ, params
}

// looseBoundary finds a boundary among parameters that are not well-formed:
// octets above 0x7F in a name beside it, for one.
func looseBoundary(s string) string {
	for _, part := range SplitParameters(s) {
		name, value, ok := strings.Cut(part, "=")
		if ok && strings.EqualFold(strings.TrimSpace(name), "boundary") {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// SplitParameters splits a field's value at the semicolons that do not stand in
// a quoted string.
func SplitParameters(s string) []string {
	var parts []string
	quoted, from := false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

// endHeader decides what the header's body is.
func (p *Parser) endHeader() {
	p.endField()
	p.body, p.ended = true, p.typ
	depth := len(p.open) + p.within
	if p.opaque || depth >= MaxDepth {
		return
	}
	boundary := p.params["boundary"]
	switch {
	case strings.HasPrefix(p.typ, "multipart/") && boundary != "" && len(boundary) <= maxBoundary:
		p.open = append(p.open, frame{boundary, p.typ == "multipart/digest", p.within})
	case p.typ == "message/rfc822", p.typ == "message/global":
		p.begin(p.within + 1)
	}
}
