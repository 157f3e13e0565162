package kpop

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// A Port is what one listener offers. It must not change while it is served.
type Port struct {
	Name string // the listener's name in logs

	// TLS gives the configuration for STLS or implicit TLS; nil: no TLS. It
	// is asked once for each handshake, so that a certificate can be renewed.
	// Its NextProtos should be "pop3" alone: a client that asks for another
	// protocol is then refused by the handshake.
	TLS      func() *tls.Config
	Implicit bool // TLS before the greeting (RFC 8314 section 3.3)

	// Preamble proves an identity before the greeting: the KPOP ticket. When
	// it fails it has answered the client in its own way, and the connection
	// is closed. What it reads past its own exchange is lost to the session;
	// what it writes goes out when it reads or returns. The login's deadline
	// stands when it has returned.
	Preamble func(context.Context, net.Conn, auth.Peer) (*auth.Identity, error)

	Mechanisms      []auth.Mechanism   // for AUTH, in CAPA's order
	Password        auth.PasswordCheck // for USER and PASS; nil: neither
	PasswordInClear bool               // plaintext passwords without TLS: a trusted listener
	APOP            APOP               // nil: no stamp in the greeting, no APOP
	RequireTLS      bool               // no login of any kind before TLS

	// RefuseLegacy: a client that has not sent UTF8 is refused a message with
	// octets above 0x7F in its headers, instead of getting a surrogate (RFC 6858).
	RefuseLegacy bool
	Language     string // what "LANG *" means, an RFC 5646 tag; empty: en

	Announce Announcement // for CAPA before login
	POP4     bool         // folders, flags and parts (docs/pop4.md)
}

// An Announcement is what CAPA says before it is known who logs in (RFC 2449
// sections 6.5 and 6.7); afterwards the account's own values take its place.
type Announcement struct {
	Retention  time.Duration // the shortest; zero: not announced, negative: never
	LoginDelay time.Duration // the longest; zero: none
	PerUser    bool          // accounts may have others
}

// APOP is the check behind the APOP command (RFC 1939 section 7).
type APOP interface {
	// Stamp makes the greeting's timestamp, a msg-id with its angle brackets,
	// different each time.
	Stamp() string

	// Check says whether digest is user's for stamp.
	Check(ctx context.Context, peer auth.Peer, user, digest, stamp string) (*auth.Identity, error)
}
