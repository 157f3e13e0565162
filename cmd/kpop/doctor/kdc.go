package doctor

import (
	"context"
	"net"
	"time"

	"github.com/kpopd/kpopd/krb5conf"
)

// maxKDCs are asked at most.
const maxKDCs = 8

// kdcs asks each KDC by TCP and by UDP, and compares clocks. It says whether
// one answers.
func (s *Site) kdcs(ctx context.Context, r *Report) bool {
	if s.realm() == "" {
		return false // told already
	}
	return examineKDCs(ctx, r, s.resolver(), s.Kerberos.Profile, "pop/"+s.Hostname, s.Kerberos.Skew)
}

func examineKDCs(ctx context.Context, r *Report, resolver *net.Resolver, p *krb5conf.Profile, client string, skew time.Duration) bool {
	out := r.section("kdc")
	addresses, err := kdcAddresses(ctx, resolver, p)
	if err != nil || len(addresses) == 0 {
		out.wrong("add kdc lines to krb5.conf, or SRV records _kerberos._tcp and _kerberos._udp to DNS",
			"no KDC of %s is known (%v)", p.DefaultRealm(), err)
		return false
	}
	answered := false
	for _, address := range addresses[:min(len(addresses), maxKDCs)] {
		answered = examineKDC(ctx, r, p, address, client, skew) || answered
	}
	if !answered {
		out.wrong("start krb5kdc, or let port 88 through the firewalls", "no KDC of %s answers: nobody can log in with a password or get a ticket", p.DefaultRealm())
	}
	return answered
}

// examineKDC asks one KDC for a ticket that it cannot make, since no enctype is
// asked for: its refusal tells the time and proves nothing else is needed.
func examineKDC(ctx context.Context, r *Report, p *krb5conf.Profile, address, client string, skew time.Duration) bool {
	out, answers, clock := r.section("kdc"), false, false
	for _, proto := range []string{"tcp", "udp"} {
		a, err := ask(ctx, proto, address, p, client, "krbtgt/"+p.DefaultRealm(), []int32{0})
		switch {
		case err != nil && proto == "tcp":
			out.warn("let TCP port 88 through the firewalls: tickets of Active Directory do not fit into UDP", "%s does not answer by TCP: %v", address, err)
			continue
		case err != nil:
			out.warn("let UDP port 88 through the firewalls, or set udp_preference_limit = 1 so that nobody waits for it", "%s does not answer by UDP: %v", address, err)
			continue
		}
		answers = true
		out.ok("%s answers by %s in %s", address, proto, a.took.Round(100*time.Microsecond))
		if !clock && a.said != nil {
			clock = true
			stime := a.said.STime.Add(time.Duration(a.said.Susec) * time.Microsecond)
			examineClock(r.section("clock"), address, a.sent.Add(a.took/2).Sub(stime), skew)
		}
	}
	return answers
}

// examineClock grades how far this machine's clock is ahead of a KDC's.
func examineClock(out section, kdc string, ahead, skew time.Duration) {
	const remedy = "run chrony or systemd-timesyncd on both (chronyc tracking tells)"
	apart, word := ahead.Round(time.Millisecond), "ahead of"
	if ahead < 0 {
		apart, word = -apart, "behind"
	}
	switch {
	case apart >= skew:
		out.wrong(remedy, "this clock is %s %s that of %s: more than the %s that tickets allow", apart, word, kdc, skew)
	case apart >= skew/10:
		out.warn(remedy, "this clock is %s %s that of %s; from %s on tickets are refused", apart, word, kdc, skew)
	default:
		out.ok("this clock is %s %s that of %s; %s are allowed", apart, word, kdc, skew)
	}
}
