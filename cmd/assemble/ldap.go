package assemble

import (
	"crypto/x509"
	"fmt"
	"os"

	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/ldapdir/gssbind"
)

// newLDAP makes the directory; no server is asked before the first login.
func (d *Daemon) newLDAP() (*ldapdir.Directory, error) {
	c := d.Config.LDAP
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
			LocalHome: d.Config.Hostname, Protocols: a.Protocols, ActsFor: a.ActsFor, UIDStyle: a.UIDStyle, Retention: a.Retention,
		},
		Group: ldapdir.Group{DN: c.Group},
		Log:   d.Log,
	})
}

func (d *Daemon) ldapBind() ldapdir.Bind {
	c := d.Config.LDAP
	switch c.Bind {
	case "gssapi":
		return gssbind.New(gssbind.Options{
			Principal: d.service(), Realm: d.Profile.DefaultRealm(), Keytab: d.Keytab.Current, Config: d.Profile.Client,
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
