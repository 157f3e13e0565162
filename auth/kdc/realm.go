package kdc

import (
	"context"
	"errors"
	"net"
	"slices"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// A Realm is where clients have their keys. Name and Config are required.
type Realm struct {
	Name   string
	Config func() *config.Config // krb5.conf; a fresh one at each call, which is then changed

	// UDPLimit is krb5.conf's udp_preference_limit: requests up to so many
	// octets go by UDP first. 0 and 1 mean TCP only.
	UDPLimit int

	// LookupSRV finds the KDCs of a realm for which krb5.conf lists none, when
	// dns_lookup_kdc is on; nil means the system's resolver.
	LookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)

	avoid avoided
}

// A Grant is a ticket and what the KDC told us with it.
type Grant struct {
	Ticket  messages.Ticket
	Session types.EncryptionKey
	server  string // the realm that takes the ticket
}

// enctypes are those that a password, a keytab or a ticket may use, strongest first.
// Whoever answers must not be able to ask for RC4: it would get a hash to crack.
var enctypes = []int32{20, 19, 18, 17}

// What may come of an exchange besides a Refusal. Other errors are of the network, of
// answers that cannot be right, and of the time that is over.
var (
	ErrSecret = errors.New("kdc: the answer does not open with the client's key")
	ErrNoKDC  = errors.New("kdc: krb5.conf names no KDC")
)

// A Refusal is what the KDC said instead of giving a ticket, or what it would have to
// say (RFC 4120 section 7.5.9). Its text is left out: it came over the net.
type Refusal struct{ Code int32 }

// Error names the code and says what it is, as RFC 4120 does.
func (r *Refusal) Error() string { return "kdc: KDC error " + errorcode.Lookup(r.Code) }

// Begin starts the dialogue of a client of the realm.
func (r *Realm) Begin(client types.PrincipalName) *Exchange {
	c := r.Config()
	c.LibDefaults.DefaultTktEnctypeIDs, c.LibDefaults.DefaultTGSEnctypeIDs = slices.Clone(enctypes), slices.Clone(enctypes)
	return &Exchange{realm: r, client: client, config: c, wire: r.transport(r.Name, c)}
}
