package kpop

import (
	"context"

	"github.com/kpopd/kpopd/auth"
)

// ticketed is AUTHORIZATION when a Kerberos ticket came before the greeting.
// Who the client is was proved; USER says whose maildrop it wants and PASS is a
// rite. There is no AUTH and no APOP: a second proof cannot replace the first.
type ticketed struct {
	*conn
	id   *auth.Identity
	user string
}

var ticketedCommands = table[*ticketed]{
	"USER": {1, 1, (*ticketed).userName},
	"PASS": {0, 1, (*ticketed).pass},
	"CAPA": {0, 0, (*ticketed).capa},
	"STLS": {0, 0, (*ticketed).stls},
	"QUIT": {0, 0, (*ticketed).quit},
}

func (t *ticketed) do(ctx context.Context, line []byte) (state, error) {
	return ticketedCommands.do(ctx, t, &t.args, line)
}

func (t *ticketed) lineLimit() int { return t.server.Limits.lineLength() }

func (t *ticketed) close() error { return nil }

// userName always answers +OK: the decision falls at PASS.
func (t *ticketed) userName(_ context.Context, args [][]byte) (state, error) {
	if len(args[0]) > maxArgument {
		return nil, errSyntax
	}
	t.user = string(args[0])
	return t, t.reply("+OK send PASS")
}

// pass decides. Its argument is neither read nor logged: three clients send
// three different constants, and a user may type a real password.
func (t *ticketed) pass(ctx context.Context, _ [][]byte) (state, error) {
	if t.user == "" {
		return nil, errUserFirst
	}
	if t.port.RequireTLS && t.peer.TLS == nil {
		return nil, errNeedsTLS
	}
	id := *t.id
	id.Authzid = t.user
	t.user = ""
	next, err := t.enter(ctx, &id)
	if err != nil {
		return nil, err
	}
	return next, nil
}

func (t *ticketed) capa(context.Context, [][]byte) (state, error) {
	return t, t.capabilities(capaState{passwords: true, stls: t.canSTLS()})
}

// stls upgrades the connection; the ticket's proof stays, what was said in
// clear does not.
func (t *ticketed) stls(ctx context.Context, _ [][]byte) (state, error) {
	if err := t.upgrade(ctx); err != nil {
		return nil, err
	}
	return &ticketed{conn: t.conn, id: t.id}, nil
}

func (t *ticketed) quit(context.Context, [][]byte) (state, error) {
	return nil, t.reply("+OK bye")
}
