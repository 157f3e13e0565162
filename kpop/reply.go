package kpop

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
)

// A refusal is a -ERR reply after which the session goes on. Its text is a
// constant: nothing a client or a library said is ever sent back.
type refusal struct {
	code string // response code without brackets (RFC 2449 section 8); empty: none
	text string
	bad  bool // counted as a bad command: no client of POP3 sends such a line

	// detail follows the text as it is: a time or an address of ours.
	detail string
}

func (r *refusal) Error() string { return r.text }

// An ending is an error that ends the session; reply goes out before, unless
// it is nil.
type ending struct {
	how   string // for the log
	reply *refusal
}

func (e *ending) Error() string { return e.how }

var (
	refUnknown  = &refusal{text: "Unknown command", bad: true}
	refState    = &refusal{text: "Unknown command"} // in this state (RFC 1939 section 3)
	refSyntax   = &refusal{text: "Syntax error"}
	refOctets   = &refusal{text: "Only printable ASCII is allowed in a command", bad: true}
	refTooLong  = &refusal{text: "Line too long", bad: true}
	refNoUser   = &refusal{text: "USER comes first"}
	refNeedTLS  = &refusal{text: "STLS is required first"}
	refNoNumber = &refusal{text: "Message-number expected"}
	refNoSuch   = &refusal{text: "No such message"}
	refMarked   = &refusal{text: "Message is marked as deleted"}
	refGone     = &refusal{text: "Message was removed by another program"}
	refReadOnly = &refusal{code: "SYS/PERM", text: "Messages cannot be deleted from this maildrop"}

	// RFC 3206 section 5: the cause lies with the credentials. Unknown user,
	// wrong password, refused principal and missing mailbox are all this one.
	refDenied     = &refusal{code: "AUTH", text: "Authentication failed"}
	refProtocol   = &refusal{text: "Malformed authentication response"}
	refCancelled  = &refusal{text: "Authentication cancelled"} // RFC 5034 section 4
	refMechanism  = &refusal{text: "Unknown authentication mechanism"}
	refNoPassword = &refusal{text: "Passwords are not taken here"}
	refNoSTLS     = &refusal{text: "STLS is not possible here"}
	refInUse      = &refusal{code: "IN-USE", text: "Maildrop is in use by another session"} // RFC 2449 section 8.1.2
	refLoginDelay = &refusal{code: "LOGIN-DELAY", text: "Logged in too recently"}           // RFC 2449 section 8.1.1
	refTemporary  = &refusal{code: "SYS/TEMP", text: "Temporary failure, try again later"}  // RFC 3206 section 4
	refPermanent  = &refusal{code: "SYS/PERM", text: "Failure of the server, ask its operator"}
	refElsewhere  = &refusal{code: "SYS/PERM", text: "Maildrop is on another server"}
	refManyUser   = &refusal{code: "SYS/TEMP", text: "Too many sessions of this user"}
	refBusy       = &refusal{code: "SYS/TEMP", text: "Too many connections, try again later"}
	refDraining   = &refusal{code: "SYS/TEMP", text: "Server is shutting down, try again later"}
	refUpdate     = &refusal{code: "SYS/TEMP", text: "Some deleted messages not removed"} // RFC 1939 section 6
	refUpdatePerm = &refusal{code: "SYS/PERM", text: "Some deleted messages not removed"}
)

// loginRefusal is the one map from what a login ended in to a reply.
func loginRefusal(err error) *refusal {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, auth.ErrTemporary), errors.Is(err, mailstore.ErrTemporary):
		return refTemporary
	case errors.Is(err, auth.ErrPermanent), errors.Is(err, mailstore.ErrDamaged), errors.Is(err, mailstore.ErrReadOnly):
		return refPermanent
	case errors.Is(err, auth.ErrProtocol):
		return refProtocol
	case errors.Is(err, mailstore.ErrInUse):
		return refInUse
	case errors.Is(err, mailstore.ErrLoginDelay):
		return refLoginDelay
	}
	return refDenied // auth.ErrDenied, mailstore.ErrUnknown, and whatever is not known to be harmless
}

// holderTold adds to a maildrop in use since when and from where it is, when
// whoever asks is the same user: then it tells nothing about anybody else.
func holderTold(err error, user string) error {
	var used *mailstore.InUseError
	if !errors.As(err, &used) || used.Holder.User != user || used.Holder.Remote == "" {
		return err
	}
	from, _, splitErr := net.SplitHostPort(used.Holder.Remote)
	if splitErr != nil {
		from = used.Holder.Remote
	}
	detail := " since " + used.Holder.Since.UTC().Format(time.RFC3339) + " from " + from
	return fmt.Errorf("%w: %w", err, &refusal{code: refInUse.code, text: refInUse.text, detail: detail})
}

// storeRefusal maps what reading or updating a maildrop ended in.
func storeRefusal(err error) *refusal {
	switch {
	case errors.Is(err, mailstore.ErrGone):
		return refGone
	case errors.Is(err, mailstore.ErrDamaged), errors.Is(err, mailstore.ErrReadOnly):
		return refPermanent
	}
	return refTemporary
}

// ok appends a one-line +OK reply.
func (c *conn) ok(text string) {
	text = c.say(text)
	c.room(len(text) + 6)
	c.out = append(c.out, "+OK "...)
	c.out = append(c.out, text...)
	c.endReply(len(text) + 4)
}

// no appends a -ERR reply.
func (c *conn) no(r *refusal) {
	text := c.say(r.text) + r.detail
	n := len(text) + len(r.code) + 8
	c.room(n + 2)
	start := len(c.out)
	c.out = append(c.out, "-ERR "...)
	if r.code != "" {
		c.out = append(c.out, '[')
		c.out = append(c.out, r.code...)
		c.out = append(c.out, "] "...)
	}
	c.out = append(c.out, text...)
	c.endReply(len(c.out) - start)
}

// endReply ends the reply whose n octets are the last in the buffer.
func (c *conn) endReply(n int) {
	if c.trace {
		c.traceServer(c.out[len(c.out)-n:])
	}
	c.out = append(c.out, '\r', '\n')
}
