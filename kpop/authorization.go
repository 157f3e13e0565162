package kpop

import (
	"bytes"
	"context"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// authorization is the AUTHORIZATION state (RFC 1939 section 4) of a client
// that has proved nothing. It has no maildrop: no message command can be
// written here.
type authorization struct {
	*conn
	user  string // from USER; empty: none
	stamp string // the greeting's, for APOP; empty: none
}

var authorizationTable = table[*authorization]{
	"USER": {least: 1, most: 1, login: true, shown: 1, utf8: true, run: (*authorization).userCommand},
	"PASS": {whole: true, utf8: true, run: (*authorization).pass},
	"APOP": {least: 2, most: 2, shown: 1, utf8: true, run: (*authorization).apop},
	"AUTH": {most: 2, shown: 1, run: (*authorization).auth},
	"STLS": {run: (*authorization).stls},
	"UTF8": {run: (*authorization).utf8Command},
	"LANG": {most: 1, shown: 1, run: (*authorization).language},
	"CAPA": {run: (*authorization).capa},
	"QUIT": {run: (*authorization).quit},
}

func (a *authorization) do(ctx context.Context, cmd *command) (state, error) {
	return dispatch(ctx, authorizationTable, a, cmd)
}

func (a *authorization) shown(verb []byte) (int, bool) { return authorizationTable.shown(verb) }

// longLine: Client: s-nail sends 956 octets of initial response in its AUTH
// line, and tickets with a PAC are longer still.
func (a *authorization) longLine(line []byte) bool { return isAuth(line) }

func isAuth(line []byte) bool {
	return len(line) > 5 && bytes.EqualFold(line[:4], []byte("AUTH")) && blank(line[4])
}

// passwordsAllowed says whether a password may be asked for now (RFC 8314
// section 3, RFC 2595 section 2.2).
func (c *conn) passwordsAllowed() bool {
	return c.tls != nil || (c.port.PasswordInClear && !c.port.RequireTLS)
}

// userAllowed says whether USER and PASS are to be had (RFC 2449 section 6.3).
func (c *conn) userAllowed() bool {
	if c.port.Preamble != nil {
		return true // PASS holds no password there
	}
	return c.port.Password != nil && c.passwordsAllowed()
}

// userCommand refuses before the client sends its password in clear.
func (a *authorization) userCommand(_ context.Context, cmd *command) (state, error) {
	if !a.userAllowed() {
		return a, a.notInClear()
	}
	user, err := preparedName(cmd.arg[0])
	if err != nil {
		return a, err
	}
	a.user = user
	a.traceUser(a.user)
	a.ok("PASS please")
	return a, nil
}

func (c *conn) notInClear() *refusal {
	if c.port.TLS != nil && c.tls == nil {
		return refNeedTLS
	}
	return refNoPassword
}

// pass checks a password. Whatever it ends in, USER has to be said again.
func (a *authorization) pass(ctx context.Context, cmd *command) (state, error) {
	if !a.userAllowed() {
		return a, a.notInClear()
	}
	user := a.user
	if user == "" {
		return a, refNoUser
	}
	a.user = ""
	began := time.Now()
	ctx, cancel := a.loginContext(ctx)
	defer cancel()
	var id *auth.Identity
	password, err := auth.PreparePassword(string(cmd.rest))
	if err == nil {
		id, err = a.port.Password(ctx, a.peer(), user, password)
	}
	return a.proved(ctx, a, began, named(id, "USER", user), err)
}

// apop checks a digest of the greeting's stamp (RFC 1939 section 7).
func (a *authorization) apop(ctx context.Context, cmd *command) (state, error) {
	if a.stamp == "" {
		return a, refMechanism
	}
	user, err := preparedName(cmd.arg[0])
	if err != nil {
		return a, err
	}
	digest := string(cmd.arg[1])
	a.traceUser(user)
	began := time.Now()
	ctx, cancel := a.loginContext(ctx)
	defer cancel()
	id, err := a.port.APOP.Check(ctx, a.peer(), user, digest, a.stamp)
	return a.proved(ctx, a, began, named(id, "APOP", user), err)
}

// named returns id with what a check may leave to its caller; when there is no
// identity, one that tells the log who was refused.
func named(id *auth.Identity, mechanism, user string) auth.Identity {
	var full auth.Identity
	if id != nil {
		full = *id
	}
	if full.Mechanism == "" {
		full.Mechanism = mechanism
	}
	if full.Authzid == "" {
		full.Authzid = user
	}
	return full
}

// stls gives back a fresh state: the user name, the stamp, UTF8 and the language
// that were said in clear are forgotten (RFC 2595 section 4).
func (a *authorization) stls(context.Context, *command) (state, error) {
	if err := a.upgrade(); err != nil {
		return a, err
	}
	return &authorization{conn: a.conn}, nil
}

func (a *authorization) capa(context.Context, *command) (state, error) {
	a.sendCapa(nil)
	return a, nil
}

func (a *authorization) quit(context.Context, *command) (state, error) {
	a.ok("Goodbye")
	return nil, nil
}
