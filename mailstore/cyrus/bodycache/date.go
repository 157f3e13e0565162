package bodycache

import (
	"strings"
	"time"
)

// A dateScanner reads a Date: field (RFC 5322 section 3.3) as leniently as
// Cyrus does (time_from_rfc5322).
type dateScanner struct {
	scanner
}

// parseDay gives the midnight of the field's calendar day in a zone.
func parseDay(s string, zone *time.Location) (unix int64, ok bool) {
	d := &dateScanner{scanner{s: s}}
	year, month, day, ok := d.date()
	if !ok {
		return 0, false
	}
	unix = time.Date(year, month, day, 0, 0, 0, 0, zone).Unix()
	return unix, unix >= 0
}

// parseDate gives the field's instant.
func parseDate(s string) (unix int64, ok bool) {
	d := &dateScanner{scanner{s: s}}
	year, month, day, ok := d.date()
	if !ok {
		return 0, false
	}
	d.blanks()
	hour, ok := d.number()
	if !ok || !d.separator() {
		return 0, false
	}
	minute, ok := d.number()
	if !ok {
		return 0, false
	}
	second := 0
	if d.separator() {
		if second, ok = d.number(); !ok {
			return 0, false
		}
	}
	unix = time.Date(year, month, day, hour, minute, second, 0, time.UTC).Unix()
	return unix - int64(d.zone())*60, unix >= 0
}

func (d *dateScanner) blanks() {
	for d.i < len(d.s) && strings.IndexByte(" \t\r\n", d.cur()) >= 0 {
		d.i++
	}
}

// maxDateToken is Cyrus's RFC5322_DATETIME_MAX.
const maxDateToken = 32

// word takes letters and digits.
func (d *dateScanner) word() string {
	start := d.i
	for d.i < len(d.s) && d.i-start < maxDateToken && isAlnum(d.cur()) {
		d.i++
	}
	return d.s[start:d.i]
}

func isAlnum(c byte) bool { return isAlpha(c) || '0' <= c && c <= '9' }

// number takes one or two digits.
func (d *dateScanner) number() (int, bool) {
	w := d.word()
	if len(w) < 1 || len(w) > 2 {
		return 0, false
	}
	return digits(w)
}

func digits(w string) (n int, ok bool) {
	for i := range len(w) {
		if w[i] < '0' || w[i] > '9' {
			return 0, false
		}
		n = n*10 + int(w[i]-'0')
	}
	return n, true
}

// separator takes what stands between hour, minute and second.
func (d *dateScanner) separator() bool {
	if c := d.cur(); c != ':' && c != '.' {
		return false
	}
	d.i++
	return true
}

// date takes an optional weekday, day, month and year.
func (d *dateScanner) date() (year int, month time.Month, day int, ok bool) {
	d.blanks()
	if isAlpha(d.cur()) {
		if len(d.word()) != 3 || d.cur() != ',' {
			return 0, 0, 0, false
		}
		d.i++
		d.blanks()
	}
	if day, ok = d.number(); !ok {
		return 0, 0, 0, false
	}
	d.gap()
	name := d.word()
	if month = monthByName(name); month == 0 {
		return 0, 0, 0, false
	}
	d.gap()
	w := d.word()
	if year, ok = digits(w); !ok || w == "" || len(w) > 9 {
		return 0, 0, 0, false
	}
	switch {
	case len(w) == 2 && year < 70:
		year += 2000
	case len(w) == 2:
		year += 1900
	case year < 1900:
		return 0, 0, 0, false
	}
	return year, month, day, true
}

// gap takes the octet between day, month and year, whatever it is, and blanks
// after it.
func (d *dateScanner) gap() {
	if d.i < len(d.s) {
		d.i++
		d.blanks()
	}
}

func monthByName(name string) time.Month {
	for m := time.January; m <= time.December; m++ {
		if len(name) == 3 && strings.EqualFold(name, m.String()[:3]) {
			return m
		}
	}
	return 0
}

// zone takes the zone and gives its minutes east of Greenwich; what is not
// known is taken for zero.
func (d *dateScanner) zone() int {
	d.blanks()
	sign := d.cur()
	if sign == '+' || sign == '-' {
		d.i++
	}
	w := d.word()
	switch len(w) {
	case 1:
		return militaryZone(w[0])
	case 3:
		return americanZone(strings.ToUpper(w))
	case 4:
		n, ok := digits(w)
		if !ok {
			return 0
		}
		minutes := n/100*60 + n%100
		if sign != '+' {
			return -minutes
		}
		return minutes
	}
	return 0
}

// militaryZone is one letter, with the signs of RFC 822 section 5.1 as Cyrus
// has them; what it makes of letters in lower case has no sense.
func militaryZone(c byte) int {
	switch u := c &^ 0x20; {
	case !isAlpha(c), u < 'J':
		return (int(c) - 'A' + 1) * 60
	case u == 'J', u == 'Z':
		return 0
	case u <= 'M':
		return (int(c) - 'A') * 60
	default:
		return ('M' - int(c)) * 60
	}
}

// americanZone is a letter of those below, then "S" or "D", then "T".
func americanZone(w string) int {
	const letters = "AECMPYHB" // Atlantic is four hours west of Greenwich, Eastern five …
	i := strings.IndexByte(letters, w[0])
	if i < 0 || w[2] != 'T' {
		return 0
	}
	offset := (len(letters) - i - 12) * 60
	switch w[1] {
	case 'D':
		return offset + 60
	case 'S':
		return offset
	}
	return 0
}
