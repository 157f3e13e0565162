package bodycache

import (
	"strings"
)

// An address as IMAP's ENVELOPE has it (RFC 3501 section 7.4.2): the start of
// a group has a mailbox and no domain, its end neither.
type address struct {
	name, route, mailbox, domain *string
}

// unspecified stands for a domain that is missing.
const unspecified = "unspecified-domain"

// An addressParser reads an address list (RFC 5322 section 3.4) with all the
// leniency of Cyrus's parseaddr.c.
type addressParser struct {
	scanner
	list []address
}

func parseAddresses(value string) ([]address, error) {
	p := &addressParser{scanner: scanner{s: value}}
	p.parse()
	for _, a := range p.list {
		for _, s := range []*string{a.name, a.route, a.mailbox, a.domain} {
			if s != nil && strings.ContainsAny(*s, "\r\n") {
				return nil, distrust("a line end within an address")
			}
		}
	}
	return p.list, nil
}

// add appends an address; an empty name or route is none, an empty domain
// becomes one that says so.
func (p *addressParser) add(name, route string, mailbox, domain *string) {
	a := address{mailbox: mailbox, domain: domain}
	if name != "" {
		a.name = &name
	}
	if route != "" {
		a.route = &route
	}
	if domain != nil && *domain == "" {
		d := unspecified
		a.domain = &d
	}
	p.list = append(p.list, a)
}

func (p *addressParser) endGroup() { p.add("", "", nil, nil) }

func (p *addressParser) parse() {
	none := ""
	group := false
	for tok := byte(' '); tok != 0; {
		stops := ",@<:"
		if group {
			stops = ",@<;"
		}
		var phrase string
		phrase, tok = p.phrase(stops)
		switch tok {
		case ',', 0, ';':
			if phrase != "" {
				p.add("", "", &phrase, &none)
			}
		case ':':
			p.add("", "", &phrase, nil)
			group = true
		case '@':
			var domain, comment string
			domain, comment, tok = p.domain(true)
			p.add(comment, "", &phrase, &domain)
		case '<':
			p.angle(phrase)
			if p.i > len(p.s) {
				tok = 0
			}
			continue
		}
		if tok == ';' {
			p.endGroup()
			group = false
		}
	}
	if group {
		p.endGroup()
	}
}

// angle reads what stands in <>, with a source route perhaps.
func (p *addressParser) angle(name string) {
	none, route := "", ""
	mailbox, tok := p.phrase("@>")
	if tok != '@' {
		p.add(name, "", &mailbox, &none)
		return
	}
	if mailbox == "" {
		p.i--
		if route, tok = p.route(); tok != ':' {
			p.add(name, route, &none, &none)
			p.close(tok)
			return
		}
		if mailbox, tok = p.phrase("@>"); tok != '@' {
			p.add(name, route, &mailbox, &none)
			return
		}
	}
	domain, _, tok := p.domain(false)
	p.add(name, route, &mailbox, &domain)
	p.close(tok)
}

// close skips to behind the ">".
func (p *addressParser) close(tok byte) {
	for tok != 0 && tok != '>' {
		tok = p.next()
	}
}

// next takes an octet; 0 when there is none, and the scanner then stands
// behind the end.
func (p *addressParser) next() byte {
	c := p.cur()
	p.i++
	return c
}

// blanks skips blanks and comments.
func (p *addressParser) blanks() {
	for p.i < len(p.s) {
		switch c := p.cur(); {
		case c == '(':
			p.comment(nil)
		case isSpace(c):
			p.i++
		default:
			return
		}
	}
}

// comment skips one, nested ones with it, and appends its text to text.
func (p *addressParser) comment(text *strings.Builder) {
	p.i++
	for level := 1; p.i < len(p.s); {
		c := p.next()
		switch {
		case c == '\\' && p.i < len(p.s):
			c = p.next()
		case c == '(':
			level++
		case c == ')':
			if level--; level == 0 {
				return
			}
		}
		if text != nil {
			text.WriteByte(c)
		}
	}
}

// phrase reads up to one of stops, which is told; 0 at the end. A quoted
// string without an end makes the rest of the field vanish.
func (p *addressParser) phrase(stops string) (string, byte) {
	p.blanks()
	var b strings.Builder
	for {
		c := p.next()
		switch {
		case c == '"':
			if !p.quotedIn(&b) {
				p.i = len(p.s) + 1
				return "", 0
			}
		case isSpace(c) || c == '(':
			p.i--
			p.blanks()
			b.WriteByte(' ')
		case c == 0 || strings.IndexByte(stops, c) >= 0:
			return strings.TrimSuffix(b.String(), " "), c
		default:
			b.WriteByte(c)
		}
	}
}

// quotedIn reads a quoted string, whose first quote is taken, into b. Line
// ends and other controls are dropped.
func (p *addressParser) quotedIn(b *strings.Builder) bool {
	for {
		c := p.next()
		if c == '\\' && p.cur() == '\r' {
			c = p.next()
		}
		switch {
		case c == 0:
			return false
		case c == '\r':
			p.i++ // a field holds none that no blank follows
			continue
		case c != '\t' && (c < ' ' || c == 0x7f):
			continue
		case c == '"':
			return true
		case c == '\\':
			if c = p.next(); c == 0 {
				return false
			}
		}
		b.WriteByte(c)
	}
}

// domain reads a domain up to what is none. A comment behind it counts as the
// name when withComment.
func (p *addressParser) domain(withComment bool) (domain, comment string, tok byte) {
	p.blanks()
	var b strings.Builder
	for {
		c := p.next()
		switch {
		case isAlpha(c), '0' <= c && c <= '9', c == '-', c == '[', c == ']', c == ':', c == '@':
			b.WriteByte(c)
			comment = ""
		case c == '.':
			if s := b.String(); s != "" && s[len(s)-1] != '.' {
				b.WriteByte(c)
			}
			comment = ""
		case c == '(':
			p.i--
			if !withComment {
				p.blanks()
				continue
			}
			var text strings.Builder
			p.comment(&text)
			comment = text.String()
		case !isSpace(c):
			return strings.TrimSuffix(b.String(), "."), comment, c
		}
	}
}

// route reads a source route (RFC 5322 section 4.4), which begins with "@".
func (p *addressParser) route() (string, byte) {
	p.blanks()
	var b strings.Builder
	for {
		c := p.next()
		switch {
		case isAlpha(c), '0' <= c && c <= '9', strings.IndexByte("-[],@", c) >= 0 && c != 0:
			b.WriteByte(c)
		case c == '.':
			if s := b.String(); s != "" && s[len(s)-1] != '.' {
				b.WriteByte(c)
			}
		case isSpace(c) || c == '(':
			p.i--
			p.blanks()
		default:
			return strings.TrimRight(b.String(), ".,@"), c
		}
	}
}
