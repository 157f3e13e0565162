package main

import (
	"crypto/x509"
	"fmt"
	"os"

	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/ldapdir/gssbind"
)

// An LDAPConfig is the [ldap] section, for identity.directory = "ldap".
type LDAPConfig struct {
	Servers      []string `mapstructure:"servers"`
	StartTLS     bool     `mapstructure:"start_tls"`
	CA           string   `mapstructure:"ca"`
	AllowClear   bool     `mapstructure:"allow_clear"`
	Bind         string   `mapstructure:"bind"` // anonymous, simple, external, gssapi
	BindDN       string   `mapstructure:"bind_dn"`
	PasswordFile string   `mapstructure:"password_file"`

	Base            string `mapstructure:"base"`
	Scope           string `mapstructure:"scope"`
	Filter          string `mapstructure:"filter"`
	PrincipalFilter string `mapstructure:"principal_filter"`
	HostFilter      string `mapstructure:"host_filter"`
	Group           string `mapstructure:"group"`

	Attributes LDAPAttributes `mapstructure:"attributes"`
}

// LDAPAttributes name what is read of an entry; an empty name is not read.
type LDAPAttributes struct {
	User      string `mapstructure:"user"`
	Mailbox   string `mapstructure:"mailbox"`
	Aliases   string `mapstructure:"aliases"`
	Enabled   string `mapstructure:"enabled"`
	Locked    string `mapstructure:"locked"`
	Home      string `mapstructure:"home"`
	Protocols string `mapstructure:"protocols"`
	ActsFor   string `mapstructure:"acts_for"`
	UIDStyle  string `mapstructure:"uid_style"`
	Retention string `mapstructure:"retention"`
}

// newLDAP makes the directory; no server is asked before the first login.
func (d *daemon) newLDAP() (*ldapdir.Directory, error) {
	c := d.config.LDAP
	roots, err := ldapRoots(c.CA)
	if err != nil {
		return nil, err
	}
	a := c.Attributes
	return ldapdir.New(ldapdir.Options{
		Connect: ldapdir.Connect{
			Servers: c.Servers, StartTLS: c.StartTLS, RootCAs: roots, AllowClear: c.AllowClear, Bind: d.ldapBind(),
		},
		Search: ldapdir.Search{
			Base: c.Base, Scope: c.Scope, Filter: c.Filter, PrincipalFilter: c.PrincipalFilter, HostFilter: c.HostFilter,
		},
		Attributes: ldapdir.Attributes{
			User: a.User, Mailbox: a.Mailbox, Aliases: a.Aliases, Enabled: a.Enabled, Locked: a.Locked, Home: a.Home,
			LocalHome: d.config.Hostname, Protocols: a.Protocols, ActsFor: a.ActsFor, UIDStyle: a.UIDStyle, Retention: a.Retention,
		},
		Group: ldapdir.Group{DN: c.Group},
		Log:   d.log,
	})
}

func (d *daemon) ldapBind() ldapdir.Bind {
	c := d.config.LDAP
	switch c.Bind {
	case "gssapi":
		return gssbind.New(gssbind.Options{
			Principal: d.service(), Realm: d.profile.DefaultRealm(), Keytab: d.keytab.Current, Config: d.profile.Client,
		}).Bind
	case "simple":
		return ldapdir.Simple(c.BindDN, c.PasswordFile)
	case "external":
		return ldapdir.External()
	}
	return nil
}

func ldapRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // nil means the system's
	}
	pem, err := os.ReadFile(file) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, fmt.Errorf("ldap.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ldap.ca: %s holds no certificate in PEM form", file)
	}
	return pool, nil
}
