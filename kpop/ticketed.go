package kpop

import (
	"context"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// ticketed is the AUTHORIZATION state of a client that has proved a ticket
// before the greeting (KPOP). It has no AUTH and no APOP: no second proof can
// take the ticket's place, and what PASS says is never tried as a password.
type ticketed struct {
	*conn
	ticket auth.Identity
	user   string // from USER; empty: none
}

var ticketedTable = table[*ticketed]{
	"USER": {least: 1, most: 1, login: true, shown: 1, utf8: true, run: (*ticketed).userCommand},
	"PASS": {run: (*ticketed).pass, most: 3, utf8: true},
	"STLS": {run: (*ticketed).stls},
	"UTF8": {run: (*ticketed).utf8Command},
	"LANG": {most: 1, shown: 1, run: (*ticketed).language},
	"CAPA": {run: (*ticketed).capa},
	"QUIT": {run: (*ticketed).quit},
}

func (t *ticketed) do(ctx context.Context, cmd *command) (state, error) {
	return dispatch(ctx, ticketedTable, t, cmd)
}

func (t *ticketed) shown(verb []byte) (int, bool) { return ticketedTable.shown(verb) }
func (t *ticketed) longLine([]byte) bool          { return false }

// userCommand always agrees: names cannot be probed here, PASS decides.
func (t *ticketed) userCommand(_ context.Context, cmd *command) (state, error) {
	user, err := preparedName(cmd.arg[0])
	if err != nil {
		return t, err
	}
	t.user = user
	t.traceUser(t.user)
	t.ok("PASS please")
	return t, nil
}

// pass is a rite: each client sends another constant, and a person may type a
// real password; it is not looked at. The name in USER goes to the directory
// unchanged as the authorization identity.
func (t *ticketed) pass(ctx context.Context, _ *command) (state, error) {
	switch {
	case t.port.RequireTLS && t.tls == nil:
		return t, refNeedTLS
	case t.user == "":
		return t, refNoUser
	}
	id := t.ticket
	id.Authzid, t.user = t.user, ""
	ctx, cancel := t.loginContext(ctx)
	defer cancel()
	return t.proved(ctx, t, time.Now(), id, nil)
}

// stls keeps the ticket, which was proved before, and forgets USER.
func (t *ticketed) stls(context.Context, *command) (state, error) {
	if err := t.upgrade(); err != nil {
		return t, err
	}
	return &ticketed{conn: t.conn, ticket: t.ticket}, nil
}

func (t *ticketed) capa(context.Context, *command) (state, error) {
	t.sendCapa(nil)
	return t, nil
}

func (t *ticketed) quit(context.Context, *command) (state, error) {
	t.ok("Goodbye")
	return nil, nil
}
