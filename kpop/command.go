package kpop

import (
	"bytes"
	"context"
	"unicode/utf8"
)

// A command is one parsed line. Its slices lie in the read buffer and are good
// until the next line is read.
type command struct {
	verb []byte // upper case
	rest []byte // all that follows the separator after the verb, as sent
	arg  [2][]byte
	n    int // arguments; more than two count as three

	eightBit bool // there are octets above 0x7E: good where a row takes UTF-8
}

// parse splits line, whose end is already off. Verbs are case-insensitive
// (RFC 1939 section 3); line is folded in place.
//
// Client: a tab or several spaces between arguments, and spaces at the end, are
// taken by every server of the field, and so here.
func (c *command) parse(line []byte) *refusal {
	*c = command{}
	for _, b := range line {
		if (b < ' ' && b != '\t') || b == 0x7f {
			return refOctets
		}
		c.eightBit = c.eightBit || b >= utf8.RuneSelf
	}
	if c.eightBit && !utf8.Valid(line) {
		return refOctets
	}
	end := 0
	for end < len(line) && !blank(line[end]) {
		if 'a' <= line[end] && line[end] <= 'z' {
			line[end] -= 'a' - 'A'
		}
		end++
	}
	c.verb = line[:end]
	if end < len(line) {
		c.rest = line[end+1:]
	}
	c.split()
	return nil
}

func (c *command) split() {
	for rest := bytes.Trim(c.rest, " \t"); len(rest) > 0; c.n++ {
		if c.n == len(c.arg) {
			c.n++
			return
		}
		end := bytes.IndexAny(rest, " \t")
		if end < 0 {
			end = len(rest)
		}
		c.arg[c.n] = rest[:end]
		rest = bytes.TrimLeft(rest[end:], " \t")
	}
}

func blank(b byte) bool { return b == ' ' || b == '\t' }

// joinLogin makes the arguments one where they are a login name with a folder
// (Cyrus popsubfolders): USER john+Sent Items. No other name holds blanks.
func (c *command) joinLogin() bool {
	if c.n < 2 || !bytes.Contains(c.arg[0], []byte("+")) {
		return false
	}
	c.arg[0], c.n = bytes.Trim(c.rest, " \t"), 1
	return true
}

// A row is what a state can do with one verb. The type parameter is the state:
// a handler of another state does not fit into its table.
type row[S state] struct {
	least, most int  // arguments
	whole       bool // one argument that may hold blanks
	login       bool // one argument, a login name
	utf8        bool // arguments may be UTF-8
	shown       int  // arguments a trace may show; the rest is secret by position
	run         func(S, context.Context, *command) (state, error)
}

type table[S state] map[string]row[S]

// dispatch runs cmd in state s, which is left as it was on a refusal.
func dispatch[S state](ctx context.Context, t table[S], s S, cmd *command) (state, error) {
	r, ok := t[string(cmd.verb)]
	if cmd.eightBit && !(ok && r.utf8) {
		return s, refOctets
	}
	if !ok {
		return s, unknown(cmd.verb)
	}
	if r.whole && (cmd.n < r.least || len(cmd.rest) == 0) {
		return s, refSyntax
	}
	if !r.whole && (cmd.n < r.least || cmd.n > r.most) && !(r.login && cmd.joinLogin()) {
		return s, refSyntax
	}
	return r.run(s, ctx, cmd)
}

// unknown is the refusal of a verb that a state's table has not: one of another
// state comes from a client that has lost its way, not from one of another protocol.
func unknown(verb []byte) *refusal {
	for _, known := range []func([]byte) (int, bool){authorizationTable.shown, transactionTable.shown, pop4Table.shown} {
		if _, ok := known(verb); ok {
			return refState
		}
	}
	return refUnknown
}

// shown says how many of verb's arguments may appear in a trace; unknown verbs
// show nothing at all, not even themselves: they may be a mistyped password.
func (t table[S]) shown(verb []byte) (arguments int, known bool) {
	r, ok := t[string(verb)]
	return r.shown, ok
}
