// Package assemble builds kpopd's rooms from its configuration and joins them,
// for the daemon and for the operator's tool alike. It decides nothing that is
// worth a test of its own.
package assemble

import (
	"log/slog"
	"os"

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
	LDAP     *ldapdir.Directory    // nil without one
	Ports    map[string]*kpop.Port // by the listener's name
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
	d := &Daemon{Config: c, Log: log, Ports: map[string]*kpop.Port{}}
	var err error
	if d.Store, err = OpenStore(c, log); err != nil {
		return nil, err
	}
	if err := d.kerberos(); err != nil {
		return nil, err
	}
	if d.Rules, err = d.directory(); err != nil {
		return nil, err
	}
	d.Limiter = limiter(c.Guesses)
	d.Server = &kpop.Server{
		Hostname: c.Hostname, Implementation: "kpopd", Directory: announcing(d.Rules, d.Store.POP()), Store: d.Store, Log: log, Limits: limits(c.Limits),
		Observer: kpop.Observer{Refused: d.chargeRefusal},
	}
	return d, d.makePorts()
}

func limits(l config.Limits) kpop.Limits {
	return kpop.Limits{
		MaxConnections: l.Connections, MaxUnauthenticated: l.Unauthenticated, MaxPerPrefix: l.PerAddress, MaxPerUser: l.PerUser,
		LoginTimeout: l.LoginTimeout, IdleTimeout: l.IdleTimeout, BadCommands: l.BadCommands,
		AuthFailures: l.AuthFailures, FailureDelay: l.FailureDelay,
	}
}
