package krb5

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxPrincipal bounds the text of a principal.
const maxPrincipal = 255

// PrincipalText writes a principal as krb5_unparse_name of MIT does: the
// components joined by a slash, then @ and the realm, with a backslash before
// each slash, at sign or backslash inside a part and \n, \t, \b, \0 for those
// octets. Two different principals never give the same text.
func PrincipalText(components []string, realm string) string {
	var b strings.Builder
	size := len(components) + len(realm) // and more where something is quoted
	for _, c := range components {
		size += len(c)
	}
	b.Grow(size)
	for i, c := range components {
		if i > 0 {
			b.WriteByte('/')
		}
		quote(&b, c, true)
	}
	b.WriteByte('@')
	quote(&b, realm, false)
	return b.String()
}

func quote(b *strings.Builder, s string, slash bool) {
	for i := range len(s) {
		switch c := s[i]; c {
		case '/':
			if slash {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		case '@', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\n':
			b.WriteString(`\n`)
		case '\t':
			b.WriteString(`\t`)
		case '\b':
			b.WriteString(`\b`)
		case 0:
			b.WriteString(`\0`)
		default:
			b.WriteByte(c)
		}
	}
}

// checkPrincipal refuses the names that no user of a mail server has and that
// have fooled other servers: empty parts, control octets, what is not UTF-8,
// the anonymous principal (RFC 8062 section 3).
func checkPrincipal(components []string, realm string) error {
	if len(components) == 0 || realm == "" {
		return errors.New("krb5: principal without name or realm")
	}
	size := len(realm)
	for _, part := range append([]string{realm}, components...) {
		if part == "" {
			return errors.New("krb5: principal with an empty component")
		}
		if !utf8.ValidString(part) {
			return errors.New("krb5: principal is not UTF-8")
		}
		if hasControl(part) {
			return errors.New("krb5: principal with a control octet")
		}
		size += len(part) + 1
	}
	if size > maxPrincipal {
		return errors.New("krb5: principal longer than 255 octets")
	}
	if components[0] == "WELLKNOWN" || strings.HasPrefix(realm, "WELLKNOWN:") {
		return errors.New("krb5: well-known principal (anonymous)")
	}
	return nil
}

func hasControl(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) >= 0
}

func sameName(a, b []string) bool { return slices.Equal(a, b) }
