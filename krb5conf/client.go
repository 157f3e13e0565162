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

// clientEnctypes are asked for by the client side, strongest first. gokrb5's own
// default leaves the SHA-2 ones out.
var clientEnctypes = []int32{20, 19, 18, 17}

// Client makes a configuration for gokrb5's client. It is a fresh one at each
// call, because gokrb5 shuffles the KDC lists inside it.
func (p *Profile) Client() *config.Config {
	c := config.New()
	l := &c.LibDefaults
	l.DefaultRealm = p.DefaultRealm()
	l.DefaultTktEnctypeIDs, l.DefaultTGSEnctypeIDs = clientEnctypes, clientEnctypes
	l.PermittedEnctypeIDs = clientEnctypes
	l.DNSLookupKDC = p.Bool(true, "libdefaults", "dns_lookup_kdc")
	l.DNSLookupRealm = p.Bool(false, "libdefaults", "dns_lookup_realm")
	l.UDPPreferenceLimit = 1 // TCP only: gokrb5 loses the UDP answer after a failed TCP try
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

// KDCs gives a realm's KDCs as host:port, in the file's order.
func (p *Profile) KDCs(realm string) []string {
	var out []string
	for _, kdc := range p.Values("realms", realm, "kdc") {
		if address, ok := kdcAddress(kdc); ok {
			out = append(out, address)
		} else {
			p.Warnings = append(p.Warnings, "kdc = "+kdc+" is not understood")
		}
	}
	return out
}

// kdcAddress reads host, host:port, [v6], [v6]:port, bare v6, and tcp/host. A
// proxy given as https:// cannot be used.
func kdcAddress(kdc string) (string, bool) {
	const port = "88"
	kdc = strings.TrimPrefix(strings.TrimPrefix(kdc, "tcp/"), "udp/")
	if strings.Contains(kdc, "/") || kdc == "" {
		return "", false
	}
	if host, p, err := net.SplitHostPort(kdc); err == nil {
		_, err := strconv.ParseUint(p, 10, 16)
		return net.JoinHostPort(host, p), err == nil
	}
	return net.JoinHostPort(strings.Trim(kdc, "[]"), port), true
}
