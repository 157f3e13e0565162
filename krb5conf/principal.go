package krb5conf

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// A Principal is a name in components and its realm.
type Principal struct {
	Components []string
	Realm      string
}

// ErrPrincipal is a text that is no principal.
var ErrPrincipal = errors.New("krb5conf: not a principal")

// Limits of a principal: its text and its parts, in octets, and the number of
// components.
const (
	maxPrincipal  = 1024
	maxPart       = 255
	maxComponents = 16
)

// ParsePrincipal reads name/instance@REALM with MIT's quoting
// (krb5_parse_name): a backslash before n, t, b or 0 stands for that octet,
// before anything else for what follows. Without a realm the given one is
// taken. Empty components and control octets are refused, though libkrb5 takes
// them: no account has them.
func ParsePrincipal(text, realm string) (Principal, error) {
	if text == "" || len(text) > maxPrincipal {
		return Principal{}, ErrPrincipal
	}
	p := Principal{Realm: realm}
	var part strings.Builder
	inRealm := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			part.WriteByte(unescape(text[i]))
		case c == '\\', inRealm && (c == '@' || c == '/'):
			return Principal{}, ErrPrincipal
		case c == '/', c == '@':
			p.Components = append(p.Components, part.String())
			part.Reset()
			inRealm = c == '@'
		default:
			part.WriteByte(c)
		}
	}
	if inRealm {
		p.Realm = part.String()
	} else {
		p.Components = append(p.Components, part.String())
	}
	if !p.valid() {
		return Principal{}, ErrPrincipal
	}
	return p, nil
}

// unescape gives the octet that a backslash and c stand for.
func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case '0':
		return 0
	}
	return c
}

func (p Principal) valid() bool {
	if len(p.Components) > maxComponents || !plainPart(p.Realm) {
		return false
	}
	for _, c := range p.Components {
		if !plainPart(c) {
			return false
		}
	}
	return true
}

func plainPart(s string) bool {
	return s != "" && len(s) <= maxPart && utf8.ValidString(s) && strings.IndexFunc(s, isControl) < 0
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// Quoting of krb5_unparse_name: a name that stands without its realm keeps its
// at signs bare.
var (
	quoter     = strings.NewReplacer(`\`, `\\`, "/", `\/`, "@", `\@`, "\n", `\n`, "\t", `\t`, "\b", `\b`, "\x00", `\0`)
	nameQuoter = strings.NewReplacer(`\`, `\\`, "/", `\/`, "\n", `\n`, "\t", `\t`, "\b", `\b`, "\x00", `\0`)
)

// String prints p as krb5_unparse_name does.
func (p Principal) String() string {
	return join(p.Components, quoter) + "@" + quoter.Replace(p.Realm)
}

// name is the principal without its realm, as auth_to_local sees it
// (KRB5_PRINCIPAL_UNPARSE_NO_REALM).
func (p Principal) name() string { return join(p.Components, nameQuoter) }

func join(components []string, q *strings.Replacer) string {
	quoted := make([]string, len(components))
	for i, c := range components {
		quoted[i] = q.Replace(c)
	}
	return strings.Join(quoted, "/")
}
