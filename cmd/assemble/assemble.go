// Package assemble builds kpopd's rooms from its configuration and joins them,
// for the daemon and for the operator's tool alike. It decides nothing that is
// worth a test of its own.
package assemble

import (
	"log/slog"
	"os"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/password"
	"github.com/kpopd/kpopd/auth/rules"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/krb5conf"
	"github.com/kpopd/kpopd/mailstore/cyrus"
)

// A Daemon is everything that a Config asks for, made and not yet started.
type Daemon struct {
	Config   *config.Config
	Log      *slog.Logger
	Server   *kpop.Server
	Keytab   *krb5conf.KeytabFile
	Acceptor *krb5.Acceptor
	Profile  *krb5conf.Profile
	Rules    *rules.Rules
	Store    *cyrus.Store
	Limiter  *password.Limiter     // of guesses
	Tickets  *password.Limiter     // of refused tickets
	LDAP     *ldapdir.Directory    // nil without one
	Ports    map[string]*kpop.Port // by the listener's name

	hooks   Hooks
	before  *Daemon // whose keytab and replay cache this one takes over; nil: none
	expires time.Time
}

// Hooks are told what others take, for metrics. A nil function is not called.
type Hooks struct {
	KDC      func(took time.Duration, err error)
	LDAP     func(server, operation string, took time.Duration, err error)
	LockWait func(took time.Duration)
	Panicked func(value any, stack []byte) // a fault that a room caught itself
}

// NewLogger writes to standard error as the section says.
func NewLogger(c config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // checked with the configuration
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// Build makes the rooms and joins them. It opens files but no socket and writes
// nothing.
func Build(c *config.Config, log *slog.Logger) (*Daemon, error) {
	return BuildObserved(c, log, Hooks{})
}

// BuildObserved is Build with hooks.
func BuildObserved(c *config.Config, log *slog.Logger, hooks Hooks) (*Daemon, error) {
	d := &Daemon{Config: c, Log: log, hooks: hooks, Limiter: limiter(c.Guesses), Tickets: limiter(c.Guesses)}
	var err error
	if d.Store, err = openStore(c, log, hooks); err != nil {
		return nil, err
	}
	if err := d.join(); err != nil {
		return nil, err
	}
	d.Server = &kpop.Server{
		Hostname: c.Hostname, Implementation: "kpopd", Directory: d.accounts(), Store: d.Store, Log: log, Limits: limits(c.Limits),
		Observer: kpop.Observer{Refused: d.ChargeRefusal}, Refuse: d.Hold,
	}
	return d, nil
}

// join makes the rooms that a reload makes anew.
func (d *Daemon) join() (err error) {
	d.Ports = map[string]*kpop.Port{}
	if err := d.kerberos(); err != nil {
		return err
	}
	if d.Rules, err = d.directory(); err != nil {
		return err
	}
	return d.makePorts()
}

// accounts is the directory as the engine asks it.
func (d *Daemon) accounts() auth.Directory { return announcing(d.Rules, d.Store.POP()) }

func limits(l config.Limits) kpop.Limits {
	return kpop.Limits{
		MaxConnections: l.Connections, MaxUnauthenticated: l.Unauthenticated, MaxPerPrefix: l.PerAddress, MaxPerUser: l.PerUser,
		LoginTimeout: l.LoginTimeout, IdleTimeout: l.IdleTimeout, BadCommands: l.BadCommands, MessageSize: l.StorSize,
		AuthFailures: l.AuthFailures, FailureDelay: l.FailureDelay,
	}
}
