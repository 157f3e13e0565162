package auth

import "errors"

// What a login can end in besides an Identity. The engine maps them to reply
// codes (RFC 2449, RFC 3206) and never shows their text to a client; wrapped
// causes go to the log.
var (
	// ErrDenied: wrong credentials, unknown or locked user, not permitted.
	// One text and one delay outside whatever the cause: [AUTH].
	ErrDenied = errors.New("denied")

	// ErrTemporary: a KDC, a directory or a replay cache could not be asked;
	// trying again later may work: [SYS/TEMP].
	ErrTemporary = errors.New("temporarily unavailable")

	// ErrPermanent: a fault of the server's configuration that an operator
	// must mend: [SYS/PERM].
	ErrPermanent = errors.New("server misconfigured")

	// ErrProtocol: the client broke the mechanism's syntax; no code.
	ErrProtocol = errors.New("malformed response")
)
