package auth

import (
	"context"
	"time"
)

// A Directory says what an Identity may do. Lookup answers with the account
// whose maildrop is to be opened, or with an error that wraps ErrDenied (no
// such account, locked, not allowed: one and the same outside) or ErrTemporary
// (the directory cannot be asked; never mistaken for a refusal).
type Directory interface {
	Lookup(ctx context.Context, id Identity) (Account, error)
}

// A DirectoryFunc is a Directory made of a function.
type DirectoryFunc func(ctx context.Context, id Identity) (Account, error)

// Lookup calls f.
func (f DirectoryFunc) Lookup(ctx context.Context, id Identity) (Account, error) { return f(ctx, id) }

// An Account is a maildrop that an Identity may open.
type Account struct {
	User     string // local user name, for the log and for per-user limits
	Mailbox  string // name for mailstore.Store.Open: a Cyrus userid, with +folder when one was asked for
	Host     string // home server when it is another one; empty: here
	UIDStyle string // unique-id format that overrides the store's; empty: the store's own

	// Retention is how long messages are kept, for CAPA's EXPIRE (RFC 2449
	// section 6.7): zero means not announced, negative means NEVER.
	Retention time.Duration

	// LoginDelay is the least time between two logins, for CAPA's
	// LOGIN-DELAY (RFC 2449 section 6.5); zero means none.
	LoginDelay time.Duration

	// Acting is true when the Authcid opens somebody else's maildrop; it is
	// always audited with both names.
	Acting bool
}
