package assemble

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/ldapdir/gssbind"
	"github.com/kpopd/kpopd/cmd/config"
)

// NewLDAP makes the directory; no server is asked before the first login. It
// needs Profile and Keytab only to bind by GSSAPI.
func (d *Daemon) NewLDAP() (*ldapdir.Directory, error) {
	c := d.Config.LDAP
	roots, err := rootsOf("ldap.ca", c.CA)
	if err != nil {
		return nil, err
	}
	if c.Bind == "simple" {
		if err := ldapdir.CheckSecret(c.PasswordFile); err != nil {
			return nil, fmt.Errorf("ldap.password_file: %w; kpopd's user must be able to read it, and nobody else", err)
		}
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
			User: a.User, Mailbox: a.Mailbox, MailboxLocalPart: a.LocalPart, Aliases: a.Aliases,
			Enabled: a.Enabled, Locked: a.Locked, LockedBits: a.LockBits, Home: a.Home, Secret: a.APOP,
			LocalHome: d.Config.Hostname, Protocols: a.Protocols, ActsFor: a.ActsFor, UIDStyle: a.UIDStyle, Retention: a.Retention, Delay: a.Delay,
		},
		Group: ldapGroup(c),
		Limits: ldapdir.Limits{
			Connect: c.ConnectTimeout, Operation: c.Timeout, Connections: c.Connections,
			Lookup: 2 * (c.ConnectTimeout + c.Timeout), // with its retry
		},
		Cache: ldapdir.CacheLimits{Entries: c.Cache.Entries, Found: c.Cache.Found, NotFound: c.Cache.NotFound, Stale: stale(c.Cache.Stale)},
		Log:   d.Log, Observe: d.hooks.LDAP, Panicked: d.hooks.Panicked,
	})
}

// ldapGroup is by memberOf or by a search.
func ldapGroup(c config.LDAP) ldapdir.Group {
	if c.Group == "" && c.GroupFilter == "" {
		return ldapdir.Group{}
	}
	return ldapdir.Group{DN: c.Group, Attribute: c.GroupAttribute, Filter: c.GroupFilter, Base: c.GroupBase}
}

// stale keeps zero apart from the room's default: it says never.
func stale(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func (d *Daemon) ldapBind() ldapdir.Bind {
	c := d.Config.LDAP
	switch c.Bind {
	case "gssapi":
		return gssbind.New(gssbind.Options{
			Principal: d.service(), Realm: d.kdcs(), Keytab: d.Keytab.Current,
			Log: d.Log, Panicked: d.hooks.Panicked,
		}).Bind
	case "simple":
		return ldapdir.Simple(c.BindDN, c.PasswordFile)
	case "external":
		return ldapdir.External()
	}
	return nil
}

// rootsOf are the CAs of a file that key names; nil, the system's, without one.
func rootsOf(key, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // nil means the system's
	}
	pem, err := os.ReadFile(file) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", key, file)
	}
	return pool, nil
}
