package assemble

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/kdc"
	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/auth/password"
	"github.com/kpopd/kpopd/auth/rules"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/kpop"
)

// passwords is the one place that sees them. The name is read first, so that
// john+a and john+b are guesses at the same user.
func (d *Daemon) passwords() (auth.PasswordCheck, error) {
	if d.Config.Password.Check == "none" {
		return nil, nil //nolint:nilnil // no check is the answer
	}
	if d.Profile.DefaultRealm() == "" {
		return nil, errors.New("password.check = \"kdc\" needs default_realm in krb5.conf")
	}
	k := &password.KDC{
		Realm: d.kdcs(), Service: d.service(), Keys: d.Keytab.Current,
		Timeout: d.Config.Password.Timeout, Slots: make(chan struct{}, d.Config.Password.Concurrent), Log: d.Log,
		Enctype: krb5.EnctypeName, Observe: d.hooks.KDC, Panicked: d.hooks.Panicked,
	}
	return d.names().Strip(d.Limiter.Guard(k.Check)), nil
}

// kdcs are those of the default realm.
func (d *Daemon) kdcs() *kdc.Realm {
	return &kdc.Realm{Name: d.Profile.DefaultRealm(), Config: d.Profile.Client, UDPLimit: d.Profile.UDPLimit()}
}

// apop is nil, which offers none, unless secrets are configured. The names of a file
// are those of principals, as for passwords; a secret of the directory is of the entry
// with that user name, and whose principal is spelled so may be somebody else.
func (d *Daemon) apop() kpop.APOP {
	a := &password.APOP{Hostname: d.Config.Hostname, Names: d.names()}
	switch {
	case d.Config.LDAP.Attributes.APOP != "":
		a.Secret = d.directorySecret
	case d.Config.Password.APOPFile != "":
		a.Realm, a.Secret = d.Profile.DefaultRealm(), password.FileSecrets(d.Config.Password.APOPFile)
	default:
		return nil
	}
	return d.Limiter.GuardAPOP(a)
}

// directorySecret makes an entry that is not there, or has no secret, a user
// who cannot use APOP.
func (d *Daemon) directorySecret(ctx context.Context, user string) (string, error) {
	secret, err := d.LDAP.Secret(ctx, user)
	var refusal *rules.Refusal
	if errors.As(err, &refusal) {
		return "", password.ErrNoSecret
	}
	return secret, err
}

// Hold is how long a connection waits for its greeting: whoever presented many
// tickets that were refused. Passwords wait when they are checked.
func (d *Daemon) Hold(remote net.Addr) (time.Duration, error) { return d.Tickets.Wait(remote), nil }

func limiter(g config.Guesses) *password.Limiter {
	return password.NewLimiter(password.LimiterOptions{
		IPv4Bits: g.IPv4Prefix, IPv6Bits: g.IPv6Prefix, FreePrefix: g.FreePerAddress, FreeUser: g.FreePerUser,
		Fade: g.Fade, FirstWait: g.FirstWait, MaxWait: g.MaxWait,
	})
}

// ChargeRefusal makes a right password cost what a wrong one costs when it is refused
// all the same, by the directory or for want of a maildrop: else the wait would tell
// them apart. A wrong one, which proved nobody, has been charged by then. Refused
// tickets are charged to the address alone.
func (d *Daemon) ChargeRefusal(s kpop.SessionInfo, code string, _ error) {
	if code != "AUTH" {
		return
	}
	switch s.Mechanism {
	case "USER", "PLAIN", "LOGIN", "APOP":
		if name, _, _ := strings.Cut(s.Authcid, "@"); name != "" {
			d.Limiter.Take(s.Remote, name)
		}
	default:
		d.Tickets.Take(s.Remote, "")
	}
}
