package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// A Grade is how good what was found is.
type Grade int

// The grades. With a Wrong the server does not work, or not for everybody; a
// Warning will become one, or is against good practice.
const (
	OK Grade = iota
	Warning
	Wrong
)

// String is the grade's word.
func (g Grade) String() string { return [...]string{"ok", "warning", "wrong"}[g] }

// MarshalText is String, for JSON.
func (g Grade) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// A Line is one thing found.
type Line struct {
	Check  string `json:"check"` // config, keytab, krb5.conf, dns, clock, kdc, ldap, spool, ports, tls, denials, ticket
	Grade  Grade  `json:"grade"`
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"` // what to do; empty when nothing is to be done
}

// A Report is what was found, in the order of the checks. It is safe for
// concurrent use.
type Report struct {
	mu    sync.Mutex
	lines []Line
}

// Lines gives what was found.
func (r *Report) Lines() []Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Line{}, r.lines...)
}

// Worst is the worst grade.
func (r *Report) Worst() Grade {
	worst := OK
	for _, l := range r.Lines() {
		worst = max(worst, l.Grade)
	}
	return worst
}

func (r *Report) add(l Line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, l)
}

// A section is the part of a report that one check writes.
type section struct {
	report *Report
	check  string
}

func (r *Report) section(check string) section { return section{r, check} }

func (s section) ok(format string, args ...any) {
	s.report.add(Line{s.check, OK, fmt.Sprintf(format, args...), ""})
}

func (s section) warn(remedy, format string, args ...any) {
	s.report.add(Line{s.check, Warning, fmt.Sprintf(format, args...), remedy})
}

func (s section) wrong(remedy, format string, args ...any) {
	s.report.add(Line{s.check, Wrong, fmt.Sprintf(format, args...), remedy})
}

// Text writes the report for people: a line for each thing, its remedy
// indented below, and at the end the count.
func (r *Report) Text(w io.Writer) error {
	counts := [3]int{}
	for _, l := range r.Lines() {
		counts[l.Grade]++
		if _, err := fmt.Fprintf(w, "%-8s %-9s %s\n", l.Grade, l.Check, l.What); err != nil {
			return err
		}
		if l.Remedy != "" {
			if _, err := fmt.Fprintf(w, "%18s -> %s\n", "", l.Remedy); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "%d ok, %d to look at, %d wrong\n", counts[OK], counts[Warning], counts[Wrong])
	return err
}

// JSON writes the report as one object with the worst grade and the lines.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Grade Grade  `json:"grade"`
		Lines []Line `json:"lines"`
	}{r.Worst(), r.Lines()})
}
