package bodycache

import (
	"strings"
)

// A param is a parameter of Content-Type or Content-Disposition.
type param struct {
	name  string // in upper case
	value string
}

// tspecials end a token (RFC 2045 section 5.1).
const tspecials = "()<>@,;:\\\"/[]?="

// A scanner reads a structured field (RFC 2045) as Cyrus does. At the end,
// the current octet is 0.
type scanner struct {
	s string
	i int
}

func (s *scanner) cur() byte { return s.peek(0) }

func (s *scanner) peek(n int) byte {
	if s.i+n < len(s.s) {
		return s.s[s.i+n]
	}
	return 0
}

// folded tells whether the scanner stands before a line end; in a field every
// one is followed by a blank.
func (s *scanner) folded() bool { return s.cur() == '\r' }

// space skips blanks and comments; false when the field ends there.
func (s *scanner) space() bool {
	for isSpace(s.cur()) || s.cur() == '(' {
		if s.cur() != '(' {
			s.i++
			continue
		}
		s.i++
		for level := 1; level > 0; s.i++ {
			switch s.cur() {
			case 0:
				return false
			case '\\':
				s.i++
			case '(':
				level++
			case ')':
				level--
			}
		}
	}
	return s.i < len(s.s)
}

// token reads up to a blank, a comment or an octet of stops; false when
// something stands there that no token may hold.
func (s *scanner) token(stops string) (string, bool) {
	start := s.i
	for ; s.i < len(s.s); s.i++ {
		c := s.cur()
		if isSpace(c) || c == '(' || strings.IndexByte(stops, c) >= 0 {
			break
		}
		if !isToken(c) {
			return "", false
		}
	}
	return s.s[start:s.i], true
}

func isToken(c byte) bool {
	return c > ' ' && c < 0x80 && strings.IndexByte(tspecials, c) < 0
}

// setType reads Content-Type. What is not understood leaves no type, and an
// earlier field's is forgotten.
func (b *part) setType(value string) error {
	b.kind, b.subtype, b.params = "", "", nil
	s := &scanner{s: value}
	if !s.space() {
		return nil
	}
	if strings.HasPrefix(value[s.i:], "=?") {
		return distrust("an encoded Content-Type")
	}
	kind, ok := s.token("/")
	if !ok || !s.space() || s.cur() != '/' {
		return nil
	}
	s.i++
	if !s.space() {
		return nil
	}
	subtype, ok := s.token(";")
	if !ok {
		return nil
	}
	more := s.space()
	if more && s.cur() != ';' {
		return nil
	}
	if kind == "" || subtype == "" {
		return distrust("an empty content type")
	}
	b.kind, b.subtype = upper(kind), upper(subtype)
	if !more {
		return nil
	}
	s.i++
	var err error
	b.params, err = s.params()
	return err
}

// setDisposition reads Content-Disposition (RFC 2183).
func (b *part) setDisposition(value string) error {
	b.disposition, b.dispositionParams = nil, nil
	s := &scanner{s: value}
	if !s.space() {
		return nil
	}
	word, ok := s.token(";")
	if !ok {
		return nil
	}
	more := s.space()
	if more && s.cur() != ';' {
		return nil
	}
	word = upper(word)
	b.disposition = &word
	if !more {
		return nil
	}
	s.i++
	var err error
	b.dispositionParams, err = s.params()
	return err
}

// parseEncoding reads Content-Transfer-Encoding; nil when it is no token.
func parseEncoding(value string) *string {
	s := &scanner{s: value}
	if !s.space() {
		return nil
	}
	word, ok := s.token("")
	if !ok || s.space() {
		return nil
	}
	word = upper(word)
	return &word
}

// parseLanguage reads Content-Language (RFC 3282) up to what is no tag.
func parseLanguage(value string) (tags []string) {
	s := &scanner{s: value}
	for {
		if !s.space() {
			return tags
		}
		start := s.i
		for ; s.i < len(s.s); s.i++ {
			c := s.cur()
			if isSpace(c) || c == ',' || c == '(' {
				break
			}
			if c != '-' && !isAlpha(c) {
				return tags
			}
		}
		tag := s.s[start:s.i]
		more := s.space()
		if more && s.cur() != ',' {
			return tags
		}
		tags = append(tags, upper(tag))
		if !more {
			return tags
		}
		s.i++
	}
}

// params reads ";"-separated parameters. Malformed ones are passed over.
func (s *scanner) params() ([]param, error) {
	var list []param
	for s.space() {
		p, ok, err := s.param()
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, p)
			if s.i >= len(s.s) {
				break
			}
			s.i++ // the ";"
			continue
		}
		s.skip()
	}
	return fold(list)
}

// skip goes to behind the next ";" or to the end of the line.
func (s *scanner) skip() {
	for s.i < len(s.s) && s.cur() != ';' && s.cur() != '\r' {
		s.i++
	}
	if s.cur() == ';' {
		s.i++
	}
}

// param reads name=value. It stands before a ";" or at the end then; ok is
// false when the parameter is to be skipped.
func (s *scanner) param() (p param, ok bool, err error) {
	name, ok := s.token("=")
	if !ok || !s.space() {
		return p, false, nil
	}
	if s.cur() != '=' {
		s.i++
		return p, false, nil
	}
	s.i++
	if !s.space() {
		return p, false, nil
	}
	value, ok, err := s.value()
	if !ok || err != nil {
		return p, false, err
	}
	if s.space() && s.cur() != ';' {
		s.i++
		return p, false, nil
	}
	if name == "" {
		return p, false, distrust("a parameter without a name")
	}
	return param{upper(name), value}, true, nil
}

// value reads a quoted string, or leniently anything up to a ";".
func (s *scanner) value() (v string, ok bool, err error) {
	if s.cur() == '"' {
		return s.quoted()
	}
	start, end := s.i, s.i
	for ; s.i < len(s.s) && s.cur() != ';' && s.cur() != '('; s.i++ {
		c := s.cur()
		switch {
		case c == '\r':
			s.i++ // and the loop passes the line feed
			continue
		case c < ' ' && c != '\t':
			return "", false, nil
		}
		if c != ' ' && c != '\t' {
			end = s.i + 1
		}
	}
	if start == end {
		return "", false, distrust("an empty parameter value")
	}
	s.i = end
	return s.s[start:end], true, nil
}

func (s *scanner) quoted() (v string, ok bool, err error) {
	var b strings.Builder
	for s.i++; s.i < len(s.s); s.i++ {
		switch c := s.cur(); c {
		case '"':
			s.i++
			return b.String(), true, nil
		case '\\':
			if s.i++; s.i == len(s.s) {
				return "", false, distrust("a quoted string without an end")
			}
			if s.folded() {
				return "", false, distrust("a quoted line end")
			}
			b.WriteByte(s.cur())
		case '\r':
			s.i++ // the line end goes, the blank after it stays
		default:
			b.WriteByte(c)
		}
	}
	return "", false, distrust("a quoted string without an end")
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func isAlpha(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z'
}
