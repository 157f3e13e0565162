package krb5

import (
	"strconv"
	"strings"

	"github.com/jcmturner/gokrb5/v8/types"
)

// maxName bounds the text of a principal: longer ones are nobody's.
const maxName = 1024

// principalText prints a principal as MIT's krb5_unparse_name does: components
// joined by "/", the realm after "@", those signs and the backslash quoted in
// components. ok is false for names that no account has: no component, an
// empty one, control octets, or too long.
func principalText(name types.PrincipalName, realm string) (text string, ok bool) {
	if len(name.NameString) == 0 || realm == "" {
		return "", false
	}
	var b strings.Builder
	for i, c := range name.NameString {
		if i > 0 {
			b.WriteByte('/')
		}
		if !writeQuoted(&b, c) {
			return "", false
		}
	}
	b.WriteByte('@')
	if !writeQuoted(&b, realm) || b.Len() > maxName {
		return "", false
	}
	return b.String(), true
}

func writeQuoted(b *strings.Builder, s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c == 0x7f:
			return false
		case c == '/' || c == '@' || c == '\\':
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteByte(c)
		}
	}
	return s != ""
}

// label is a key's name in the log.
func (k *serviceKey) label() string {
	return k.service + "/" + k.host + "@" + k.realm + " kvno " + strconv.Itoa(k.kvno) + " " + EnctypeName(k.enctype)
}
