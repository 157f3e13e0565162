package krb5

import "time"

// A der is what is left to read of a DER value (X.690). Its methods take one
// element from the front. The first fault sticks, so a caller reads a whole
// structure and asks once; after a fault every read gives nothing. Only
// definite, minimal lengths are taken, and done refuses trailing octets: two
// readers of one message must not see two messages.
type der struct {
	b   []byte
	bad bool
}

// head splits off the first element: its tag octet, its content, what follows.
func head(b []byte) (tag byte, content, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f { // no tag above 30 occurs in RFC 4120
		return 0, nil, nil, false
	}
	size, at := int(b[1]), 2
	if size >= 0x80 {
		octets := size & 0x7f
		if octets == 0 || octets > 3 || len(b) < 2+octets || b[2] == 0 {
			return 0, nil, nil, false
		}
		size = 0
		for _, o := range b[2 : 2+octets] {
			size = size<<8 | int(o)
		}
		if size < 0x80 {
			return 0, nil, nil, false
		}
		at += octets
	}
	if size > len(b)-at {
		return 0, nil, nil, false
	}
	return b[0], b[at : at+size], b[at+size:], true
}

// take reads the element with that tag octet.
func (d *der) take(tag byte) der {
	got, content, rest, ok := head(d.b)
	if d.bad || !ok || got != tag {
		d.fail()
		return der{bad: true}
	}
	d.b = rest
	return der{b: content}
}

func (d *der) fail() { d.b, d.bad = nil, true }

// has reports whether context element n comes next.
func (d *der) has(n byte) bool { return !d.bad && len(d.b) > 0 && d.b[0] == 0xa0|n }

// field reads explicit context element n.
func (d *der) field(n byte) der { return d.take(0xa0 | n) }

// done is false after a fault and when octets are left over.
func (d *der) done() bool { return !d.bad && len(d.b) == 0 }

// whole takes over a fault of a nested element and refuses left-overs in it.
func (d *der) whole(inner *der) {
	if !inner.done() {
		d.fail()
	}
}

func (d *der) sequence(n byte) (der, bool) {
	f := d.field(n)
	s := f.take(0x30)
	d.whole(&f)
	return s, !d.bad
}

func (d *der) integer(n byte) int64 {
	f := d.field(n)
	v := f.bareInteger()
	d.whole(&f)
	return v
}

func (d *der) bareInteger() int64 {
	e := d.take(0x02)
	if len(e.b) == 0 || len(e.b) > 8 {
		d.fail()
		return 0
	}
	v := int64(int8(e.b[0])) //nolint:gosec // the sign is meant
	for _, o := range e.b[1:] {
		v = v<<8 | int64(o)
	}
	return v
}

func (d *der) int32(n byte) int32 {
	v := d.integer(n)
	if v != int64(int32(v)) { //nolint:gosec // compared
		d.fail()
	}
	return int32(v) //nolint:gosec // checked
}

// uint32 also takes the negative numbers by which older libraries write
// numbers above 2^31 (RFC 4120 section 5.2.4, section 5.5.1).
func (d *der) uint32(n byte) uint32 {
	v := d.integer(n)
	if v < -1<<31 || v > 1<<32-1 {
		d.fail()
	}
	return uint32(v) //nolint:gosec // checked
}

func (d *der) octets(n byte) []byte {
	f := d.field(n)
	s := f.take(0x04)
	d.whole(&f)
	return s.b
}

func (d *der) text(n byte) []byte {
	f := d.field(n)
	s := f.take(0x1b)
	d.whole(&f)
	return s.b
}

// flags reads a KerberosFlags (RFC 4120 section 5.2.8) of which the first 32
// bits matter.
func (d *der) flags(n byte) uint32 {
	f := d.field(n)
	s := f.take(0x03)
	d.whole(&f)
	if len(s.b) < 1 || s.b[0] > 7 || (len(s.b) == 1 && s.b[0] != 0) {
		d.fail()
		return 0
	}
	var v uint32
	for i := 1; i <= 4; i++ {
		v <<= 8
		if i < len(s.b) {
			v |= uint32(s.b[i])
		}
	}
	return v
}

// time reads a KerberosTime (RFC 4120 section 5.2.3): YYYYMMDDHHMMSSZ only.
func (d *der) time(n byte) (time.Time, []byte) {
	f := d.field(n)
	s := f.take(0x18)
	d.whole(&f)
	t, ok := parseTime(s.b)
	if !ok {
		d.fail()
	}
	return t, s.b
}

func parseTime(b []byte) (time.Time, bool) {
	if len(b) != 15 || b[14] != 'Z' {
		return time.Time{}, false
	}
	var v [7]int
	for i := range v {
		hi, lo := b[2*i]-'0', b[2*i+1]-'0'
		if hi > 9 || lo > 9 {
			return time.Time{}, false
		}
		v[i] = int(hi)*10 + int(lo)
	}
	month, day, hour, minute, second := v[2], v[3], v[4], v[5], v[6]
	if month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	return time.Date(v[0]*100+v[1], time.Month(month), day, hour, minute, second, 0, time.UTC), true
}

// maxComponents bounds the components of a principal: real ones have three.
const maxComponents = 8

// name reads a PrincipalName (RFC 4120 section 5.2.2).
func (d *der) name(n byte) []string {
	s, _ := d.sequence(n)
	s.int32(0)
	list, _ := s.sequence(1)
	d.whole(&s)
	var name []string
	for !list.bad && len(list.b) > 0 {
		e := list.take(0x1b)
		name = append(name, string(e.b))
		if len(name) > maxComponents {
			list.fail()
		}
	}
	d.whole(&list)
	return name
}

// enter checks that b is exactly one application element of that number that
// holds one SEQUENCE, and gives its inside.
func enter(b []byte, application byte) (der, bool) {
	d := der{b: b}
	app := d.take(0x60 | application)
	seq := app.take(0x30)
	return seq, d.done() && app.done() && !seq.bad
}

// A builder writes DER back to front, so that every length is known when it is
// written.
type builder struct {
	buf []byte // filled from the end
	at  int
}

func newBuilder(size int) *builder { return &builder{make([]byte, size), size} }

func (w *builder) bytes() []byte { return w.buf[w.at:] }

func (w *builder) grow(n int) {
	if w.at >= n {
		return
	}
	used := len(w.buf) - w.at
	next := make([]byte, 2*len(w.buf)+n)
	copy(next[len(next)-used:], w.bytes())
	w.buf, w.at = next, len(next)-used
}

// raw puts b before what is written.
func (w *builder) raw(b ...byte) {
	w.grow(len(b))
	w.at -= len(b)
	copy(w.buf[w.at:], b)
}

// mark is where an element that is to be closed by wrap ends.
func (w *builder) mark() int { return len(w.buf) - w.at }

// wrap puts tag and length before everything written since mark.
func (w *builder) wrap(tag byte, mark int) {
	size := w.mark() - mark
	switch {
	case size < 0x80:
		w.raw(tag, byte(size))
	case size < 0x100:
		w.raw(tag, 0x81, byte(size))
	case size < 0x10000:
		w.raw(tag, 0x82, byte(size>>8), byte(size))
	default:
		w.raw(tag, 0x83, byte(size>>16), byte(size>>8), byte(size))
	}
}

// integer writes explicit field n with a non-negative INTEGER.
func (w *builder) integer(n byte, v uint32) {
	m := w.mark()
	w.raw(byte(v))
	for v >= 0x80 {
		v >>= 8
		w.raw(byte(v))
	}
	w.wrap(0x02, m)
	w.wrap(0xa0|n, m)
}

// primitive writes explicit field n with a value of that tag.
func (w *builder) primitive(n, tag byte, b []byte) {
	m := w.mark()
	w.raw(b...)
	w.wrap(tag, m)
	w.wrap(0xa0|n, m)
}
