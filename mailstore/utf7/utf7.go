// Package utf7 writes and reads modified UTF-7, in which IMAP and Cyrus write
// mailbox names (RFC 3501 section 5.1.3).
package utf7

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrForm is a name that is not modified UTF-7, or not the one way to write it.
var ErrForm = errors.New("utf7: not modified UTF-7")

var alphabet = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// Encode writes a UTF-8 name.
func Encode(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		end := strings.IndexFunc(s, direct)
		switch {
		case end < 0:
			end = len(s)
			fallthrough
		case end > 0:
			b.WriteByte('&')
			b.WriteString(alphabet.EncodeToString(units(s[:end])))
			b.WriteByte('-')
		case s[0] == '&':
			b.WriteString("&-")
			end = 1
		default:
			b.WriteByte(s[0])
			end = 1
		}
		s = s[end:]
	}
	return b.String()
}

func direct(r rune) bool { return ' ' <= r && r <= '~' }

// units is s as UTF-16, the greater octet first.
func units(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return b
}

// Decode reads a name. Only what Encode writes is taken, so that one name has
// one form.
func Decode(s string) (string, error) {
	var b strings.Builder
	for rest := s; len(rest) > 0; {
		plain, after, found := strings.Cut(rest, "&")
		b.WriteString(plain)
		if !found {
			break
		}
		shifted, next, closed := strings.Cut(after, "-")
		if !closed {
			return "", fmt.Errorf("%w: %.64q", ErrForm, s)
		}
		if err := decode(&b, shifted); err != nil {
			return "", fmt.Errorf("%w: %.64q", ErrForm, s)
		}
		rest = next
	}
	if decoded := b.String(); utf8.ValidString(decoded) && Encode(decoded) == s {
		return decoded, nil
	}
	return "", fmt.Errorf("%w: %.64q", ErrForm, s)
}

func decode(b *strings.Builder, shifted string) error {
	if shifted == "" {
		b.WriteByte('&')
		return nil
	}
	octets, err := alphabet.DecodeString(shifted)
	if err != nil || len(octets)%2 != 0 {
		return ErrForm
	}
	all := make([]uint16, len(octets)/2)
	for i := range all {
		all[i] = uint16(octets[2*i])<<8 | uint16(octets[2*i+1])
	}
	b.WriteString(string(utf16.Decode(all)))
	return nil
}
