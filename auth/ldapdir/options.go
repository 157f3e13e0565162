package ldapdir

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Options are what a Directory is made of.
type Options struct {
	Connect    Connect
	Search     Search
	Attributes Attributes
	Group      Group
	Limits     Limits
	Cache      CacheLimits
	Log        *slog.Logger // nil: slog.Default()

	// Observe is told of each connect and search, for metrics; nil: nobody.
	Observe func(server, operation string, took time.Duration, err error)

	// Panicked is told of each fault over a server's answer that was caught, with
	// the stack; the question it met counts as not answered. nil: nobody is.
	Panicked func(value any, stack []byte)
}

// A Bind authenticates a fresh connection to the server of the given host name.
// It is called with a deadline on the connection; ctx ends no later.
type Bind func(ctx context.Context, c *ldap.Conn, host string) error

// Connect says how servers are reached.
type Connect struct {
	// Servers are URLs, the preferred one first: ldap://host:port,
	// ldaps://host:port, ldapi://%2Fpath%2Fto%2Fsocket.
	Servers []string

	StartTLS bool           // on ldap:// connections (RFC 4511 section 4.14)
	RootCAs  *x509.CertPool // nil: the system's

	// AllowClear permits ldap:// without StartTLS to a host that is not this
	// one. Whoever sits on the way then decides who reads whose mail.
	AllowClear bool

	Bind Bind // nil: anonymous
}

// Search says where entries are and how one is found. In a filter {principal},
// {user}, {realm}, {host} and {folder} stand for escaped values.
type Search struct {
	Base  string
	Scope string // sub (default), one or base

	Filter          string // by local user name, such as (uid={user})
	PrincipalFilter string // by whole principal, such as (krbPrincipalName={principal}); empty: none
	HostFilter      string // when an SDPS host was given; empty: Filter
}

// Attributes name the attributes that are read; an empty name is not read. They
// must not be writable by the user whom they are about.
type Attributes struct {
	User    string // canonical user name
	Mailbox string // mailbox name; required
	Aliases string // other names

	// MailboxLocalPart cuts Mailbox's values at "@", for sites whose mailbox
	// names are the left part of mail addresses.
	MailboxLocalPart bool

	Enabled    string // must be TRUE, yes, on, active or 1
	Locked     string // any value but FALSE, no, off and 0 locks
	LockedBits uint64 // Locked is a number, and these bits of it lock (Active Directory: 2)

	Home      string // mailHost: the server that has the maildrop
	LocalHome string // a Home that is ourselves
	Protocols string // KPOP, POP3
	ActsFor   string // users whose maildrops it may open: names, or DNs below Base
	UIDStyle  string
	Retention string // days, a duration, or never
	Delay     string // least time between logins: a duration, or seconds
	Secret    string // APOP secret; only Secret reads it
}

// Group is a group whose members alone may log in; the zero value is none.
type Group struct {
	DN        string // member when Attribute has this DN
	Attribute string // empty: memberOf

	// Filter, such as (&(cn=mail)(member={dn})), is an alternative to DN:
	// member when a search below Base finds anything. {dn} is the entry's.
	Filter string
	Base   string // empty: Search.Base
}

// Limits bound time and connections; zero values are replaced by defaults.
type Limits struct {
	Connect     time.Duration // one server: connect, TLS and bind (3 s)
	Operation   time.Duration // one search (3 s)
	Lookup      time.Duration // a whole lookup with its retry (8 s)
	HeadStart   time.Duration // until the next server is tried as well (300 ms)
	Connections int           // at most (8)
	MaxAge      time.Duration // a connection is not used longer (10 min)
	HealthAfter time.Duration // an idle one is tried first after this (30 s)
}

// CacheLimits bound what is remembered; zero values are replaced by defaults.
type CacheLimits struct {
	Entries  int           // at most (10000)
	Found    time.Duration // an entry is taken as it was for so long (60 s)
	NotFound time.Duration // the same for no entry (10 s)

	// Stale is how long the last known good entry stands in while no server
	// can be asked (4 h); negative: not at all. A refusal never stands in.
	Stale time.Duration
}

func (l Limits) orDefaults() Limits {
	l.Connect = cmp.Or(l.Connect, 3*time.Second)
	l.Operation = cmp.Or(l.Operation, 3*time.Second)
	l.Lookup = cmp.Or(l.Lookup, 8*time.Second)
	l.HeadStart = cmp.Or(l.HeadStart, 300*time.Millisecond)
	l.Connections = cmp.Or(l.Connections, 8)
	l.MaxAge = cmp.Or(l.MaxAge, 10*time.Minute)
	l.HealthAfter = cmp.Or(l.HealthAfter, 30*time.Second)
	return l
}

func (c CacheLimits) orDefaults() CacheLimits {
	c.Entries = cmp.Or(c.Entries, 10000)
	c.Found = cmp.Or(c.Found, time.Minute)
	c.NotFound = cmp.Or(c.NotFound, 10*time.Second)
	c.Stale = cmp.Or(c.Stale, 4*time.Hour)
	return c
}
