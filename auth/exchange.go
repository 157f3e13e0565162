package auth

import (
	"context"
	"net"
)

// A Mechanism is one SASL mechanism (RFC 4422) as data: the server's list of
// them, in order, is its CAPA line.
type Mechanism struct {
	Name      string // as in CAPA and AUTH, upper case
	Plaintext bool   // shows the server the password: offered under TLS only

	// Usable says whether the mechanism can be offered to this peer; nil
	// means always (GS2-KRB5-PLUS needs a channel binding it can compute).
	Usable func(Peer) bool

	// Begin starts one run for one connection.
	Begin func(Peer) Exchange
}

// An Exchange is one run of a mechanism (RFC 4422 section 3). It ends by an
// Identity or by an error and by nothing else.
//
// Next takes the client's decoded response and gives the next challenge. The
// first call's response is nil when the client sent no initial response, and
// empty but not nil when it sent one of zero length ("=", RFC 5034 section 4).
// When identity is not nil the exchange is over and challenge is nil.
// Errors wrap ErrDenied, ErrTemporary, ErrPermanent or ErrProtocol; any other
// error counts as ErrDenied.
type Exchange interface {
	Next(ctx context.Context, response []byte) (challenge []byte, identity *Identity, err error)
}

// A Layered exchange may end with a SASL security layer (RFC 4422 section
// 3.7). Once Next has given an identity, Layer returns nil when none was
// negotiated, or wraps the connection: everything read and written through the
// result is protected. The engine calls it after its +OK has gone out in clear.
type Layered interface {
	Exchange
	Layer(inner net.Conn) net.Conn
}

// A PasswordCheck says whether password is user's. It is the one place that
// sees passwords: USER/PASS, PLAIN and LOGIN share it. user is what the client
// sent, with any SDPS or folder suffix removed. Errors are as for Exchange.
type PasswordCheck func(ctx context.Context, peer Peer, user, password string) (*Identity, error)
