package ldapdir

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// values are what a template's names stand for.
type values struct{ principal, user, realm, host, folder, dn string }

// A template is a search filter (RFC 4515) with named values.
type template struct {
	text  string
	parts []part
}

// A part is literal text, or a value when name is set.
type part struct{ literal, name string }

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// parseTemplate checks a template as far as that can be done without a server:
// known names only, each in the place of a value, and a filter that compiles.
func parseTemplate(text string) (*template, error) {
	t := &template{text: text}
	rest := text
	for {
		at := placeholder.FindStringIndex(rest)
		if at == nil {
			break
		}
		before := rest[:at[0]]
		t.parts = append(t.parts, part{literal: before}, part{name: rest[at[0]+1 : at[1]-1]})
		rest = rest[at[1]:]
		if done := text[:len(text)-len(rest)]; !inValue(strings.TrimSuffix(done, "{"+t.parts[len(t.parts)-1].name+"}")) {
			return nil, fmt.Errorf("ldapdir: filter %q: {%s} is not in the place of a value", text, t.parts[len(t.parts)-1].name)
		}
	}
	t.parts = append(t.parts, part{literal: rest})
	for _, p := range t.parts {
		if strings.ContainsAny(p.literal, "{}") {
			return nil, fmt.Errorf("ldapdir: filter %q: a brace without its other", text)
		}
		if p.name != "" && (values{}).of(p.name) == nil {
			return nil, fmt.Errorf("ldapdir: filter %q: unknown name {%s}", text, p.name)
		}
	}
	if _, err := ldap.CompileFilter(t.render(values{"p", "u", "r", "h", "f", "d"})); err != nil {
		return nil, fmt.Errorf("ldapdir: filter %q: %w", text, err)
	}
	return t, nil
}

// inValue says whether text that goes on here would be part of a value: after
// the "=" of the innermost parenthesis.
func inValue(before string) bool {
	open := strings.LastIndexByte(before, '(')
	return open >= 0 && strings.ContainsRune(before[open:], '=') && !strings.ContainsRune(before[open:], ')')
}

// render puts the values in, each escaped.
func (t *template) render(v values) string {
	var b strings.Builder
	for _, p := range t.parts {
		b.WriteString(p.literal)
		if p.name != "" {
			b.WriteString(ldap.EscapeFilter(*v.of(p.name)))
		}
	}
	return b.String()
}

// has says whether a name occurs.
func (t *template) has(name string) bool { return strings.Contains(t.text, "{"+name+"}") }

// answerable says whether v has what the filter is about. A filter that takes
// either principal or user may go without one of them.
func (t *template) answerable(v values) bool {
	about := false
	for _, name := range []string{"principal", "user", "dn"} {
		if t.has(name) {
			if *v.of(name) != "" {
				return true
			}
			about = true
		}
	}
	return !about
}

// of gives the value of a name; nil when there is no such name.
func (v values) of(name string) *string {
	switch name {
	case "principal":
		return &v.principal
	case "user":
		return &v.user
	case "realm":
		return &v.realm
	case "host":
		return &v.host
	case "folder":
		return &v.folder
	case "dn":
		return &v.dn
	}
	return nil
}
