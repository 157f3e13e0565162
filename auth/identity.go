package auth

import (
	"crypto/tls"
	"log/slog"
	"net"
)

// An Identity is what a mechanism has proved. It carries no permission.
type Identity struct {
	Mechanism string // GSSAPI, GS2-KRB5, PLAIN, LOGIN, APOP, USER, KPOP
	Authcid   string // who was proved: a full principal (name@REALM) or a user name
	Authzid   string // whose maildrop was asked for; empty: Authcid's own

	// Realm is the Kerberos realm of Authcid when a ticket or a KDC proved
	// it, taken from inside the ticket; empty for APOP and the like.
	Realm string

	// Detail is what the mechanism wants in the session's log line (kvno,
	// enctype, skew). It never holds a secret.
	Detail []slog.Attr
}

// A Peer is the other end of a connection as a mechanism may know it.
type Peer struct {
	Remote   net.Addr
	Local    net.Addr
	Listener string               // the listener's name in the configuration
	TLS      *tls.ConnectionState // nil without TLS
}
