package doctor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/krb5conf"
)

// A style is how a kind of client makes a host name of what was typed.
type style struct {
	who      string
	host     string
	unlikely bool // no client of a site with this krb5.conf is such a one
}

// names examines the host name in DNS, and whether the keytab has the principal
// that each kind of client will ask for.
func (s *Site) names(ctx context.Context, r *Report, keys *krb5conf.KeytabFile) {
	styles := examineNames(ctx, r.section("dns"), s.resolver(), s.Kerberos.Profile, s.Hostname)
	if keys == nil {
		return
	}
	held := s.held(keys)
	for _, st := range styles {
		s.asked(r.section("dns"), st, held)
	}
}

// asked looks for one style's principal.
func (s *Site) asked(out section, st style, held holdings) {
	principal := "pop/" + st.host + "@" + s.realm()
	switch {
	case slices.Contains(held.names, principal):
		out.ok("%s: will ask for %s, which is in the keytab", st.who, principal)
	case st.unlikely:
		out.warn("give all clients the same krb5.conf, or make DNS give the other name", "%s: would ask for %s, which is not in the keytab; rdns is off here", st.who, principal)
	default:
		out.wrong(fmt.Sprintf("kadmin -q 'addprinc -randkey %s' and kadmin -q 'ktadd -k %s %s', or make DNS give the other name",
			principal, s.Kerberos.Keytab, principal), "%s: will ask for %s, which is not in the keytab", st.who, principal)
	}
	emacs := "pop3/" + st.host + "@" + s.realm()
	if slices.Contains(s.Kerberos.Services, "pop3") && !slices.Contains(held.names, emacs) {
		out.ok("Emacs's movemail would ask for %s; add it if people use that", emacs)
	}
}

// examineNames looks host up forward and backward, and gives the names by which
// clients will know it, each once.
func examineNames(ctx context.Context, out section, resolver *net.Resolver, p *krb5conf.Profile, host string) []style {
	ctx, cancel := context.WithTimeout(ctx, 2*questionTime)
	defer cancel()
	styles := []style{{who: "clients that take the name as it is typed (curl, mpop, libkrb5 with dns_canonicalize_hostname = false)", host: strings.ToLower(host)}}
	if net.ParseIP(host) != nil {
		out.wrong("use a name: tickets are for names", "%s is an address and not a name", host)
		return nil
	}
	addresses, err := resolver.LookupHost(ctx, host)
	if err != nil {
		out.wrong("add an A or AAAA record, or a line in /etc/hosts", "%s has no address: %v", host, err)
		return styles
	}
	out.ok("%s is at %s", host, strings.Join(addresses, ", "))
	canonical := strings.ToLower(host)
	if name, err := resolver.LookupCNAME(ctx, host); err == nil && name != "" {
		canonical = strings.ToLower(strings.TrimSuffix(name, "."))
	}
	if canonical != strings.ToLower(host) {
		out.ok("%s is an alias of %s", host, canonical)
	}
	styles = append(styles, style{who: "clients that follow aliases (fetchmail always; libkrb5 with rdns = false)", host: canonical})
	unlikely := p != nil && (!p.Bool(true, "libdefaults", "rdns") || !p.Bool(true, "libdefaults", "dns_canonicalize_hostname"))
	for _, name := range reverse(ctx, out, resolver, canonical, addresses) {
		styles = append(styles, style{"clients that look the address up (libkrb5's default, rdns = true)", name, unlikely})
	}
	return merge(styles)
}

// reverse gives the names of the addresses; one without a name is what its
// forward name says, for libkrb5.
func reverse(ctx context.Context, out section, resolver *net.Resolver, canonical string, addresses []string) []string {
	var names []string
	for _, a := range addresses {
		found, err := resolver.LookupAddr(ctx, a)
		if err != nil || len(found) == 0 {
			out.warn("add a PTR record to "+canonical+", so that every resolver says the same", "%s has no name; libkrb5 stays with %s", a, canonical)
			continue
		}
		for i := range found {
			found[i] = strings.ToLower(strings.TrimSuffix(found[i], "."))
		}
		if !slices.Contains(found, canonical) {
			out.warn(fmt.Sprintf("make the PTR record of %s say %s", a, canonical), "%s is %s backwards, not %s", a, strings.Join(found, ", "), canonical)
			names = append(names, found[0])
			continue
		}
		out.ok("%s is %s backwards too", a, canonical)
		names = append(names, canonical)
	}
	return names
}

// merge makes one style of those that give the same name.
func merge(styles []style) []style {
	var out []style
	for _, st := range styles {
		i := slices.IndexFunc(out, func(o style) bool { return o.host == st.host })
		switch {
		case i < 0:
			out = append(out, st)
		case !strings.Contains(out[i].who, st.who):
			out[i].who += "; " + st.who
			out[i].unlikely = out[i].unlikely && st.unlikely
		}
	}
	return out
}
