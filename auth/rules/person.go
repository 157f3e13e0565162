package rules

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/kpopd/kpopd/auth"
)

// A person is a proved identity, as far as it is known here.
type person struct {
	principal string // empty when a name without a realm was proved
	realm     string
	user      string // user name as its entry spells it; empty: none
	local     string // user name before its entry was found
	entry     Entry
	given     auth.LoginName // host and folder that came with the proved name
}

// name is what to call a person in a log.
func (p person) name() string {
	if p.principal != "" {
		return p.principal
	}
	return p.user
}

// usable refuses a person whose own account is closed.
func (p person) usable() error {
	switch {
	case p.entry.Locked:
		return Refuse(Locked, "%s is locked", quote(p.entry.ID))
	case p.entry.Outside:
		return Refuse(NotInGroup, "%s is not in the required group", quote(p.entry.ID))
	}
	return nil
}

// mayLackAccount says whether err leaves a principal that Acting may yet admit:
// front servers and robots have no account of their own.
func (p person) mayLackAccount(err error) bool {
	var refusal *Refusal
	return p.principal != "" && errors.As(err, &refusal) &&
		slices.Contains([]Reason{Instance, Unmapped, NoEntry}, refusal.Reason)
}

// owns says whether the wanted name is the person's own: the local name, the
// whole principal, the mailbox or an alias.
func (p person) owns(id auth.Identity, want auth.LoginName) bool {
	switch {
	case id.Authzid == "" || id.Authzid == id.Authcid:
		return true
	case want.Realm != "":
		return want.Principal() == p.principal
	}
	return want.User == p.user || want.User == p.local || want.User == p.entry.Mailbox || p.aliased(id.Authzid) || slices.Contains(p.entry.Aliases, want.User)
}

// has says whether an entry that was found for a host name is the person's: the own
// one, one of the same user, or one that has the person among its other names.
func (p person) has(found Entry) bool {
	of := person{entry: found}
	return found.ID != "" && found.ID == p.entry.ID || found.User != "" && found.User == p.user ||
		of.aliased(p.user) || p.local != "" && of.aliased(p.local)
}

// aliased says whether s, as it was sent, is one of the account's other names.
func (p person) aliased(s string) bool {
	return slices.ContainsFunc(p.entry.Aliases, func(a string) bool { return strings.EqualFold(a, s) })
}

// self finds the account of who was proved.
func (r *Rules) self(ctx context.Context, id auth.Identity, trace Trace) (person, error) {
	if id.Realm != "" {
		if !strings.HasSuffix(id.Authcid, "@"+id.Realm) {
			trace.Add("principal", "%s is not of the proved realm %s", quote(id.Authcid), quote(id.Realm))
			return person{}, Refuse(BadName, "principal %s is not of its realm %s", quote(id.Authcid), quote(id.Realm))
		}
		return r.byPrincipal(ctx, id.Authcid, trace)
	}
	n, err := r.Names.Parse(id.Authcid)
	if err != nil {
		trace.Add("proved name", "%v", err)
		return person{}, Refuse(BadName, "%v", err)
	}
	if n.Realm != "" {
		p, err := r.byPrincipal(ctx, n.Principal(), trace)
		p.given = n
		return p, err
	}
	trace.Add("proved name", "%s is the local name %s", quote(id.Authcid), quote(n.User))
	p := person{user: n.User, given: n}
	return r.complete(ctx, p, trace)
}

// byPrincipal goes through the origins in their order. The first that knows the
// principal decides.
func (r *Rules) byPrincipal(ctx context.Context, principal string, trace Trace) (person, error) {
	name, err := r.heard(principal, trace)
	if err != nil {
		return person{}, err
	}
	p := person{principal: principal, realm: name.realm}
	order := r.Order
	if len(order) == 0 {
		order = []Origin{FromMap, FromSource, FromLocal}
	}
	trace.Add("order", "%q", order)
	for _, origin := range order {
		if origin != FromMap && name.instance && !r.Realms.Instances {
			trace.Add(string(origin), "skipped: %s has an instance", quote(principal))
			continue
		}
		found, err := r.ask(ctx, origin, &p, trace)
		if err != nil {
			return p, err
		}
		if found {
			return r.complete(ctx, p, trace)
		}
	}
	if name.instance && !r.Realms.Instances {
		return p, Refuse(Instance, "%s has an instance and no line of its own", quote(principal))
	}
	return p, Refuse(Unmapped, "no rule gives %s a local name", quote(principal))
}

// ask asks one origin and fills p in.
func (r *Rules) ask(ctx context.Context, origin Origin, p *person, trace Trace) (bool, error) {
	switch origin {
	case FromMap:
		return r.askMap(p, trace)
	case FromSource:
		return r.askSource(ctx, p, trace)
	case FromLocal:
		return r.askLocal(p, trace)
	}
	return false, errors.Join(auth.ErrPermanent, Refuse(Unmapped, "unknown origin %q in the order", string(origin)))
}

func (r *Rules) askMap(p *person, trace Trace) (bool, error) {
	if r.Map == nil {
		trace.Add("map file", "none is configured")
		return false, nil
	}
	user, line, ok := r.Map.Find(p.principal)
	if !ok {
		trace.Add("map file", "%s has no line for %s", r.Map.Path(), quote(p.principal))
		return false, nil
	}
	trace.Add("map file", "%s:%d maps %s to %s", r.Map.Path(), line, quote(p.principal), quote(user))
	p.user = user
	return true, nil
}

func (r *Rules) askSource(ctx context.Context, p *person, trace Trace) (bool, error) {
	if r.Source == nil {
		trace.Add("directory", "none is configured")
		return false, nil
	}
	entry, err := r.Source.Find(ctx, Query{Principal: p.principal, Realm: p.realm}, trace)
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Reason == NoEntry {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	p.entry, p.user = entry, entry.User
	if p.user == "" {
		p.user = entry.Mailbox
	}
	if p.user == "" {
		return false, Refuse(NoMailbox, "%s names neither user nor mailbox", quote(entry.ID))
	}
	return true, nil
}

func (r *Rules) askLocal(p *person, trace Trace) (bool, error) {
	if r.Local.Map == nil {
		return false, nil
	}
	user, err := r.local(p.principal, trace)
	if err != nil {
		trace.Add("auth_to_local", "%s has no local name: %v", quote(p.principal), err)
		return false, nil
	}
	if err := auth.CheckUser(user); err != nil {
		trace.Add("auth_to_local", "gives %s, which is refused: %v", quote(user), err)
		return false, Refuse(BadName, "auth_to_local gives %s for %s", quote(user), quote(p.principal))
	}
	trace.Add("auth_to_local", "maps %s to %s", quote(p.principal), quote(user))
	p.user = user
	return true, nil
}

// local asks for the steps only when somebody wants them.
func (r *Rules) local(principal string, trace Trace) (string, error) {
	if trace == nil || r.Local.Explain == nil {
		return r.Local.Map(principal)
	}
	user, steps, err := r.Local.Explain(principal)
	for _, s := range steps {
		trace(s)
	}
	return user, err
}

// complete finds the entry of a person whose local name is known.
func (r *Rules) complete(ctx context.Context, p person, trace Trace) (person, error) {
	if err := auth.CheckMailbox(p.user); err != nil { // a source may name users by address
		return p, Refuse(BadName, "%v", err)
	}
	p.local = p.user
	switch {
	case r.Source == nil:
		p.entry = Entry{User: p.user, Mailbox: p.user}
		trace.Add("directory", "none: the local name %s is the mailbox", quote(p.user))
	case p.entry.ID == "":
		entry, err := r.Source.Find(ctx, Query{Principal: p.principal, Realm: p.realm, User: p.user}, trace)
		if err == nil {
			err = r.exact(p.user, entry, trace)
		}
		if err != nil {
			return p, err
		}
		p.entry = entry
		if entry.User != "" {
			p.user = entry.User
		}
	}
	return p, nil
}

// exact refuses an entry that has the name in another spelling: LDAP compares
// without regard to case and to the width of letters (RFC 4518 section 2), Kerberos
// octet for octet, so that ALICE may be somebody else than alice. What differs in more
// from all that is known of the account is a name that the filter knows.
func (r *Rules) exact(name string, found Entry, trace Trace) error {
	if r.FoldCase || found.User == "" {
		return nil
	}
	spelled := found.spells(name)
	if spelled == "" || norm.NFC.String(spelled) == norm.NFC.String(name) {
		return nil
	}
	trace.Add("directory", "%s is spelled %s in entry %s: somebody else, unless identity.fold_case says otherwise", quote(name), quote(spelled), quote(found.ID))
	return Refuse(NoEntry, "%s is spelled %s in entry %s; set identity.fold_case where the KDC does not tell them apart, as Active Directory's does not",
		quote(name), quote(spelled), quote(found.ID))
}

// spells gives the entry's own spelling of name, an equal one before others; empty
// when it has none. What is before the at sign of an address comes last: a filter may
// ask for it.
func (e Entry) spells(name string) string {
	names := slices.Concat([]string{e.User}, e.Names, e.Aliases)
	var locals []string
	for _, a := range e.Aliases {
		if local, _, at := strings.Cut(a, "@"); at {
			locals = append(locals, local)
		}
	}
	equal := func(s string) bool { return norm.NFC.String(s) == norm.NFC.String(name) }
	like := func(s string) bool { return skeleton(s) == skeleton(name) }
	for _, list := range [][]string{names, locals} {
		for _, test := range []func(string) bool{equal, like} {
			if i := slices.IndexFunc(list, test); i >= 0 {
				return list[i]
			}
		}
	}
	return ""
}

// skeleton is what is left of a name that some directory may take for another: RFC
// 4518 section 2.2 folds U+00DF to ss and throws variation selectors away, slapd
// folds U+0130 to a bare i, others fold upwards or do not look at accents.
// Too much is folded rather than too little: it finds out who is refused.
func skeleton(name string) string {
	folded := norm.NFKD.String(cases.Fold().String(strings.ToUpper(norm.NFKD.String(name))))
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, folded)
}
