package assemble

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/kpop"
)

// Renew makes a Daemon of c that goes on with d's server, maildrops and replay
// cache, and with its keytab when it is the same file, which is read again. An
// error means that c cannot be served; d is as it was then, and serves on.
func (d *Daemon) Renew(c *config.Config) (*Daemon, error) {
	if keys := d.Config.NeedRestart(c); len(keys) > 0 {
		return nil, fmt.Errorf("%s: can only be changed by a restart", strings.Join(keys, ", "))
	}
	next := &Daemon{Config: c, Log: d.Log, Server: d.Server, Store: d.Store, Limiter: d.Limiter, Tickets: d.Tickets, hooks: d.hooks, before: d}
	if c.Guesses != d.Config.Guesses {
		next.Limiter, next.Tickets = limiter(c.Guesses), limiter(c.Guesses)
	}
	if err := next.join(); err != nil {
		next.Close()
		return nil, err
	}
	next.before = nil
	return next, nil
}

// Apply makes d rule the connections that are accepted from now on.
func (d *Daemon) Apply() {
	change := kpop.Change{Hostname: d.Config.Hostname, Directory: d.accounts(), Limits: limits(d.Config.Limits)}
	for _, p := range d.Ports {
		change.Ports = append(change.Ports, p)
	}
	d.Server.Reconfigure(change)
}

// Close gives back what d alone holds: its directory's connections. Sessions that
// are logging in by d must be over.
func (d *Daemon) Close() {
	if d.LDAP != nil {
		d.LDAP.Close()
	}
}

// CertificateExpires is when the TLS certificate ends; zero without one.
func (d *Daemon) CertificateExpires() time.Time { return d.expires }

// Files are what d reads again while it serves, and the directories in which it
// writes.
func (d *Daemon) Files() (read, write []string) {
	c := d.Config
	read = slices.Concat([]string{
		d.Keytab.Path(), c.TLS.Certificate, c.TLS.Key, c.Password.APOPFile, c.Identity.Accounts, c.Identity.Map,
		c.LDAP.CA, c.LDAP.PasswordFile, c.Spool.ImapdConf, c.Spool.IMAP.CA, c.Spool.IMAP.PasswordFile,
	}, d.Profile.Sources)
	write = append(d.Store.Directories(), c.StateDir, filepath.Dir(d.journalPath()))
	return slices.DeleteFunc(read, func(path string) bool { return path == "" }), write
}
