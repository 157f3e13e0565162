package kpop

import (
	"context"
	"errors"
	"strconv"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
)

// transaction is RFC 1939's TRANSACTION state (section 5). Marks belong to the
// session; the maildrop knows nothing of them until UPDATE.
type transaction struct {
	*conn
	drop    mailstore.Maildrop
	account auth.Account

	deleted   bitset
	retrieved bitset
	marked    int   // how many are deleted
	gone      int64 // their octets
}

var transactionCommands = table[*transaction]{
	"STAT": {0, 0, (*transaction).stat},
	"LIST": {0, 1, (*transaction).list},
	"UIDL": {0, 1, (*transaction).uidl},
	"RETR": {1, 1, (*transaction).retr},
	"TOP":  {2, 2, (*transaction).top},
	"DELE": {1, 1, (*transaction).dele},
	"RSET": {0, 0, (*transaction).rset},
	"NOOP": {0, 0, (*transaction).noop},
	"CAPA": {0, 0, (*transaction).capa},
	"QUIT": {0, 0, (*transaction).quit},
}

func (t *transaction) do(ctx context.Context, line []byte) (state, error) {
	return transactionCommands.do(ctx, t, &t.args, line)
}

func (t *transaction) lineLimit() int { return t.server.Limits.lineLength() }

func (t *transaction) close() error {
	t.rest = nil
	t.server.admission.removeUser(t.account.User)
	return t.drop.Close()
}

// number is the only way from an argument to a message.
func (t *transaction) number(arg []byte) (mailstore.Number, error) {
	n, ok := decimal(arg)
	switch {
	case !ok:
		return 0, errSyntax
	case n < 1 || n > int64(t.drop.Len()):
		return 0, errNoSuchMessage
	case t.deleted.has(int(n)):
		return 0, errDeleted
	}
	return mailstore.Number(n), nil
}

// stat counts what is not marked (RFC 1939 section 5, STAT).
func (t *transaction) stat(context.Context, [][]byte) (state, error) {
	octets, err := t.drop.Octets()
	if err != nil {
		return nil, t.trouble(err)
	}
	b := append(*t.output(), "+OK "...)
	b = strconv.AppendInt(b, int64(t.drop.Len()-t.marked), 10)
	b = strconv.AppendInt(append(b, ' '), octets-t.gone, 10)
	*t.out = append(b, "\r\n"...)
	return t, t.relieve()
}

// list is LIST (RFC 1939 section 5): number and size.
func (t *transaction) list(_ context.Context, args [][]byte) (state, error) {
	return t.listing(args, func(b []byte, n mailstore.Number) ([]byte, error) {
		size, err := t.drop.Size(n)
		return strconv.AppendInt(b, size, 10), err
	})
}

// uidl is UIDL (RFC 1939 section 7): number and unique-id.
func (t *transaction) uidl(_ context.Context, args [][]byte) (state, error) {
	return t.listing(args, func(b []byte, n mailstore.Number) ([]byte, error) {
		return t.drop.AppendUniqueID(b, n), nil
	})
}

// listing answers for one message or streams a line for each that is not
// marked, without a string per line.
func (t *transaction) listing(args [][]byte, field func([]byte, mailstore.Number) ([]byte, error)) (state, error) {
	if len(args) == 1 {
		return t.listOne(args[0], field)
	}
	t.put("+OK\r\n")
	for n := 1; n <= t.drop.Len(); n++ {
		if t.deleted.has(n) {
			continue
		}
		b := append(strconv.AppendInt(*t.out, int64(n), 10), ' ')
		b, err := field(b, mailstore.Number(n))
		if err != nil {
			return nil, errors.Join(errHangUp, err) // the +OK is out: only the connection can fail
		}
		*t.out = append(b, "\r\n"...)
		if err := t.relieve(); err != nil {
			return nil, err
		}
	}
	*t.out = append(*t.out, ".\r\n"...)
	return t, t.relieve()
}

func (t *transaction) listOne(arg []byte, field func([]byte, mailstore.Number) ([]byte, error)) (state, error) {
	n, err := t.number(arg)
	if err != nil {
		return nil, err
	}
	b := append(*t.output(), "+OK "...)
	start := len(*t.out)
	b = append(strconv.AppendInt(b, int64(n), 10), ' ')
	if b, err = field(b, n); err != nil {
		*t.out = b[:start]
		return nil, t.trouble(err)
	}
	*t.out = append(b, "\r\n"...)
	return t, t.relieve()
}

// dele marks (RFC 1939 section 5, DELE); nothing else happens until QUIT.
func (t *transaction) dele(_ context.Context, args [][]byte) (state, error) {
	n, err := t.number(args[0])
	if err != nil {
		return nil, err
	}
	size, err := t.drop.Size(n)
	if err != nil {
		return nil, t.trouble(err)
	}
	t.deleted.set(int(n), t.drop.Len())
	t.marked++
	t.gone += size
	return t, t.reply("+OK marked")
}

// rset takes all marks back (RFC 1939 section 5, RSET).
func (t *transaction) rset(context.Context, [][]byte) (state, error) {
	t.deleted, t.marked, t.gone = nil, 0, 0
	return t, t.reply("+OK marks removed")
}

func (t *transaction) noop(context.Context, [][]byte) (state, error) {
	return t, t.reply("+OK")
}

func (t *transaction) capa(context.Context, [][]byte) (state, error) {
	return t, t.capabilities(capaState{account: &t.account, sasl: nil, passwords: true})
}

// trouble logs what a store said and gives what the client hears.
func (t *transaction) trouble(err error) error {
	t.log.Warn("maildrop", "error", err)
	r := refusalFor(err)
	if r == errDenied {
		return errTemporary
	}
	return r
}

// A bitset holds message-numbers; nil is the empty one.
type bitset []uint64

func (s bitset) has(n int) bool { return n>>6 < len(s) && s[n>>6]&(1<<(n&63)) != 0 }

func (s *bitset) set(n, most int) {
	if *s == nil {
		*s = make(bitset, most>>6+1)
	}
	(*s)[n>>6] |= 1 << (n & 63)
}

// numbers gives the members in order.
func (s bitset) numbers(most int) []mailstore.Number {
	var out []mailstore.Number
	for n := 1; n <= most && s != nil; n++ {
		if s.has(n) {
			out = append(out, mailstore.Number(n))
		}
	}
	return out
}
