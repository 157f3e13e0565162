package assemble

import (
	"fmt"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/rules"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/krb5conf"
)

func (d *Daemon) directory() (*rules.Rules, error) {
	local, err := krb5conf.NewLocalNames(d.Profile, krb5conf.LocalNameOptions{TrustedRealms: d.Config.Kerberos.TrustedRealms})
	if err != nil {
		return nil, err
	}
	i, realm := d.Config.Identity, d.Profile.DefaultRealm()
	r := &rules.Rules{
		Names:  d.names(),
		Realms: rules.Realms{Default: realm, Trusted: d.Config.Kerberos.TrustedRealms, Instances: i.Instances},
		Local:  rules.Local{Map: local.Map, Explain: explainLocal(local)},
		Order:  origins(i.Order),
		Acting: acting(i.Acting), HostMailbox: i.HostMailbox, FoldCase: i.FoldCase, Log: d.Log,
	}
	if err := r.Names.Check(); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if i.Map != "" {
		if r.Map, err = rules.OpenMapFile(i.Map, d.Log); err != nil {
			return nil, err
		}
	}
	if r.Source, err = d.source(); err != nil {
		return nil, err
	}
	return r, nil
}

// source is where accounts are found; none with directory = "realm".
func (d *Daemon) source() (rules.Source, error) {
	switch d.Config.Identity.Directory {
	case "file":
		return rules.OpenAccounts(d.Config.Identity.Accounts, d.Log)
	case "ldap":
		var err error
		d.LDAP, err = d.NewLDAP()
		return d.LDAP, err
	}
	return nil, nil //nolint:nilnil // the local name is the mailbox
}

// origins carries the configuration's words over into the room's.
func origins(order []string) []rules.Origin {
	words := map[string]rules.Origin{"map": rules.FromMap, "directory": rules.FromSource, "auth_to_local": rules.FromLocal}
	out := make([]rules.Origin, 0, len(order))
	for _, word := range order {
		out = append(out, words[word])
	}
	return out
}

func acting(list []config.Acting) map[string][]string {
	out := map[string][]string{}
	for _, a := range list {
		out[a.Who] = append(out[a.Who], a.For...)
	}
	return out
}

// names is the one setting by which login names are read, for passwords and for
// the directory alike.
func (d *Daemon) names() auth.NamePolicy {
	i := d.Config.Identity
	return auth.NamePolicy{Mode: auth.NameMode(i.Names), Hosts: i.Hosts, Realms: []string{d.Profile.DefaultRealm()}}
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
