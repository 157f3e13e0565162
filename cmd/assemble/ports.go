package assemble

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/auth/password"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/kpop/lang"
)

func (d *Daemon) makePorts() error {
	check, err := d.passwords()
	if err != nil {
		return err
	}
	language, err := d.language()
	if err != nil {
		return err
	}
	tlsConfig, certificate, err := d.tls()
	if err != nil {
		return err
	}
	for _, name := range d.Config.Listen.Names() {
		l := d.Config.Listen[name]
		p := &kpop.Port{Name: name, Implicit: l.Protocol == "pop3s", PasswordInClear: l.PasswordInClear, RequireTLS: l.RequireTLS}
		p.Announce, p.POP4 = d.announcement(), l.POP4
		p.RefuseLegacy, p.Language = d.Config.UTF8.Legacy == "refuse", language
		if tlsConfig != nil {
			p.TLS = func() *tls.Config { return tlsConfig }
		}
		if l.Protocol == "kpop" {
			p.Preamble = (&krb5.KPOP{Acceptor: d.Acceptor, Versions: d.Config.KPOP.Versions, Timeout: d.Config.KPOP.TicketTimeout}).Receive
		} else {
			p.Password = check
			p.Mechanisms = d.mechanisms(l, check, certificate)
			p.APOP = d.apop()
		}
		d.Ports[name] = p
	}
	return nil
}

// language is what LANG * chooses. One that is not spoken would be refused long after
// the mistake.
func (d *Daemon) language() (string, error) {
	tag := d.Config.UTF8.Language
	if l, err := lang.Match(tag); err != nil || l == nil {
		return "", fmt.Errorf("utf8.language: %q is no language that kpopd speaks; de, fr or zh, for example", tag)
	}
	return tag, nil
}

// announcement is what imapd.conf says, and whether the directory may say
// otherwise of an account.
func (d *Daemon) announcement() kpop.Announcement {
	pop, attributes := d.Store.POP(), d.Config.LDAP.Attributes
	perUser := d.Config.Identity.Directory == "file" ||
		d.Config.Identity.Directory == "ldap" && attributes.Retention+attributes.Delay != ""
	return kpop.Announcement{Retention: pop.ExpireTime, LoginDelay: pop.MinPoll, PerUser: perUser}
}

// mechanisms are the listener's, in its order; without a list all there are.
func (d *Daemon) mechanisms(l config.Listener, check auth.PasswordCheck, certificate *x509.Certificate) []auth.Mechanism {
	all := d.Acceptor.Mechanisms(krb5.SASLConfig{
		Binding: bindings[l.ChannelBinding], NoLayers: !d.Config.SASL.SecurityLayers,
		NoPlus:      len(l.Mechanisms) > 0 && !slices.Contains(l.Mechanisms, "GS2-KRB5-PLUS"),
		Certificate: func(auth.Peer) *x509.Certificate { return certificate },
	})
	if check != nil {
		all = append(all, password.Mechanisms(check)...)
	}
	if len(l.Mechanisms) == 0 {
		return unnamed(all)
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

// unnamed is what a listener without a list offers. GS2-KRB5 is kept to TLS: its
// ticket is the only proof, as in KPOP, and in clear it could be caught and held
// back. GSS-SPNEGO is left out: every client that has it has GSSAPI, which knows
// names and layers. A listener that names them gets them.
func unnamed(all []auth.Mechanism) []auth.Mechanism {
	for i := range all {
		if all[i].Name == "GS2-KRB5" {
			all[i].Usable = func(p auth.Peer) bool { return p.TLS != nil }
		}
	}
	return slices.DeleteFunc(all, func(m auth.Mechanism) bool { return m.Name == "GSS-SPNEGO" })
}

var bindings = map[string]krb5.BindingPolicy{"when_present": krb5.BindingWhenPresent, "require": krb5.BindingRequire}
