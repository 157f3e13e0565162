package krb5

import (
	"log/slog"
	"net"
	"slices"
	"time"
)

// checkClient compares the names and applies the policies on realms, addresses
// and on what the authenticator was made for.
func (a *Acceptor) checkClient(c *Context, t *ticketPart, use Use, remote net.Addr) *Refusal {
	if !sameName(c.auth.name, t.name) || c.auth.realm != t.realm {
		return refuse(idMismatch, slog.String("authenticator_client", clip(PrincipalText(c.auth.name, c.auth.realm))))
	}
	if a.CheckAddresses && len(t.addresses) > 0 && !hasAddress(t.addresses, remote) {
		return refuse(idAddress, slog.Any("ticket_addresses", addressTexts(t.addresses)))
	}
	if len(t.transited) > 0 && t.flags&flagTransitedChecked == 0 {
		return refuse(idTransited, slog.String("transited", clip(string(t.transited))))
	}
	if !a.trusts(t.realm) {
		return refuse(idRealm, slog.Any("trusted", a.trusted()))
	}
	if err := checkPrincipal(t.name, t.realm); err != nil {
		return refuseFor(idPrincipal, err)
	}
	if c.auth.hasSubkey {
		k, err := newKey(c.auth.subkey.etype, c.auth.subkey.value)
		if err != nil {
			return refuse(idSessionEtype, slog.String("subkey_enctype", EnctypeName(c.auth.subkey.etype)), slog.Any("accepted", enctypeNames()))
		}
		c.subkey = k
	}
	isGSS := c.auth.hasSum && c.auth.sumType == checksumGSS
	switch {
	case use == UseKPOP && isGSS:
		return refuse(idPurpose)
	case use == UseGSS && !isGSS:
		return refuse(idChecksum)
	}
	return nil
}

func (a *Acceptor) trusts(realm string) bool {
	if len(a.Realms) == 0 {
		return a.keys().hasRealm(realm)
	}
	return slices.Contains(a.Realms, realm)
}

// trusted names the realms for the log.
func (a *Acceptor) trusted() []string {
	if len(a.Realms) > 0 {
		return a.Realms
	}
	var out []string
	for _, k := range a.keys().entries {
		if !slices.Contains(out, k.realm) {
			out = append(out, k.realm)
		}
	}
	return out
}

// addressTexts names a ticket's addresses for the log, as far as they are of IP.
func addressTexts(all []address) []string {
	var out []string
	for _, x := range all {
		if len(x.b) == net.IPv4len || len(x.b) == net.IPv6len {
			out = append(out, net.IP(x.b).String())
		}
	}
	return out
}

// hasAddress compares a ticket's addresses (RFC 4120 section 7.5.3) with the
// peer's.
func hasAddress(all []address, remote net.Addr) bool {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return false
	}
	const inet, inet6 = 2, 24
	for _, x := range all {
		want := net.IP(x.b)
		if (x.kind == inet && len(want) == net.IPv4len || x.kind == inet6 && len(want) == net.IPv6len) && want.Equal(tcp.IP) {
			return true
		}
	}
	return false
}

// inTime says whether the authenticator's time is near enough.
func (c *Context) inTime(skew time.Duration) bool { return c.apart <= skew && c.apart >= -skew }

// checkTimes follows the replay check, so that a replay of an expired ticket
// is reported as a replay, as MIT does. Like MIT it counts whole seconds: what is
// one skew off is accepted until the second is over.
func (a *Acceptor) checkTimes(c *Context, t *ticketPart) *Refusal {
	now, skew := a.now().Truncate(time.Second), a.skew()
	switch {
	case t.start.Sub(now) > skew:
		return refuse(idNotYet, slog.Time("start", t.start), slog.Time("now", now))
	case now.Sub(t.end) > skew:
		return refuse(idExpired, slog.Time("end", t.end), slog.Time("now", now))
	case !c.inTime(skew):
		return refuse(idSkew, slog.Duration("allowed", skew))
	case t.flags&flagInvalid != 0:
		return refuse(idInvalidFlag)
	}
	return nil
}
