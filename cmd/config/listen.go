package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
)

// MechanismNames are what listen.*.mechanisms may hold.
var MechanismNames = []string{"GSSAPI", "GS2-KRB5-PLUS", "GS2-KRB5", "GSS-SPNEGO", "PLAIN", "LOGIN"}

// Listeners are the [listen.NAME] sections by their names.
type Listeners map[string]Listener

// A Listener is one [listen.NAME] section.
type Listener struct {
	Address         string   `mapstructure:"address"`
	Protocol        string   `mapstructure:"protocol"` // pop3, pop3s, kpop
	Mechanisms      []string `mapstructure:"mechanisms"`
	PasswordInClear bool     `mapstructure:"password_in_clear"`
	RequireTLS      bool     `mapstructure:"require_tls"`
	ChannelBinding  string   `mapstructure:"channel_binding"`
	POP4            bool     `mapstructure:"pop4"`
	ProxyFrom       []string `mapstructure:"proxy_from"` // who must send a PROXY header
}

// Names gives the listeners' names in a fixed order.
func (ls Listeners) Names() []string { return slices.Sorted(maps.Keys(ls)) }

// Proxies are the networks of proxy_from; a lone address is one of its own.
func (l Listener) Proxies() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range l.ProxyFrom {
		if p, err := parsePrefix(text); err == nil { // checked with the configuration
			out = append(out, p)
		}
	}
	return out
}

func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

func (Listeners) defaults() map[string]any { return nil }

func (ls Listeners) check(f *faults, whole *Config) {
	f.need(len(ls) > 0, "listen", "no listener; add a [listen.NAME] section with address and protocol")
	taken := map[string]string{}
	for _, name := range ls.Names() {
		key, l := "listen."+name, ls[name]
		l.check(f, key, whole.TLS.Certificate != "")
		if other, twice := taken[l.Address]; twice && !l.anyPort() {
			f.add(key+".address", fmt.Sprintf("%q is listen.%s's already", l.Address, other))
		}
		taken[l.Address] = name
	}
}

// anyPort says whether the system chooses a port.
func (l Listener) anyPort() bool {
	_, port, _ := net.SplitHostPort(l.Address) // a fault of its own
	return port == "0"
}

func (l Listener) check(f *faults, key string, certified bool) {
	_, port, err := net.SplitHostPort(l.Address)
	f.need(err == nil && isPort(port), key+".address", fmt.Sprintf("%q is not host:port or :port", l.Address))
	f.oneOf(key+".protocol", l.Protocol, "pop3", "pop3s", "kpop")
	f.oneOf(key+".channel_binding", cmp.Or(l.ChannelBinding, "ignore"), "ignore", "when_present", "require")
	f.need(l.Protocol != "pop3s" || certified, key, "pop3s needs [tls] certificate and key")
	f.need(!l.RequireTLS || certified, key+".require_tls", "needs [tls] certificate and key")
	for _, m := range l.Mechanisms {
		f.oneOf(key+".mechanisms", m, MechanismNames...)
	}
	for _, text := range l.ProxyFrom {
		p, err := parsePrefix(text)
		f.need(err == nil, key+".proxy_from", fmt.Sprintf("%q is not an address or a network as 192.0.2.0/24", text))
		f.need(err != nil || p.Bits() > 0, key+".proxy_from", "must not hold every address: anybody could choose the address he is known by")
	}
}
