package doctor

import (
	"strconv"
	"strings"
	"time"

	"github.com/kpopd/kpopd/krb5conf"
)

// profile says where krb5.conf came from and what it means for kpopd.
func (s *Site) profile(r *Report) {
	examineProfile(r.section("krb5.conf"), s.Kerberos.Profile, s.Kerberos.ProfileError)
	p := s.Kerberos.Profile
	if p == nil || p.DefaultRealm() == "" {
		return
	}
	out := r.section("krb5.conf")
	if _, err := krb5conf.NewLocalNames(p, krb5conf.LocalNameOptions{TrustedRealms: s.Kerberos.Trusted}); err != nil {
		out.wrong("mend the rule; kpop map PRINCIPAL --why shows what a rule does", "%v", err)
	} else if rules := p.Values("realms", p.DefaultRealm(), "auth_to_local"); len(rules) > 0 {
		out.ok("principals become local names by %d auth_to_local rules of %s", len(rules), p.DefaultRealm())
	}
	if d, ok := skew(p.Value("", "libdefaults", "clockskew")); ok && d != s.Kerberos.Skew {
		out.warn("set kerberos.clock_skew in kpopd.toml to the same", "clockskew is %s for the libraries, %s for kpopd", d, s.Kerberos.Skew)
	}
}

func examineProfile(out section, p *krb5conf.Profile, err error) {
	if p == nil {
		out.wrong("install krb5-config, set KRB5_CONFIG, or mend the line it names", "no krb5.conf could be read: %v", err)
		return
	}
	out.ok("read from %s", strings.Join(p.Sources, ", "))
	realm := p.DefaultRealm()
	if realm == "" {
		out.wrong("set default_realm in [libdefaults]", "there is no default_realm: principals have no realm, users no name")
		return
	}
	kdcs := p.KDCs(realm)
	switch {
	case len(kdcs) > 0:
		out.ok("the default realm is %s, its KDCs are %s", realm, strings.Join(kdcs, ", "))
	case p.Bool(true, "libdefaults", "dns_lookup_kdc"):
		out.ok("the default realm is %s, its KDCs are looked up in DNS", realm)
	default:
		out.wrong("add kdc = HOST in [realms] "+realm+", or set dns_lookup_kdc = true", "realm %s has no kdc line, and dns_lookup_kdc is off", realm)
	}
	for _, w := range p.Warnings {
		out.warn("mend or remove it; kpopd passes it over", "%s", w)
	}
	if p.Bool(false, "libdefaults", "allow_weak_crypto") {
		out.warn("remove it", "allow_weak_crypto is on: other programs of this machine take single DES; kpopd does not")
	}
}

// skew reads clockskew as it is usually written: seconds, or 5m.
func skew(text string) (time.Duration, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(n) * time.Second, true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}
