package kpop

import (
	"bytes"
	"context"
)

// A command is one line, split: the verb folded to upper case and the rest.
type command struct {
	verb string
	args [][]byte
}

// An entry is a row of a state's table: how many arguments a command takes and
// what it does. S is the state, so that a handler of another state does not
// fit.
type entry[S any] struct {
	least, most int
	run         func(S, context.Context, [][]byte) (state, error)
}

type table[S any] map[string]entry[S]

// maxVerb is longer than every verb (RFC 2449 section 4 allows 12 octets).
const maxVerb = 12

// do looks the line's verb up and runs it. args is scratch space of the
// connection's, so that a command costs no allocation.
func (t table[S]) do(ctx context.Context, s S, args *[2][]byte, line []byte) (state, error) {
	verb, rest, spaced := bytes.Cut(line, []byte{' '})
	var folded [maxVerb]byte
	if len(verb) == 0 || len(verb) > maxVerb {
		return nil, errUnknownCommand
	}
	for i, c := range verb {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		folded[i] = c
	}
	e, ok := t[string(folded[:len(verb)])]
	if !ok {
		return nil, errUnknownCommand
	}
	given, ok := split(args, rest, spaced, e.most)
	if !ok || len(given) < e.least {
		return nil, errSyntax
	}
	return e.run(s, ctx, given)
}

// split cuts rest into at most most arguments; the last one takes what is left,
// for a password may hold blanks. Extra blanks before an argument are let
// pass, as both Cyrus and Dovecot do, and so is one blank at the line's end.
func split(args *[2][]byte, rest []byte, spaced bool, most int) ([][]byte, bool) {
	out := args[:0]
	if !spaced {
		return out, true
	}
	for len(out) < most {
		rest = bytes.TrimLeft(rest, " ")
		if len(rest) == 0 {
			return out, true
		}
		if len(out) == most-1 {
			return append(out, rest), true
		}
		word, after, _ := bytes.Cut(rest, []byte{' '})
		out, rest = append(out, word), after
	}
	return out, len(bytes.TrimLeft(rest, " ")) == 0
}

// isUnprintable says whether a line holds octets that no command has: controls.
// Octets above 0x7E are left to the arguments that may hold UTF-8.
func isUnprintable(line []byte) bool {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// decimal reads an unsigned number of at most 18 digits; leading zeros are let
// pass, as everywhere.
func decimal(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
