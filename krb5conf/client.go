package krb5conf

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
)

// DefaultRealm is libdefaults' default_realm; empty when there is none.
func (p *Profile) DefaultRealm() string { return p.Value("", "libdefaults", "default_realm") }

// Bool reads a switch as libkrb5 does; anything else is otherwise, such as
// dns_canonicalize_hostname's "fallback".
func (p *Profile) Bool(otherwise bool, path ...string) bool {
	switch strings.ToLower(p.Value("", path...)) {
	case "y", "yes", "true", "t", "1", "on":
		return true
	case "n", "no", "false", "nil", "0", "off":
		return false
	}
	return otherwise
}

// defaultUDPLimit is the size up to which libkrb5 asks a KDC by UDP first, in
// octets.
const defaultUDPLimit = 1465

// UDPLimit is udp_preference_limit: requests up to this size go by UDP first,
// larger ones by TCP first. 1 means TCP only, 0 TCP first always.
func (p *Profile) UDPLimit() int {
	n, err := strconv.Atoi(p.Value("", "libdefaults", "udp_preference_limit"))
	if err != nil || n < 0 || n > 32700 {
		return defaultUDPLimit
	}
	return n
}

// Client makes a configuration for auth/kdc and for gokrb5's client. It is a fresh
// one at each call, because both change it: gokrb5 shuffles the KDC lists. UDPPreferenceLimit is
// 1: gokrb5's own transport loses the UDP answer after a failed TCP try, and
// must use TCP only; UDPLimit has the file's.
func (p *Profile) Client() *config.Config {
	c := config.New()
	l := &c.LibDefaults
	l.DefaultRealm = p.DefaultRealm()
	// gokrb5's own default leaves the SHA-2 ones out, and holds RC4.
	l.DefaultTktEnctypeIDs = []int32{20, 19, 18, 17}
	l.DefaultTGSEnctypeIDs = []int32{20, 19, 18, 17}
	l.PermittedEnctypeIDs = []int32{20, 19, 18, 17}
	l.DNSLookupKDC = p.Bool(true, "libdefaults", "dns_lookup_kdc")
	l.DNSLookupRealm = p.Bool(false, "libdefaults", "dns_lookup_realm")
	l.UDPPreferenceLimit = 1
	l.NoAddresses = true
	l.TicketLifetime = 10 * time.Hour
	for _, realm := range p.Names("realms") {
		c.Realms = append(c.Realms, config.Realm{Realm: realm, KDC: p.KDCs(realm)})
	}
	for _, domain := range p.Names("domain_realm") {
		c.DomainRealm[strings.ToLower(domain)] = p.Value("", "domain_realm", domain)
	}
	return c
}

// KDCs gives a realm's KDCs as host:port, in the file's order. What cannot be
// asked, such as an https:// proxy, is in Warnings.
func (p *Profile) KDCs(realm string) []string {
	var out []string
	for _, kdc := range p.Values("realms", realm, "kdc") {
		if address, ok := kdcAddress(kdc); ok {
			out = append(out, address)
		}
	}
	return out
}

// kdcAddress reads host, host:port, [v6], [v6]:port, bare v6, and any of them
// behind tcp/ or udp/.
func kdcAddress(kdc string) (string, bool) {
	const port = "88"
	kdc = strings.TrimPrefix(strings.TrimPrefix(kdc, "tcp/"), "udp/")
	if kdc == "" || strings.ContainsAny(kdc, "/ \t") {
		return "", false
	}
	if host, p, err := net.SplitHostPort(kdc); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		return net.JoinHostPort(host, p), err == nil && n > 0 && host != ""
	}
	host := strings.TrimSuffix(strings.TrimPrefix(kdc, "["), "]")
	if strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}
