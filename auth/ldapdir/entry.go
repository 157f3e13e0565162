package ldapdir

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/kpopd/kpopd/auth/rules"
)

// names lists the attributes to ask for; never the secret.
func (a Attributes) names(g *group) []string {
	var out []string
	for _, name := range []string{
		a.User, a.Mailbox, a.Aliases, a.Enabled, a.Locked, a.Home, a.Protocols, a.ActsFor, a.UIDStyle, a.Retention, a.Delay, g.attribute(),
	} {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// entry makes facts of what was found.
func (a Attributes) entry(found *ldap.Entry, base *ldap.DN, trace rules.Trace) (rules.Entry, error) {
	get := func(name string) []string {
		if name == "" {
			return nil
		}
		values := found.GetEqualFoldAttributeValues(name)
		trace.Add("ldap attribute", "%s: %.512q", name, values)
		return values
	}
	entry := rules.Entry{ID: found.DN, Aliases: get(a.Aliases), Protocols: get(a.Protocols)}
	mailboxes := get(a.Mailbox)
	if len(mailboxes) != 1 || mailboxes[0] == "" {
		return entry, rules.Refuse(rules.NoMailbox, "%q has %d values of %s", found.DN, len(mailboxes), a.Mailbox)
	}
	entry.Mailbox = mailboxes[0]
	if a.MailboxLocalPart {
		entry.Mailbox, _, _ = strings.Cut(entry.Mailbox, "@")
	}
	if users := get(a.User); len(users) > 0 {
		entry.User, entry.Names = users[0], users[1:]
	}
	entry.Locked = !a.enabled(get(a.Enabled)) || a.locked(get(a.Locked))
	if entry.Host = first(get(a.Home)); strings.EqualFold(entry.Host, a.LocalHome) {
		entry.Host = ""
	}
	for _, value := range get(a.ActsFor) {
		if name := a.actsFor(value, base); name != "" {
			entry.ActsFor = append(entry.ActsFor, name)
		}
	}
	entry.UIDStyle = first(get(a.UIDStyle))
	if value := first(get(a.Retention)); value != "" {
		retention, err := rules.ParseRetention(value)
		if err != nil {
			return entry, rules.Refuse(rules.NoMailbox, "%q: %v", found.DN, err)
		}
		entry.Retention = retention
	}
	if value := first(get(a.Delay)); value != "" {
		delay, err := rules.ParseDelay(value)
		if err != nil {
			return entry, rules.Refuse(rules.NoMailbox, "%q: %v", found.DN, err)
		}
		entry.LoginDelay = delay
	}
	return entry, nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// enabled wants an explicit yes once an attribute for it is configured.
func (a Attributes) enabled(values []string) bool {
	return a.Enabled == "" || slices.ContainsFunc(values, func(v string) bool {
		return slices.Contains([]string{"true", "yes", "on", "active", "enabled", "1"}, strings.ToLower(v))
	})
}

// locked takes any value for a lock that does not say no: nsAccountLock has
// TRUE, pwdAccountLockedTime a time. With bits, a value that is no number locks.
func (a Attributes) locked(values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		if a.LockedBits == 0 {
			return !slices.Contains([]string{"false", "no", "off", "0", ""}, strings.ToLower(v))
		}
		n, err := strconv.ParseUint(v, 10, 64)
		return err != nil || n&a.LockedBits != 0
	})
}

// actsFor reads a user's name or a DN. Of a DN it takes the naming attribute,
// when that is the user attribute and the DN lies below the base.
func (a Attributes) actsFor(value string, base *ldap.DN) string {
	if !strings.Contains(value, "=") {
		return value
	}
	dn, err := ldap.ParseDN(value)
	if err != nil || !base.AncestorOfFold(dn) || len(dn.RDNs[0].Attributes) != 1 {
		return ""
	}
	rdn := dn.RDNs[0].Attributes[0]
	if !strings.EqualFold(rdn.Type, a.User) {
		return ""
	}
	return rdn.Value
}
