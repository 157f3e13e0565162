package assemble

import (
	"crypto/rand"
	"path/filepath"

	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/krb5conf"
)

// kerberos finds krb5.conf and the keytab as libkrb5 would, unless they are
// named.
func (d *Daemon) kerberos() error {
	k := d.Config.Kerberos
	paths := krb5conf.DefaultPaths()
	if k.Krb5Conf != "" {
		paths = []string{k.Krb5Conf}
	}
	var err error
	if d.Profile, err = krb5conf.Load(paths...); err != nil {
		return err
	}
	path := krb5conf.DefaultKeytab(d.Profile)
	if k.Keytab != "" {
		path = krb5conf.KeytabPath(k.Keytab)
	}
	d.Keytab, err = krb5conf.OpenKeytab(path, krb5conf.KeytabOptions{Log: d.Log, Retire: k.RetiredKeys, Loose: k.LooseKeytab})
	if err != nil {
		return err
	}
	d.Acceptor = &krb5.Acceptor{
		Keys: d.Keytab.Current, Services: k.Services, Realms: k.TrustedRealms, Skew: k.ClockSkew,
		CheckAddresses: k.CheckAddresses, Rand: rand.Reader, Log: d.Log,
		Replay: krb5.NewReplayCache(0), // the journal is opened when serving begins
	}
	return d.Acceptor.Validate()
}

// service is our own principal, whose key is in the keytab.
func (d *Daemon) service() string {
	if s := d.Config.Password.Service; s != "" {
		return s
	}
	return "pop/" + d.Config.Hostname
}

// OpenJournal gives the acceptor the replay cache that outlives a restart.
func (d *Daemon) OpenJournal() (*krb5.ReplayCache, error) {
	path := d.Config.Kerberos.ReplayJournal
	if path == "" {
		path = filepath.Join(d.Config.StateDir, "replay")
	}
	cache, err := krb5.OpenReplayJournal(path, 0)
	if err != nil {
		return nil, err
	}
	d.Acceptor.Replay = cache
	return cache, nil
}
