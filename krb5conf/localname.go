package krb5conf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Errors of LocalNames.Map.
var (
	ErrNoMapping = errors.New("krb5conf: no local name for this principal")
	ErrUntrusted = errors.New("krb5conf: realm is not trusted")
	ErrUnsafe    = errors.New("krb5conf: the rules give a name that is refused")
)

// LocalNames maps principals to local names by auth_to_local_names and
// auth_to_local of the default realm (MIT krb5.conf(5)), with libkrb5's results
// within bounds of our own: only trusted realms, and no result that is no plain
// name. It is safe for concurrent use.
type LocalNames struct {
	realm   string            // default realm, whose block rules for all
	trusted []string          // client realms let in
	names   map[string]string // auth_to_local_names
	rules   []localRule
	foreign bool
}

// LocalNameOptions widen what LocalNames maps.
type LocalNameOptions struct {
	TrustedRealms []string // besides the default realm

	// NamesForeign applies auth_to_local_names to other realms too, as
	// libkrb5 does: the table ignores the realm.
	NamesForeign bool
}

// A Step is one thing that was tried, for `kpop map --why`.
type Step struct {
	What   string
	Result string // empty: no match
}

// NewLocalNames reads p's rules. A malformed rule is an error at start, not for
// the users who come to it.
func NewLocalNames(p *Profile, o LocalNameOptions) (*LocalNames, error) {
	l := &LocalNames{realm: p.DefaultRealm(), names: map[string]string{}, foreign: o.NamesForeign}
	if l.realm == "" {
		return nil, errors.New("krb5conf: libdefaults has no default_realm; it says whose auth_to_local rules")
	}
	l.trusted = append([]string{l.realm}, o.TrustedRealms...)
	for _, name := range p.Names("realms", l.realm, "auth_to_local_names") {
		// libkrb5 takes the last value here, unlike everywhere else.
		values := p.Values("realms", l.realm, "auth_to_local_names", name)
		if len(values) > 0 {
			l.names[name] = values[len(values)-1]
		}
	}
	rules := p.nodes("realms", l.realm, "auth_to_local")
	if len(rules) == 0 {
		rules = []*node{{value: "DEFAULT"}}
	}
	for _, n := range rules {
		r, err := parseRule(n.value)
		if err != nil {
			return nil, fmt.Errorf("krb5conf: %s: auth_to_local %q: %w", n.at, n.value, err)
		}
		l.rules = append(l.rules, r)
	}
	return l, nil
}

// Map gives the local name of a principal in text form, or ErrPrincipal,
// ErrUntrusted, ErrNoMapping or ErrUnsafe.
func (l *LocalNames) Map(principal string) (string, error) {
	return l.try(principal, func(string, string) {})
}

// Explain is Map with all that was tried.
func (l *LocalNames) Explain(principal string) (string, []Step, error) {
	var steps []Step
	name, err := l.try(principal, func(what, result string) { steps = append(steps, Step{what, result}) })
	return name, steps, err
}

func (l *LocalNames) try(text string, note func(what, result string)) (string, error) {
	p, err := ParsePrincipal(text, l.realm)
	if err != nil {
		note("principal cannot be read, or has empty parts or control octets", "")
		return "", err
	}
	if !slices.Contains(l.trusted, p.Realm) {
		note(fmt.Sprintf("realm %q is not one of %q", p.Realm, l.trusted), "")
		return "", ErrUntrusted
	}
	name, ok := l.apply(p, note)
	if !ok {
		return "", ErrNoMapping
	}
	if !safeName(name) {
		note(fmt.Sprintf("%q is refused: empty, too long, a path, or with an at sign or control octets", name), "")
		return "", fmt.Errorf("%w: %q", ErrUnsafe, name)
	}
	return name, nil
}

// apply gives libkrb5's result. The first rule that gives one wins, even when
// it is refused later: another rule was not meant for this principal.
func (l *LocalNames) apply(p Principal, note func(what, result string)) (string, bool) {
	if p.Realm == l.realm || l.foreign {
		if name, ok := l.names[p.name()]; ok {
			note("auth_to_local_names "+p.name(), name)
			return name, true
		}
	}
	for i := range l.rules {
		name, ok := l.rules[i].apply(p, l.realm)
		note(l.rules[i].text, name)
		if ok {
			return name, true
		}
	}
	return "", false
}

// safeName refuses results that could lead somewhere else as a mailbox or a
// path.
func safeName(name string) bool {
	return name != "" && len(name) <= maxPart && name[0] != '.' && !strings.Contains(name, "..") &&
		utf8.ValidString(name) && !strings.ContainsAny(name, "/@") && strings.IndexFunc(name, isControl) < 0
}
