package assemble

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/krb5conf"
)

// LoadProfile reads the named krb5.conf, or those that libkrb5 would.
func LoadProfile(c *config.Config) (*krb5conf.Profile, error) {
	if c.Kerberos.Krb5Conf != "" {
		return krb5conf.Load(c.Kerberos.Krb5Conf)
	}
	return krb5conf.Load(krb5conf.DefaultPaths()...)
}

// KeytabPath is where the named keytab lies, or the one that libkrb5 would take.
// p may be nil.
func KeytabPath(c *config.Config, p *krb5conf.Profile) string {
	if c.Kerberos.Keytab != "" {
		return krb5conf.KeytabPath(c.Kerberos.Keytab)
	}
	return krb5conf.DefaultKeytab(p)
}

func (d *Daemon) kerberos() error {
	k := d.Config.Kerberos
	var err error
	if d.Profile, err = LoadProfile(d.Config); err != nil && !d.keepProfile(err) {
		return fmt.Errorf("%w; kerberos.krb5_conf names another, and Debian's krb5-config makes /etc/krb5.conf", err)
	}
	if err := d.openKeytab(KeytabPath(d.Config, d.Profile)); err != nil {
		return err
	}
	d.lookForOwnKey()
	d.Acceptor = &krb5.Acceptor{
		Keys: d.Keytab.Current, Services: k.Services, Realms: k.TrustedRealms, Skew: k.ClockSkew,
		CheckAddresses: k.CheckAddresses, Rand: rand.Reader, Log: d.Log, Panicked: d.hooks.Panicked,
		Replay: krb5.NewReplayCache(0), // the journal is opened when serving begins
	}
	if d.before != nil {
		d.Acceptor.Replay = d.before.Acceptor.Replay
	}
	return d.Acceptor.Validate()
}

// keepProfile goes on with a krb5.conf that was replaced and that a confined
// daemon cannot read before a restart: the machine's own lies in /etc. A reload
// for another file's sake must not fail for it.
func (d *Daemon) keepProfile(err error) bool {
	if d.before == nil || !errors.Is(err, fs.ErrPermission) || d.before.Config.Kerberos.Krb5Conf != d.Config.Kerberos.Krb5Conf {
		return false
	}
	d.Log.Warn("krb5.conf cannot be read again before a restart; what it said stays in use", "error", err)
	d.Profile = d.before.Profile
	return true
}

// openKeytab reads the keytab, or goes on with the one that is open: it knows the
// keys that were retired.
func (d *Daemon) openKeytab(path string) (err error) {
	k := d.Config.Kerberos
	if d.before != nil {
		was := d.before.Config.Kerberos
		if d.before.Keytab.Path() == path && was.RetiredKeys == k.RetiredKeys && was.LooseKeytab == k.LooseKeytab {
			d.Keytab = d.before.Keytab
			return d.Keytab.Reload()
		}
	}
	d.Keytab, err = krb5conf.OpenKeytab(path, krb5conf.KeytabOptions{Log: d.Log, Retire: k.RetiredKeys, Loose: k.LooseKeytab})
	return err
}

// service is our own principal, whose key is in the keytab.
func (d *Daemon) service() string {
	if s := d.Config.Password.Service; s != "" {
		return s
	}
	return "pop/" + d.Config.Hostname
}

// lookForOwnKey tells of a keytab without the service's key, which may still come.
func (d *Daemon) lookForOwnKey() {
	if d.Config.Password.Check == "none" && (d.Config.Identity.Directory != "ldap" || d.Config.LDAP.Bind != "gssapi") {
		return
	}
	own := d.service() + "@" + d.Profile.DefaultRealm()
	if !slices.ContainsFunc(d.Keytab.Keys(), func(k krb5conf.Key) bool { return k.Principal == own }) {
		d.Log.Warn("the keytab has no key of our own service, which password.service names: passwords cannot be checked, nor LDAP be bound by GSSAPI",
			"principal", own, "keytab", d.Keytab.Path())
	}
}

// OpenJournal gives the acceptor the replay cache that outlives a restart.
func (d *Daemon) OpenJournal() (*krb5.ReplayCache, error) {
	cache, err := krb5.OpenReplayJournal(d.journalPath(), 0)
	if err != nil {
		return nil, err
	}
	d.Acceptor.Replay = cache
	return cache, nil
}

// journalPath is where the replay cache has its journal, which is replaced by a new
// one of the same directory now and then.
func (d *Daemon) journalPath() string {
	return cmp.Or(d.Config.Kerberos.ReplayJournal, filepath.Join(d.Config.StateDir, "replay"))
}
