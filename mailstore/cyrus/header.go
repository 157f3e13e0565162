package cyrus

import (
	"bytes"
	"strings"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

// headerMagic begins every cyrus.header.
const headerMagic = "\xa1\x02\x8b\x0dCyrus mailbox header\n\"The best thing about this system was that it had lots of goals.\"\n\t--Jim Morris on Andrew\n"

// A mailboxHeader is what of cyrus.header concerns a maildrop.
type mailboxHeader struct {
	uniqueID  string
	quotaRoot string   // empty: none
	flags     []string // user flags by bit; empty: unused
}

// parseHeader reads both styles: three lines (2.x to 3.4) and one dlist (3.6).
func parseHeader(path string, b []byte) (mailboxHeader, error) {
	text, ok := bytes.CutPrefix(b, []byte(headerMagic))
	if !ok {
		return mailboxHeader{}, &FaultError{path, 0, "bad magic of cyrus.header"}
	}
	if len(text) > 0 && text[0] == '%' {
		return parseNewHeader(path, string(text))
	}
	lines := strings.SplitN(string(text), "\n", 3)
	if len(lines) < 2 {
		return mailboxHeader{}, &FaultError{path, int64(len(headerMagic)), "cyrus.header is cut short"}
	}
	root, rest, tabbed := strings.Cut(lines[0], "\t")
	if !tabbed {
		return mailboxHeader{}, &FaultError{path, int64(len(headerMagic)), "cyrus.header has no unique id"}
	}
	id, _, _ := strings.Cut(rest, "\t")
	return mailboxHeader{uniqueID: id, quotaRoot: root, flags: strings.Split(strings.TrimRight(lines[1], " "), " ")}, nil
}

func parseNewHeader(path, text string) (mailboxHeader, error) {
	var h mailboxHeader
	d, _, err := cyrusdb.ParseDlist(text)
	if err != nil || d.Kind != cyrusdb.DlistMap {
		return h, &FaultError{path, int64(len(headerMagic)), "malformed cyrus.header"}
	}
	if id, ok := d.Get("I"); ok {
		h.uniqueID = id.Text
	}
	if q, ok := d.Get("Q"); ok {
		h.quotaRoot = q.Text
	}
	if u, ok := d.Get("U"); ok {
		for _, flag := range u.Items {
			h.flags = append(h.flags, flag.Text)
		}
	}
	if h.uniqueID == "" {
		return h, &FaultError{path, int64(len(headerMagic)), "cyrus.header has no unique id"}
	}
	return h, nil
}
