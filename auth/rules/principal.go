package rules

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A principal is a principal's name as far as rules need it taken apart.
type principal struct {
	realm    string
	instance bool // more than one component
}

// heard refuses principals that no rule may ever see: malformed ones, the
// anonymous one (RFC 8062 section 3.1), and those of realms not on the list.
func (r *Rules) heard(text string, trace Trace) (principal, error) {
	p, err := parsePrincipal(text)
	if err != nil {
		trace.Add("principal", "%v", err)
		return p, err
	}
	trusted := r.Realms.Trusted
	if len(trusted) == 0 {
		trusted = []string{r.Realms.Default}
	}
	if p.realm == "" || !slices.Contains(trusted, p.realm) {
		trace.Add("realm", "%s is not one of %q", quote(p.realm), trusted)
		return p, Refuse(ForeignRealm, "realm of %s is not trusted", quote(text))
	}
	trace.Add("realm", "%s is trusted", quote(p.realm))
	return p, nil
}

// parsePrincipal is strict: a name that needs quoting (RFC 1964 section 2.1.1)
// has a component that could be taken for two, and is refused.
func parsePrincipal(text string) (principal, error) {
	name, realm, ok := strings.Cut(text, "@")
	switch {
	case text == "" || len(text) > 2*255 || !utf8.ValidString(text):
		return principal{}, Refuse(BadName, "principal of %d octets is empty, too long or not UTF-8", len(text))
	case !ok || name == "" || realm == "" || strings.ContainsAny(realm, "@/"):
		return principal{}, Refuse(BadName, "principal %s has not one name and one realm", quote(text))
	case strings.ContainsRune(text, '\\') || strings.IndexFunc(text, unprintable) >= 0:
		return principal{}, Refuse(BadName, "principal %s has quoted or control octets", quote(text))
	case strings.HasPrefix(name, "WELLKNOWN") || strings.HasPrefix(realm, "WELLKNOWN:"):
		return principal{}, Refuse(Anonymous, "principal %s proves nobody", quote(text))
	}
	components := strings.Split(name, "/")
	if slices.Contains(components, "") {
		return principal{}, Refuse(BadName, "principal %s has an empty component", quote(text))
	}
	return principal{realm: realm, instance: len(components) > 1}, nil
}

func unprintable(r rune) bool { return r <= ' ' || !unicode.IsPrint(r) }
