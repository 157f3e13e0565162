package cyrusdb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Dlist is a value in Cyrus's dlist text: what mailboxes.db, quota files
// and new cyrus.header files are written in.
//
//	atom  "quoted"  {5}literal  NIL  (list)  %(key value key value)
type Dlist struct {
	Kind  DlistKind
	Text  string   // of a DlistText
	Items []Dlist  // of a DlistList or DlistMap
	Keys  []string // of a DlistMap, one for each item
}

// DlistKind says what a Dlist is.
type DlistKind int

// The kinds of Dlist.
const (
	DlistNil DlistKind = iota
	DlistText
	DlistList
	DlistMap // a list of keys and values, in order
)

var errDlist = errors.New("cyrusdb: dlist")

// maxDlistDepth bounds recursion; Cyrus's own texts nest four deep.
const maxDlistDepth = 32

// ParseDlist reads one value and gives back what follows it. Texts are parts
// of s where they can be.
func ParseDlist(s string) (d Dlist, rest string, err error) {
	p := dlistParser{s: s}
	d, err = p.value(0)
	return d, p.s, err
}

type dlistParser struct {
	s string
}

func (p *dlistParser) value(depth int) (Dlist, error) {
	if depth > maxDlistDepth {
		return Dlist{}, fmt.Errorf("%w nests deeper than %d", errDlist, maxDlistDepth)
	}
	switch {
	case strings.HasPrefix(p.s, "%("):
		p.s = p.s[2:]
		return p.list(DlistMap, depth)
	case strings.HasPrefix(p.s, "("):
		p.s = p.s[1:]
		return p.list(DlistList, depth)
	}
	text, atom, err := p.text()
	if err != nil {
		return Dlist{}, err
	}
	if atom && text == "NIL" {
		return Dlist{}, nil
	}
	return Dlist{Kind: DlistText, Text: text}, nil
}

// usualItems is as much as an entry of mailboxes.db has.
const usualItems = 8

// room makes the first append to s the last that allocates, as a rule.
func room[T any](s []T) []T {
	if s == nil {
		s = make([]T, 0, usualItems)
	}
	return s
}

func (p *dlistParser) list(kind DlistKind, depth int) (Dlist, error) {
	d := Dlist{Kind: kind}
	for {
		p.s = strings.TrimLeft(p.s, " ")
		if p.s == "" {
			return Dlist{}, fmt.Errorf("%w ends within a list", errDlist)
		}
		if p.s[0] == ')' {
			p.s = p.s[1:]
			return d, nil
		}
		if kind == DlistMap {
			key, _, err := p.text()
			if err != nil {
				return Dlist{}, err
			}
			if !strings.HasPrefix(p.s, " ") {
				return Dlist{}, fmt.Errorf("%w: key without a value", errDlist)
			}
			p.s = strings.TrimLeft(p.s, " ")
			d.Keys = append(room(d.Keys), key)
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return Dlist{}, err
		}
		d.Items = append(room(d.Items), item)
	}
}

// text reads an atom, a quoted string or a literal.
func (p *dlistParser) text() (text string, atom bool, err error) {
	switch {
	case strings.HasPrefix(p.s, `"`):
		text, err = p.quoted()
		return text, false, err
	case strings.HasPrefix(p.s, "{"):
		text, err = p.literal()
		return text, false, err
	}
	end := strings.IndexAny(p.s, " ()\r\n")
	if end < 0 {
		end = len(p.s)
	}
	if end == 0 {
		return "", false, fmt.Errorf("%w: a value is missing", errDlist)
	}
	text, p.s = p.s[:end], p.s[end:]
	return text, true, nil
}

func (p *dlistParser) quoted() (string, error) {
	body := p.s[1:]
	if end := strings.IndexAny(body, `"\`); end >= 0 && body[end] == '"' {
		p.s = body[end+1:]
		return body[:end], nil
	}
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			p.s = body[i+1:]
			return b.String(), nil
		case '\\': // quotes the next octet, whatever it is
			if i++; i == len(body) {
				return "", fmt.Errorf("%w ends within quotes", errDlist)
			}
		}
		b.WriteByte(body[i])
	}
	return "", fmt.Errorf("%w ends within quotes", errDlist)
}

func (p *dlistParser) literal() (string, error) {
	number, body, found := strings.Cut(p.s[1:], "}\r\n")
	n, err := strconv.ParseUint(strings.TrimSuffix(number, "+"), 10, 31)
	if !found || err != nil || n > uint64(len(body)) {
		return "", fmt.Errorf("%w: literal", errDlist)
	}
	p.s = body[n:]
	return body[:n], nil
}

// Get is the value of a DlistMap's key.
func (d *Dlist) Get(key string) (*Dlist, bool) {
	if d.Kind == DlistMap {
		for i, k := range d.Keys {
			if k == key {
				return &d.Items[i], true
			}
		}
	}
	return nil, false
}

// Set appends a key and its value to a DlistMap.
func (d *Dlist) Set(key string, value Dlist) {
	d.Keys = append(d.Keys, key)
	d.Items = append(d.Items, value)
}

// SetText appends a key and a text.
func (d *Dlist) SetText(key, text string) {
	d.Set(key, Dlist{Kind: DlistText, Text: text})
}

// SetNumber appends a key and a number.
func (d *Dlist) SetNumber(key string, n uint64) {
	d.SetText(key, strconv.FormatUint(n, 10))
}

// Number is a text read as a number.
func (d *Dlist) Number() (uint64, error) {
	if d.Kind != DlistText {
		return 0, fmt.Errorf("%w: not a number", errDlist)
	}
	n, err := strconv.ParseUint(d.Text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is not a number", errDlist, d.Text)
	}
	return n, nil
}

// Append appends the text as Cyrus writes it.
func (d *Dlist) Append(dst []byte) []byte {
	switch d.Kind {
	case DlistNil:
		return append(dst, "NIL"...)
	case DlistText:
		return appendText(dst, d.Text)
	case DlistMap:
		dst = append(dst, '%')
	}
	dst = append(dst, '(')
	for i := range d.Items {
		if i > 0 {
			dst = append(dst, ' ')
		}
		if d.Kind == DlistMap {
			dst = append(appendText(dst, d.Keys[i]), ' ')
		}
		dst = d.Items[i].Append(dst)
	}
	return append(dst, ')')
}

// String is the text as Cyrus writes it.
func (d *Dlist) String() string { return string(d.Append(nil)) }

// maxQuoted is Cyrus's MAXQSTRING: what is longer becomes a literal.
const maxQuoted = 1024

func appendText(dst []byte, s string) []byte {
	bare, quotable := s != "" && s != "NIL" && len(s) < maxQuoted, len(s) < maxQuoted
	for i := range len(s) {
		switch c := s[i]; {
		case c == 0 || c == '\r' || c == '\n' || c == '"' || c == '%' || c == '\\' || c >= 0x80:
			bare, quotable = false, false
		// 0x1F joins the parts of a mailbox name and is bare; 0x1D is not.
		case c < 0x1f || c == 0x7f || strings.IndexByte(" {()*", c) >= 0:
			bare = false
		}
	}
	switch {
	case bare:
		return append(dst, s...)
	case quotable:
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, "+}\r\n"...)
	return append(dst, s...)
}
