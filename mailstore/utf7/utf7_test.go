package utf7_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kpopd/kpopd/mailstore/utf7"
)

func TestBothWays(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":                   "",
		"Work":               "Work",
		"a&b":                "a&-b",
		"&":                  "&-",
		"Entwürfe":           "Entw&APw-rfe",
		"~peter/mail/台北/日本語": "~peter/mail/&U,BTFw-/&ZeVnLIqe-", // RFC 3501 section 5.1.3
		"😀":                  "&2D3eAA-",
		"ü&ö":                "&APw-&-&APY-",
		"tab\there":          "tab&AAk-here",
	} {
		if got := utf7.Encode(name); got != want {
			t.Errorf("%q: %q, should be %q", name, got, want)
		}
		if got, err := utf7.Decode(want); got != name || err != nil {
			t.Errorf("%q: %q, %v", want, got, err)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"&", "a&", "&AGE-", "&U,BTFw-&ZeVnLIqe-", "&A-", "&AP!-", "&APx-", "&2D0-", "ü", "&APw=-", "\x00"} {
		if got, err := utf7.Decode(s); err == nil {
			t.Errorf("%q: %q", s, got)
		}
	}
}

func FuzzUTF7(f *testing.F) {
	for _, s := range []string{"Entw&APw-rfe", "&-", "a/b", "&2D3eAA-", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if decoded, err := utf7.Decode(s); err == nil && utf7.Encode(decoded) != s {
			t.Errorf("%q is %q, which is %q", s, decoded, utf7.Encode(decoded))
		}
		if !utf8.ValidString(s) {
			return
		}
		encoded := utf7.Encode(s)
		if strings.ContainsFunc(encoded, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q: %q", s, encoded)
		}
		if decoded, err := utf7.Decode(encoded); err != nil || decoded != s {
			t.Errorf("%q: %q, then %q, %v", s, encoded, decoded, err)
		}
	})
}
