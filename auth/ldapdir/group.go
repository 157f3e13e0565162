package ldapdir

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"github.com/kpopd/kpopd/auth/rules"
)

// A group is a Group that was checked: dn or filter is set.
type group struct {
	Group
	dn     *ldap.DN
	filter *template
}

// newGroup checks a Group; nil is none.
func newGroup(g Group, base string) (*group, error) {
	out := &group{Group: g}
	switch {
	case g.DN == "" && g.Filter == "":
		if g != (Group{}) {
			return nil, errors.New("ldapdir: a required group needs its DN or a filter")
		}
		return nil, nil
	case g.DN != "" && g.Filter != "":
		return nil, errors.New("ldapdir: a required group has a DN or a filter, not both")
	case g.DN != "":
		dn, err := ldap.ParseDN(g.DN)
		if err != nil {
			return nil, fmt.Errorf("ldapdir: group %q: %w", g.DN, err)
		}
		out.dn = dn
		if out.Attribute == "" {
			out.Attribute = "memberOf"
		}
		return out, nil
	}
	t, err := parseTemplate(g.Filter)
	if err != nil {
		return nil, err
	}
	if !t.has("dn") && !t.has("user") && !t.has("principal") {
		return nil, fmt.Errorf("ldapdir: group filter %q asks for nobody", g.Filter)
	}
	out.filter = t
	if out.Base == "" {
		out.Base = base
	}
	return out, nil
}

// attribute is what has to be read of an entry to know its groups.
func (g *group) attribute() string {
	if g == nil || g.dn == nil {
		return ""
	}
	return g.Attribute
}

// key is what the group's part of an answer depends on, besides the entry.
func (g *group) key(v values) string {
	if g == nil || g.filter == nil {
		return ""
	}
	return "\x00" + g.filter.render(v)
}

// outside says whether an entry lacks the required group.
func (d *Directory) outside(ctx context.Context, found *ldap.Entry, v values, trace rules.Trace) (bool, error) {
	switch {
	case d.group == nil:
		return false, nil
	case d.group.dn != nil:
		for _, value := range found.GetEqualFoldAttributeValues(d.group.Attribute) {
			if dn, err := ldap.ParseDN(value); err == nil && dn.EqualFold(d.group.dn) {
				trace.Add("ldap group", "%s has %q", d.group.Attribute, value)
				return false, nil
			}
		}
		trace.Add("ldap group", "%s has not %q", d.group.Attribute, d.group.DN)
		return true, nil
	}
	v.dn = found.DN
	if v.user == "" { // the entry was found by its principal
		v.user = first(found.GetEqualFoldAttributeValues(d.attributes.User))
	}
	if !d.group.filter.answerable(v) {
		return true, nil
	}
	filter := d.group.filter.render(v)
	entries, err := d.entries(ctx, d.group.Base, ldap.ScopeWholeSubtree, filter, []string{"1.1"})
	trace.Add("ldap group", "%s below %q: %d found", filter, d.group.Base, len(entries))
	return len(entries) == 0, err
}
