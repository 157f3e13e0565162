package assemble

import (
	"errors"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/password"
	"github.com/kpopd/kpopd/kpop"
)

func (d *Daemon) passwords() (auth.PasswordCheck, error) {
	if d.Config.Password.Check == "none" {
		return nil, nil //nolint:nilnil // no check is the answer
	}
	if d.Profile.DefaultRealm() == "" {
		return nil, errors.New("password.check = \"kdc\" needs default_realm in krb5.conf")
	}
	k := &password.KDC{
		Realm: d.Profile.DefaultRealm(), Service: d.service(), Config: d.Profile.Client, Keys: d.Keytab.Current,
		Timeout: d.Config.Password.Timeout, Slots: make(chan struct{}, d.Config.Password.Concurrent), Log: d.Log,
		UDPLimit: d.Profile.UDPLimit(),
	}
	return d.names().Strip(k.Check), nil
}

// apop is nil, which offers none, unless a file of secrets is named.
func (d *Daemon) apop() kpop.APOP {
	if d.Config.Password.APOPFile == "" {
		return nil
	}
	return &password.APOP{
		Hostname: d.Config.Hostname, Realm: d.Profile.DefaultRealm(), Secret: password.FileSecrets(d.Config.Password.APOPFile),
	}
}
