package mimepart

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// MaxParts is the most parts that are listed.
const MaxParts = 1000

// ErrParts is a message with more parts.
var ErrParts = errors.New("mimepart: too many parts")

// A Part is an entity of a message: its header and its body.
type Part struct {
	Path   []int // 1; 2.1: numbered as in RFC 9051 section 6.4.5.1
	Type   string
	Offset int64 // of its header in the stream
	Length int64
	Octets int64 // as a POP server sends it (RFC 1939 section 11)
}

// Name is the path with dots.
func (p *Part) Name() string {
	names := make([]string, len(p.Path))
	for i, n := range p.Path {
		names[i] = strconv.Itoa(n)
	}
	return strings.Join(names, ".")
}

// A lister follows the parts that are open.
type lister struct {
	parser Parser
	parts  []Part
	levels []level // one for each open multipart
	at     int64   // where the line begins
	first  Counter // of the whole message
	typ    string  // the whole message's; those within it end headers of their own
}

// A level is an open multipart.
type level struct {
	path  []int // of the entity that it is
	last  int   // the number of its last part
	open  int   // index of that part; -1: none
	count Counter
}

// List lists the parts of a message, those of multiparts before what follows
// them. A message that is no multipart is one part, 1. A message within is one
// part; when it is a multipart its parts follow.
func List(r io.Reader) ([]Part, error) {
	in := bufio.NewReaderSize(r, 16<<10)
	l := &lister{}
	for broken := false; ; {
		line, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("mimepart: %w", err)
		}
		if len(line) > 0 {
			if err := l.add(line, broken); err != nil {
				return nil, err
			}
			broken = line[len(line)-1] != '\n'
		}
		if errors.Is(err, io.EOF) {
			return l.finish(), nil
		}
	}
}

func (l *lister) add(line []byte, continued bool) error {
	kind := Body
	if !continued {
		kind = l.parser.Line(line)
	}
	n := len(l.parser.open)
	switch kind {
	case Boundary:
		l.close(n)
		l.end(&l.levels[n-1])
	case Close:
		l.close(n)
	}
	l.count(line)
	if kind == Boundary {
		if err := l.begin(l.at + int64(len(line))); err != nil {
			return err
		}
	}
	if kind == Blank {
		l.endHeader()
	}
	l.at += int64(len(line))
	return nil
}

// close ends the multiparts beyond the first n, and the parts in them.
func (l *lister) close(n int) {
	for i := len(l.levels) - 1; i >= n; i-- {
		l.end(&l.levels[i])
	}
	l.levels = l.levels[:min(n, len(l.levels))]
}

func (l *lister) end(v *level) {
	if v.open >= 0 {
		p := &l.parts[v.open]
		p.Length, p.Octets = l.at-p.Offset, v.count.Total()
		if p.Type == "" {
			p.Type = "text/plain"
		}
		v.open = -1
	}
}

func (l *lister) count(line []byte) {
	l.first.Add(line)
	for i := range l.levels {
		if l.levels[i].open >= 0 {
			l.levels[i].count.Add(line)
		}
	}
}

// begin begins the next part of the innermost multipart.
func (l *lister) begin(offset int64) error {
	if len(l.parts) == MaxParts {
		return ErrParts
	}
	v := &l.levels[len(l.levels)-1]
	v.last++
	v.open, v.count = len(l.parts), Counter{}
	l.parts = append(l.parts, Part{Path: append(append([]int(nil), v.path...), v.last), Offset: offset})
	return nil
}

// endHeader notes a part's type and the beginning of a multipart.
func (l *lister) endHeader() {
	if l.typ == "" {
		l.typ = l.parser.ended
	}
	path, part := []int(nil), (*Part)(nil)
	if n := len(l.levels); n > 0 && l.levels[n-1].open >= 0 {
		part = &l.parts[l.levels[n-1].open]
		path = part.Path
	}
	if part != nil && part.Type == "" {
		part.Type = l.parser.ended
	}
	if len(l.parser.open) > len(l.levels) {
		l.levels = append(l.levels, level{path: path, open: -1})
	}
}

// finish ends what is open at the end of the message.
func (l *lister) finish() []Part {
	l.close(0)
	if len(l.parts) == 0 {
		typ := l.typ
		if typ == "" || strings.HasPrefix(typ, "multipart/") {
			typ = "text/plain"
		}
		return []Part{{Path: []int{1}, Type: typ, Length: l.at, Octets: l.first.Total()}}
	}
	return l.parts
}

// A Counter counts octets as a POP server sends them (RFC 1939 section 11): a
// bare line feed counts as CRLF, and so does the end that a last line lacks.
type Counter struct {
	octets int64
	last   byte
}

// Add counts the next octets.
func (c *Counter) Add(p []byte) {
	c.octets += int64(len(p))
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.last = p[len(p)-1]
			return
		}
		if i > 0 {
			c.last = p[i-1]
		}
		if c.last != '\r' {
			c.octets++
		}
		c.last, p = '\n', p[i+1:]
	}
}

// Write implements io.Writer.
func (c *Counter) Write(p []byte) (int, error) {
	c.Add(p)
	return len(p), nil
}

// Total is what was counted.
func (c *Counter) Total() int64 {
	if c.octets > 0 && c.last != '\n' {
		return c.octets + 2
	}
	return c.octets
}
