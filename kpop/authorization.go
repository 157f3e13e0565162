package kpop

import (
	"bytes"
	"context"

	"github.com/kpopd/kpopd/auth"
)

// authorization is RFC 1939's AUTHORIZATION state. It has no maildrop: no
// command on messages can be written here.
type authorization struct {
	*conn
	stamp string // APOP's, from the greeting; empty once TLS was begun
	user  string
}

var authorizationCommands = table[*authorization]{
	"USER": {1, 1, (*authorization).userName},
	"PASS": {1, 1, (*authorization).pass},
	"APOP": {2, 2, (*authorization).apop},
	"AUTH": {0, 2, (*authorization).auth},
	"CAPA": {0, 0, (*authorization).capa},
	"STLS": {0, 0, (*authorization).stls},
	"QUIT": {0, 0, (*authorization).quit},
}

func (a *authorization) do(ctx context.Context, line []byte) (state, error) {
	return authorizationCommands.do(ctx, a, &a.args, line)
}

// lineLimit allows for an initial response on the AUTH line: s-nail sends 956
// octets, tickets with a PAC up to 128 KiB (RFC 5034 section 4 has 255).
func (a *authorization) lineLimit() int { return a.server.Limits.saslLine() }

func (a *authorization) close() error { return nil }

// passwords says whether USER and PASS may be used on this connection now.
func (a *authorization) passwords() bool {
	return a.port.Password != nil && (a.peer.TLS != nil || a.port.PasswordInClear)
}

// userName is USER (RFC 1939 section 7). Every name is welcome until PASS, so
// that none can be probed for.
func (a *authorization) userName(_ context.Context, args [][]byte) (state, error) {
	if !a.passwords() {
		return nil, a.whyNoPassword()
	}
	if len(args[0]) > maxArgument {
		return nil, errSyntax
	}
	a.user = string(args[0])
	return a, a.reply("+OK send PASS")
}

// maxArgument bounds names and passwords, in octets.
const maxArgument = 255

func (a *authorization) whyNoPassword() *refusal {
	if a.port.Password != nil && a.port.TLS != nil {
		return errNeedsTLS
	}
	return errNoMechanism
}

// pass is PASS (RFC 1939 section 7).
func (a *authorization) pass(ctx context.Context, args [][]byte) (state, error) {
	if !a.passwords() {
		return nil, a.whyNoPassword()
	}
	if a.user == "" {
		return nil, errUserFirst
	}
	user := a.user
	a.user = ""
	if len(args[0]) > maxArgument {
		return nil, a.fail(ctx, "USER", auth.ErrDenied)
	}
	id, err := a.port.Password(ctx, a.peer, user, string(args[0]))
	if err != nil {
		return nil, a.fail(ctx, "USER", err)
	}
	return a.entered(ctx, id)
}

// apop is APOP (RFC 1939 section 7).
func (a *authorization) apop(ctx context.Context, args [][]byte) (state, error) {
	if a.port.APOP == nil || a.stamp == "" {
		return nil, errNoMechanism
	}
	if len(args[0]) > maxArgument {
		return nil, errSyntax
	}
	id, err := a.port.APOP.Check(ctx, a.peer, a.stamp, string(args[0]), string(bytes.TrimRight(args[1], " ")))
	if err != nil {
		return nil, a.fail(ctx, "APOP", err)
	}
	return a.entered(ctx, id)
}

// entered passes a proof on to the one door; a typed nil must not get into the
// state interface.
func (a *authorization) entered(ctx context.Context, id *auth.Identity) (state, error) {
	t, err := a.enter(ctx, id)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (a *authorization) quit(context.Context, [][]byte) (state, error) {
	return nil, a.reply("+OK bye")
}

func (a *authorization) capa(context.Context, [][]byte) (state, error) {
	return a, a.capabilities(capaState{passwords: a.passwords(), sasl: a.mechanisms(), stls: a.canSTLS()})
}
