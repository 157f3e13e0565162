package kpop

import (
	"context"
	"math"
	"strconv"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
)

// transaction is the TRANSACTION state (RFC 1939 section 5). Only enter makes
// one. Marks belong to the session, not to the maildrop: a lost connection
// loses them.
type transaction struct {
	*conn
	drop     mailstore.Maildrop
	appender mailstore.Appender // drop, when it can
	account  *auth.Account

	deleted       marks
	deletedOctets int64
	retrieved     marks
	legacy        legacy
	refused       bool // DELE was
}

var transactionTable = table[*transaction]{
	"STAT": {run: (*transaction).stat},
	"LIST": {most: 1, shown: 1, run: (*transaction).list},
	"UIDL": {most: 1, shown: 1, run: (*transaction).uidl},
	"RETR": {least: 1, most: 1, shown: 1, run: (*transaction).retr},
	"TOP":  {least: 2, most: 2, shown: 2, run: (*transaction).top},
	"DELE": {least: 1, most: 1, shown: 1, run: (*transaction).dele},
	"*ENV": {least: 1, most: 1, shown: 1, run: (*transaction).env},
	"NOOP": {run: (*transaction).noop},
	"RSET": {run: (*transaction).rset},
	"UTF8": {run: (*transaction).utf8Command},
	"LANG": {most: 1, shown: 1, run: (*transaction).language},
	"CAPA": {run: (*transaction).capa},
	"QUIT": {run: (*transaction).quit},
}

func (t *transaction) do(ctx context.Context, cmd *command) (state, error) {
	return dispatch(ctx, transactionTable, t, cmd)
}

func (t *transaction) shown(verb []byte) (int, bool) { return transactionTable.shown(verb) }
func (t *transaction) longLine([]byte) bool          { return false }

func (t *transaction) stat(context.Context, *command) (state, error) {
	octets, err := t.octets()
	if err != nil {
		return t, t.refuse("STAT", 0, err)
	}
	t.room(64)
	mark := len(t.out)
	t.out = append(t.out, "+OK "...)
	t.out = strconv.AppendInt(t.out, int64(t.drop.Len()-t.deleted.count), 10)
	t.out = append(t.out, ' ')
	t.out = strconv.AppendInt(t.out, octets-t.deletedOctets, 10)
	t.endReply(len(t.out) - mark)
	return t, nil
}

// list asks for a size before the reply begins: a store that cannot tell one now
// is refused with a reason, and the session goes on.
func (t *transaction) list(_ context.Context, cmd *command) (state, error) {
	if cmd.n == 0 && t.drop.Len() > 0 {
		if _, err := t.size(1); err != nil {
			return t, t.refuse("LIST", 1, err)
		}
	}
	return t.listing(cmd, (*transaction).appendSize)
}

func (t *transaction) uidl(_ context.Context, cmd *command) (state, error) {
	return t.listing(cmd, (*transaction).appendUniqueID)
}

func (t *transaction) appendSize(n mailstore.Number) error {
	size, err := t.size(n)
	t.out = strconv.AppendInt(t.out, size, 10)
	return err
}

func (t *transaction) appendUniqueID(n mailstore.Number) error {
	t.out = t.drop.AppendUniqueID(t.out, n)
	return nil
}

// listing answers LIST or UIDL, for one message or for all (RFC 1939 sections 5
// and 7), a line from what appends one message's value.
func (t *transaction) listing(cmd *command, value func(*transaction, mailstore.Number) error) (state, error) {
	const longest = 512 // number, value or text, and line end
	t.room(longest)
	mark := len(t.out)
	t.out = append(t.out, "+OK "...)
	if cmd.n == 1 {
		n, err := t.number(cmd.arg[0])
		if err == nil {
			err = t.appendLine(n, value)
		}
		if err != nil {
			t.out = t.out[:mark]
			return t, t.asRefusal(string(cmd.verb), n, err)
		}
		t.endReply(len(t.out) - mark)
		return t, nil
	}
	t.out = strconv.AppendInt(t.out, int64(t.drop.Len()-t.deleted.count), 10)
	t.out = append(append(t.out, ' '), t.say("messages")...)
	t.endReply(len(t.out) - mark)
	var count numeral
	for n, last := mailstore.Number(1), mailstore.Number(t.drop.Len()); n <= last && t.wrErr == nil; n++ {
		count.next()
		if t.deleted.has(n) {
			continue
		}
		t.room(longest)
		t.out = append(append(t.out, count.text()...), ' ')
		if err := value(t, n); err != nil {
			t.warn("listing cut short", n, err)
			return t, &ending{how: "listing cut short"}
		}
		t.out = append(t.out, '\r', '\n')
	}
	t.putString(".\r\n")
	return t, nil
}

func (t *transaction) appendLine(n mailstore.Number, value func(*transaction, mailstore.Number) error) error {
	t.out = strconv.AppendInt(t.out, int64(n), 10)
	t.out = append(t.out, ' ')
	return value(t, n)
}

// A numeral counts up in decimal. To format each message-number anew was a quarter
// of what a line of a listing costs (BenchmarkList100k).
type numeral struct {
	digits [20]byte // right-aligned
	length int
}

func (n *numeral) next() {
	for i := len(n.digits) - 1; ; i-- {
		switch {
		case i < len(n.digits)-n.length:
			n.digits[i] = '1'
			n.length++
			return
		case n.digits[i] < '9':
			n.digits[i]++
			return
		}
		n.digits[i] = '0'
	}
}

func (n *numeral) text() []byte { return n.digits[len(n.digits)-n.length:] }

func (t *transaction) asRefusal(what string, n mailstore.Number, err error) *refusal {
	if r, ok := err.(*refusal); ok {
		return r
	}
	return t.refuse(what, n, err)
}

func (t *transaction) dele(_ context.Context, cmd *command) (state, error) {
	n, err := t.number(cmd.arg[0])
	if err != nil {
		return t, err
	}
	if r, ok := t.drop.(mailstore.Restricted); ok {
		if err := r.ReadOnly(); err != nil {
			if !t.refused { // a client that empties a large maildrop is told of once
				t.refused = true
				t.warn("DELE refused", n, err)
			}
			return t, refReadOnly
		}
	}
	size, err := t.size(n)
	if err != nil {
		return t, t.refuse("DELE", n, err)
	}
	t.deleted.set(n)
	t.deletedOctets += size
	t.ok("Marked")
	return t, nil
}

func (t *transaction) noop(context.Context, *command) (state, error) {
	t.ok("Nothing done")
	return t, nil
}

func (t *transaction) rset(context.Context, *command) (state, error) {
	t.deleted, t.deletedOctets = marks{}, 0
	t.ok("No message is marked")
	return t, nil
}

// number is the one way from an argument to a message: a number, in the
// maildrop, and not marked.
func (t *transaction) number(arg []byte) (mailstore.Number, error) {
	v, err := parseCount(arg)
	switch {
	case err != nil:
		return 0, err
	case v < 1 || v > int64(t.drop.Len()):
		return 0, refNoSuch
	case t.deleted.has(mailstore.Number(v)):
		return 0, refMarked
	}
	return mailstore.Number(v), nil
}

// parseCount reads a decimal number. One too large for any maildrop is as good
// as the largest.
func parseCount(arg []byte) (int64, error) {
	var v int64
	for _, b := range arg {
		if b < '0' || b > '9' {
			return 0, refNoNumber
		}
		if v = v*10 + int64(b-'0'); v > math.MaxInt32 {
			v = math.MaxInt32
		}
	}
	return v, nil
}

// marks is a set of message-numbers; the empty one has no memory.
type marks struct {
	bits  []uint64
	count int
}

func (m *marks) has(n mailstore.Number) bool {
	word := int(n-1) / 64
	return word < len(m.bits) && m.bits[word]&(1<<(uint(n-1)%64)) != 0
}

func (m *marks) set(n mailstore.Number) {
	if m.has(n) {
		return
	}
	if word := int(n-1) / 64; word >= len(m.bits) {
		m.bits = append(m.bits, make([]uint64, word+1-len(m.bits))...)
	}
	m.bits[int(n-1)/64] |= 1 << (uint(n-1) % 64)
	m.count++
}

// numbers returns the set in ascending order; nil when it is empty.
func (m *marks) numbers() []mailstore.Number {
	if m.count == 0 {
		return nil
	}
	all := make([]mailstore.Number, 0, m.count)
	for n := mailstore.Number(1); len(all) < m.count; n++ {
		if m.has(n) {
			all = append(all, n)
		}
	}
	return all
}
