package krb5conf

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Errors of LocalNames.Map.
var (
	ErrNoMapping = errors.New("krb5conf: no local name for this principal")
	ErrUntrusted = errors.New("krb5conf: realm is not trusted")
	ErrUnsafe    = errors.New("krb5conf: the rules give a name that is refused")
)

// LocalNames maps principals to local names by auth_to_local_names and
// auth_to_local of the default realm (MIT krb5.conf(5)), within bounds of our
// own: only trusted realms, and no result that is no plain name.
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
	l.trusted = append([]string{l.realm}, o.TrustedRealms...)
	for _, name := range p.Names("realms", l.realm, "auth_to_local_names") {
		l.names[name] = p.Value("", "realms", l.realm, "auth_to_local_names", name)
	}
	texts := p.Values("realms", l.realm, "auth_to_local")
	if len(texts) == 0 {
		texts = []string{"DEFAULT"}
	}
	for _, text := range texts {
		r, err := parseRule(text)
		if err != nil {
			return nil, err
		}
		l.rules = append(l.rules, r)
	}
	return l, nil
}

// Map gives the local name of a principal in text form, or ErrPrincipal,
// ErrUntrusted, ErrNoMapping or ErrUnsafe.
func (l *LocalNames) Map(principal string) (string, error) {
	name, _, err := l.try(principal, false)
	return name, err
}

// Explain is Map with all that was tried.
func (l *LocalNames) Explain(principal string) (string, []Step, error) {
	return l.try(principal, true)
}

func (l *LocalNames) try(text string, tell bool) (string, []Step, error) {
	p, err := ParsePrincipal(text, l.realm)
	if err != nil {
		return "", nil, err
	}
	if !slices.Contains(l.trusted, p.Realm) {
		return "", []Step{{"realm " + p.Realm + " is not one of " + strings.Join(l.trusted, ", "), ""}}, ErrUntrusted
	}
	var steps []Step
	note := func(what, result string) {
		if tell {
			steps = append(steps, Step{what, result})
		}
	}
	name, ok := l.apply(p, note)
	if !ok {
		return "", steps, ErrNoMapping
	}
	if !safeName(name) {
		return "", steps, fmt.Errorf("%w: %q", ErrUnsafe, name)
	}
	return name, steps, nil
}

func (l *LocalNames) apply(p Principal, note func(what, result string)) (string, bool) {
	if p.Realm == l.realm || l.foreign {
		if name, ok := l.names[p.name()]; ok {
			note("auth_to_local_names", name)
			return name, true
		}
	}
	for _, r := range l.rules {
		name, ok := r.apply(p, l.realm)
		note(r.text, name)
		if ok {
			return name, true
		}
	}
	return "", false
}

// safeName refuses results that could lead somewhere else as a mailbox or a
// path.
func safeName(name string) bool {
	return name != "" && len(name) <= 255 && name[0] != '.' && !strings.Contains(name, "..") &&
		strings.IndexFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '/' || r == '@' }) < 0
}

// A localRule is one auth_to_local value.
type localRule struct {
	text      string
	isDefault bool
	selects   bool           // [n:string] is there
	count     int            // components it is for
	format    string         // string with $0..$9
	match     *regexp.Regexp // of the whole selection; nil: any
	edits     []edit
}

// An edit is s/pattern/replacement/ with or without g.
type edit struct {
	pattern     *regexp.Regexp
	replacement string // literal: MIT gives & and \1 no meaning
	all         bool
}

// parseRule reads DEFAULT or RULE:[n:string](regexp)s/pattern/replacement/g.
func parseRule(text string) (localRule, error) {
	r := localRule{text: text}
	if text == "DEFAULT" {
		r.isDefault = true
		return r, nil
	}
	rest, ok := strings.CutPrefix(text, "RULE:")
	if !ok {
		return r, fmt.Errorf("krb5conf: auth_to_local %q is neither DEFAULT nor RULE:", text)
	}
	rest, err := r.parseSelection(rest)
	if err != nil {
		return r, err
	}
	if rest, err = r.parseMatch(rest); err != nil {
		return r, err
	}
	for strings.TrimSpace(rest) != "" {
		if rest, err = r.parseEdit(strings.TrimSpace(rest)); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *localRule) parseSelection(rest string) (string, error) {
	inner, ok := strings.CutPrefix(rest, "[")
	if !ok {
		return rest, nil
	}
	selection, after, closed := strings.Cut(inner, "]")
	count, format, colon := strings.Cut(selection, ":")
	n, err := strconv.Atoi(count)
	if !closed || !colon || err != nil || n < 0 {
		return "", fmt.Errorf("krb5conf: auth_to_local %q: malformed selection", r.text)
	}
	r.selects, r.count, r.format = true, n, format
	return after, nil
}

func (r *localRule) parseMatch(rest string) (string, error) {
	inner, ok := strings.CutPrefix(rest, "(")
	if !ok {
		return rest, nil
	}
	depth := 1
	for i := range len(inner) {
		switch inner[i] {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth > 0 {
			continue
		}
		// The whole selection must match, whatever alternatives it holds.
		re, err := regexp.CompilePOSIX("^(" + inner[:i] + ")$")
		if err != nil {
			return "", fmt.Errorf("krb5conf: auth_to_local %q: %w", r.text, err)
		}
		r.match = re
		return inner[i+1:], nil
	}
	return "", fmt.Errorf("krb5conf: auth_to_local %q: parenthesis is not closed", r.text)
}

func (r *localRule) parseEdit(rest string) (string, error) {
	parts := strings.SplitN(strings.TrimPrefix(rest, "s/"), "/", 3)
	if !strings.HasPrefix(rest, "s/") || len(parts) != 3 {
		return "", fmt.Errorf("krb5conf: auth_to_local %q: malformed substitution", r.text)
	}
	re, err := regexp.CompilePOSIX(parts[0])
	if err != nil {
		return "", fmt.Errorf("krb5conf: auth_to_local %q: %w", r.text, err)
	}
	after, all := strings.CutPrefix(parts[2], "g")
	r.edits = append(r.edits, edit{re, parts[1], all})
	return after, nil
}

// apply gives the rule's result for p.
func (r *localRule) apply(p Principal, realm string) (string, bool) {
	if r.isDefault {
		return p.Components[0], len(p.Components) == 1 && p.Realm == realm
	}
	selected, ok := r.selection(p)
	if !ok || r.match != nil && !r.match.MatchString(selected) {
		return "", false
	}
	for _, e := range r.edits {
		selected = e.apply(selected)
	}
	return selected, true
}

func (r *localRule) selection(p Principal) (string, bool) {
	if !r.selects {
		return p.name(), true
	}
	if len(p.Components) != r.count {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(r.format); i++ {
		if r.format[i] != '$' || i+1 == len(r.format) || r.format[i+1] < '0' || r.format[i+1] > '9' {
			b.WriteByte(r.format[i])
			continue
		}
		i++
		switch n := int(r.format[i] - '0'); {
		case n == 0:
			b.WriteString(p.Realm)
		case n <= len(p.Components):
			b.WriteString(p.Components[n-1])
		default:
			return "", false
		}
	}
	return b.String(), true
}

func (e *edit) apply(s string) string {
	if e.all {
		return e.pattern.ReplaceAllLiteralString(s, e.replacement)
	}
	at := e.pattern.FindStringIndex(s)
	if at == nil {
		return s
	}
	return s[:at[0]] + e.replacement + s[at[1]:]
}
