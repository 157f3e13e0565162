package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/auth/password"
	"github.com/kpopd/kpopd/auth/rules"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/krb5conf"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// mechanismNames are what listen.*.mechanisms may hold.
var mechanismNames = []string{"GSSAPI", "GS2-KRB5-PLUS", "GS2-KRB5", "PLAIN", "LOGIN"}

// A daemon is everything that a Config asks for, made and not yet started.
type daemon struct {
	config   *Config
	log      *slog.Logger
	server   *kpop.Server
	keytab   *krb5conf.KeytabFile
	acceptor *krb5.Acceptor
	profile  *krb5conf.Profile
	rules    *rules.Rules
	ports    map[string]*kpop.Port
}

func newLogger(c LogConfig) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // checked with the configuration
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// build makes the rooms and joins them. It opens files but no socket and writes
// nothing.
func build(c *Config, log *slog.Logger) (*daemon, error) {
	d := &daemon{config: c, log: log, ports: map[string]*kpop.Port{}}
	store, err := d.store()
	if err != nil {
		return nil, err
	}
	if err := d.kerberos(); err != nil {
		return nil, err
	}
	if d.rules, err = d.directory(); err != nil {
		return nil, err
	}
	l := c.Limits
	d.server = &kpop.Server{
		Hostname: c.Hostname, Implementation: "kpopd", Directory: d.rules, Store: store, Log: log,
		Limits: kpop.Limits{
			MaxConnections: l.Connections, MaxUnauthenticated: l.Unauthenticated, MaxPerPrefix: l.PerAddress, MaxPerUser: l.PerUser,
			LoginTimeout: l.LoginTimeout, IdleTimeout: l.IdleTimeout, BadCommands: l.BadCommands,
			AuthFailures: l.AuthFailures, FailureDelay: l.FailureDelay,
		},
	}
	return d, d.makePorts()
}

func (d *daemon) store() (*cyrus.Store, error) {
	spool, err := imapdconf.Read(d.config.Spool.ImapdConf)
	if err != nil {
		return nil, err
	}
	for _, option := range spool.Unsupported() {
		d.log.Warn("imapd.conf has what kpopd cannot serve", "option", option)
	}
	spool.ReadOnly = spool.ReadOnly || d.config.Spool.Mode == "readonly"
	return cyrus.Open(cyrus.Options{Config: spool, StateDir: d.config.StateDir, Mode: modes[d.config.Spool.Mode], Log: d.log})
}

// modes are what spool.mode may hold.
var modes = map[string]cyrus.Mode{"shared": cyrus.Shared, "embedded": cyrus.Embedded, "readonly": cyrus.ReadOnly}

// kerberos finds krb5.conf and the keytab as libkrb5 would, unless they are
// named.
func (d *daemon) kerberos() error {
	k := d.config.Kerberos
	paths := krb5conf.DefaultPaths()
	if k.Krb5Conf != "" {
		paths = []string{k.Krb5Conf}
	}
	var err error
	if d.profile, err = krb5conf.Load(paths...); err != nil {
		return err
	}
	path := krb5conf.DefaultKeytab(d.profile)
	if k.Keytab != "" {
		path = krb5conf.KeytabPath(k.Keytab)
	}
	d.keytab, err = krb5conf.OpenKeytab(path, krb5conf.KeytabOptions{Log: d.log, Retire: k.RetiredKeys, Loose: k.LooseKeytab})
	if err != nil {
		return err
	}
	d.acceptor = &krb5.Acceptor{
		Keys: d.keytab.Current, Services: k.Services, Realms: k.TrustedRealms, Skew: k.ClockSkew,
		CheckAddresses: k.CheckAddresses, Rand: rand.Reader, Log: d.log,
		Replay: krb5.NewReplayCache(0), // the journal is opened when serving begins
	}
	return d.acceptor.Validate()
}

func (d *daemon) directory() (*rules.Rules, error) {
	local, err := krb5conf.NewLocalNames(d.profile, krb5conf.LocalNameOptions{TrustedRealms: d.config.Kerberos.TrustedRealms})
	if err != nil {
		return nil, err
	}
	i, realm := d.config.Identity, d.profile.DefaultRealm()
	r := &rules.Rules{
		Names:  d.names(),
		Realms: rules.Realms{Default: realm, Trusted: d.config.Kerberos.TrustedRealms, Instances: i.Instances},
		Local:  rules.Local{Map: local.Map, Explain: explainLocal(local)},
		Acting: i.Acting, Log: d.log,
	}
	if err := r.Names.Check(); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if i.Map != "" {
		if r.Map, err = rules.OpenMapFile(i.Map, d.log); err != nil {
			return nil, err
		}
	}
	if r.Source, err = d.source(); err != nil {
		return nil, err
	}
	return r, nil
}

// source is where accounts are found; none with directory = "realm".
func (d *daemon) source() (rules.Source, error) {
	switch d.config.Identity.Directory {
	case "file":
		return rules.OpenAccounts(d.config.Identity.Accounts, d.log)
	case "ldap":
		return d.newLDAP()
	}
	return nil, nil //nolint:nilnil // the local name is the mailbox
}

// names is the one setting by which login names are read, for passwords and for
// the directory alike.
func (d *daemon) names() auth.NamePolicy {
	i := d.config.Identity
	return auth.NamePolicy{Mode: auth.NameMode(i.Names), Hosts: i.Hosts, Realms: []string{d.profile.DefaultRealm()}}
}

// explainLocal carries the steps of one room over to another.
func explainLocal(l *krb5conf.LocalNames) func(string) (string, []rules.Step, error) {
	return func(principal string) (string, []rules.Step, error) {
		name, tried, err := l.Explain(principal)
		steps := make([]rules.Step, 0, len(tried))
		for _, t := range tried {
			steps = append(steps, rules.Step{What: t.What, Detail: t.Result})
		}
		return name, steps, err
	}
}

// service is our own principal, whose key is in the keytab.
func (d *daemon) service() string {
	if s := d.config.Password.Service; s != "" {
		return s
	}
	return "pop/" + d.config.Hostname
}

func (d *daemon) passwords() (auth.PasswordCheck, error) {
	if d.config.Password.Check == "none" {
		return nil, nil //nolint:nilnil // no check is the answer
	}
	if d.profile.DefaultRealm() == "" {
		return nil, errors.New("password.check = \"kdc\" needs default_realm in krb5.conf")
	}
	k := &password.KDC{
		Realm: d.profile.DefaultRealm(), Service: d.service(), Config: d.profile.Client, Keys: d.keytab.Current,
		Timeout: d.config.Password.Timeout, Slots: make(chan struct{}, d.config.Password.Concurrent), Log: d.log,
		UDPLimit: d.profile.UDPLimit(),
	}
	return d.names().Strip(k.Check), nil
}

func (d *daemon) makePorts() error {
	check, err := d.passwords()
	if err != nil {
		return err
	}
	tlsConfig, certificate, err := d.tls()
	if err != nil {
		return err
	}
	for _, name := range d.config.listenNames() {
		l := d.config.Listen[name]
		p := &kpop.Port{Name: name, Implicit: l.Protocol == "pop3s", PasswordInClear: l.PasswordInClear, RequireTLS: l.RequireTLS}
		if tlsConfig != nil {
			p.TLS = func() *tls.Config { return tlsConfig }
		}
		if l.Protocol == "kpop" {
			p.Preamble = (&krb5.KPOP{Acceptor: d.acceptor, Versions: d.config.KPOP.Versions, Timeout: d.config.KPOP.TicketTimeout}).Receive
		} else {
			p.Password = check
			p.Mechanisms = d.mechanisms(l, check, certificate)
			p.APOP = d.apop()
		}
		d.ports[name] = p
	}
	return nil
}

// apop is nil, which offers none, unless a file of secrets is named.
func (d *daemon) apop() kpop.APOP {
	if d.config.Password.APOPFile == "" {
		return nil
	}
	return &password.APOP{
		Hostname: d.config.Hostname, Realm: d.profile.DefaultRealm(), Secret: password.FileSecrets(d.config.Password.APOPFile),
	}
}

// mechanisms are the listener's, in its order; without a list all there are.
func (d *daemon) mechanisms(l Listener, check auth.PasswordCheck, certificate *x509.Certificate) []auth.Mechanism {
	all := d.acceptor.Mechanisms(krb5.SASLConfig{
		Binding: bindings[l.ChannelBinding], NoLayers: !d.config.SASL.SecurityLayers,
		Certificate: func(auth.Peer) *x509.Certificate { return certificate },
	})
	if check != nil {
		all = append(all, password.Mechanisms(check)...)
	}
	if len(l.Mechanisms) == 0 {
		return underTLS(all)
	}
	var out []auth.Mechanism
	for _, name := range l.Mechanisms {
		for _, m := range all {
			if m.Name == name {
				out = append(out, m)
			}
		}
	}
	return out
}

// underTLS keeps GS2-KRB5 to TLS: its ticket is the only proof, as in KPOP, and
// in clear it could be caught and held back. A listener that names it gets it.
func underTLS(all []auth.Mechanism) []auth.Mechanism {
	for i := range all {
		if all[i].Name == "GS2-KRB5" {
			all[i].Usable = func(p auth.Peer) bool { return p.TLS != nil }
		}
	}
	return all
}

var bindings = map[string]krb5.BindingPolicy{"when_present": krb5.BindingWhenPresent, "require": krb5.BindingRequire}

func (d *daemon) tls() (*tls.Config, *x509.Certificate, error) {
	t := d.config.TLS
	if t.Certificate == "" {
		return nil, nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("tls: %w", err)
	}
	least := uint16(tls.VersionTLS12)
	if t.MinVersion == "1.3" {
		least = tls.VersionTLS13
	}
	// ALPN "pop3" keeps a browser's request for another protocol out.
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: least, NextProtos: []string{"pop3"},
		DynamicRecordSizingDisabled: true, // mail is sent in bulk: full records from the start
	}, pair.Leaf, nil
}

// openJournal gives the acceptor the replay cache that outlives a restart.
func (d *daemon) openJournal() (*krb5.ReplayCache, error) {
	path := d.config.Kerberos.ReplayJournal
	if path == "" {
		path = filepath.Join(d.config.StateDir, "replay")
	}
	cache, err := krb5.OpenReplayJournal(path, 0)
	if err != nil {
		return nil, err
	}
	d.acceptor.Replay = cache
	return cache, nil
}
