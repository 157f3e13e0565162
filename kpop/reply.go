package kpop

import (
	"errors"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
)

// A refusal is a -ERR after which the session goes on; any other error of a
// handler ends the session. Its text is the whole reply and never holds an
// octet that the client or a room below sent.
type refusal struct {
	text string
	bad  bool // counts as a bad command
}

func (r *refusal) Error() string { return r.text }

// The refusals. Response codes are those of RFC 2449 section 8 and RFC 3206.
var (
	errUnknownCommand  = &refusal{"unknown command", true}
	errSyntax          = &refusal{"syntax error in arguments", true}
	errLineTooLong     = &refusal{"line too long", true}
	errOctets          = &refusal{"octets that no command holds", true}
	errNoSuchMessage   = &refusal{"no such message", false}
	errDeleted         = &refusal{"message is marked as deleted", false}
	errGone            = &refusal{"message was removed by another program", false}
	errUserFirst       = &refusal{"USER first", true}
	errNeedsTLS        = &refusal{"[AUTH] needs STLS first", false}
	errDenied          = &refusal{"[AUTH] authentication failed", false}
	errTemporary       = &refusal{"[SYS/TEMP] temporary failure, try again later", false}
	errPermanent       = &refusal{"[SYS/PERM] server problem, tell its operator", false}
	errInUse           = &refusal{"[IN-USE] maildrop is in use by another session", false}
	errLoginDelay      = &refusal{"[LOGIN-DELAY] minimum time between logins has not passed", false}
	errReadOnly        = &refusal{"[SYS/PERM] maildrop is read-only here", false}
	errDamaged         = &refusal{"[SYS/PERM] maildrop is damaged, tell its operator", false}
	errCancelled       = &refusal{"authentication cancelled", false}
	errNotBase64       = &refusal{"response is not base64", true}
	errBadResponse     = &refusal{"malformed response", true}
	errNoMechanism     = &refusal{"mechanism not offered", false}
	errTLSUnavailable  = &refusal{"STLS is not available here", false}
	errTooManySessions = &refusal{"[IN-USE] too many sessions of this user", false}
)

// refusalFor is the one map from what the rooms below say to what the client
// hears. Unknown users, wrong passwords, refused principals and missing
// mailboxes sound alike.
func refusalFor(err error) *refusal {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, mailstore.ErrInUse):
		return errInUse
	case errors.Is(err, mailstore.ErrLoginDelay):
		return errLoginDelay
	case errors.Is(err, mailstore.ErrReadOnly):
		return errReadOnly
	case errors.Is(err, mailstore.ErrDamaged):
		return errDamaged
	case errors.Is(err, mailstore.ErrGone):
		return errGone
	case errors.Is(err, auth.ErrProtocol):
		return errBadResponse
	case errors.Is(err, auth.ErrTemporary), errors.Is(err, mailstore.ErrTemporary):
		return errTemporary
	case errors.Is(err, auth.ErrPermanent):
		return errPermanent
	case errors.Is(err, auth.ErrDenied), errors.Is(err, mailstore.ErrUnknown):
		return errDenied
	default:
		return errTemporary
	}
}
