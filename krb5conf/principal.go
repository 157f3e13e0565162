package krb5conf

import (
	"errors"
	"strings"
)

// A Principal is a name in components and its realm.
type Principal struct {
	Components []string
	Realm      string
}

// ErrPrincipal is a text that is no principal.
var ErrPrincipal = errors.New("krb5conf: not a principal")

// maxPrincipal bounds a principal's text, in octets.
const maxPrincipal = 1024

// ParsePrincipal reads name/instance@REALM with MIT's quoting (krb5_parse_name):
// a backslash before "/", "@", "\", or one of n, t, b, 0. Without a realm the
// given one is taken. Empty components and control octets are refused, though
// libkrb5 takes them: no account has them.
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
			part.WriteByte(text[i])
		case c == '\\', c < 0x20, c == 0x7f, inRealm && (c == '@' || c == '/'):
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
	return p, p.check()
}

func (p Principal) check() error {
	if p.Realm == "" {
		return ErrPrincipal
	}
	for _, c := range p.Components {
		if c == "" {
			return ErrPrincipal
		}
	}
	return nil
}

var quoter = strings.NewReplacer(`\`, `\\`, "/", `\/`, "@", `\@`)

// String prints p as libkrb5 does.
func (p Principal) String() string {
	quoted := make([]string, len(p.Components))
	for i, c := range p.Components {
		quoted[i] = quoter.Replace(c)
	}
	return strings.Join(quoted, "/") + "@" + quoter.Replace(p.Realm)
}

// name is the principal without its realm, unquoted, as auth_to_local sees it.
func (p Principal) name() string { return strings.Join(p.Components, "/") }
