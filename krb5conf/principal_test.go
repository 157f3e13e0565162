package krb5conf_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/krb5conf"
)

// principalCases are texts and how libkrb5 prints them back; the oracle test
// asks it.
var principalCases = []struct {
	text, printed string
	parts         []string
}{
	{"alice@R.TEST", "alice@R.TEST", []string{"alice"}},
	{"alice", "alice@T.TEST", []string{"alice"}},
	{"alice/admin@R.TEST", "alice/admin@R.TEST", []string{"alice", "admin"}},
	{`a\/b@R`, `a\/b@R`, []string{"a/b"}},
	{`a\@b@R`, `a\@b@R`, []string{"a@b"}},
	{`a\\b@R`, `a\\b@R`, []string{`a\b`}},
	{`a\xb@R`, `axb@R`, []string{"axb"}},
	{`a\ b@R`, `a b@R`, []string{"a b"}},
	{`a@R\@S`, `a@R\@S`, []string{"a"}},
	{`a@R\/S`, `a@R\/S`, []string{"a"}},
	{"ü@R", "ü@R", []string{"ü"}},
}

func TestParsePrincipal(t *testing.T) {
	t.Parallel()
	for _, c := range principalCases {
		p, err := krb5conf.ParsePrincipal(c.text, "T.TEST")
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if p.String() != c.printed || cmp.Diff(c.parts, p.Components) != "" {
			t.Errorf("%s: %q is printed as %s, want %s", c.text, p.Components, p, c.printed)
		}
	}
}

func TestParsePrincipalRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "@R", "a@", "a//b@R", "/a@R", "a/@R", "a@R@S", "a@R/S", `a\`, "a\nb@R", "a\x7fb@R", "a\x00b@R",
		`a\nb@R`, `a\tb@R`, `a\bb@R`, `a\0b@R`, "a\xffb@R", "a\u0085b@R",
		strings.Repeat("a", 256) + "@R", strings.Repeat("a/", 20) + "a@R", strings.Repeat("a", 2000),
	} {
		if p, err := krb5conf.ParsePrincipal(text, "T.TEST"); !errors.Is(err, krb5conf.ErrPrincipal) {
			t.Errorf("%.40q gives %q, %v", text, p, err)
		}
	}
	if _, err := krb5conf.ParsePrincipal("alice", ""); !errors.Is(err, krb5conf.ErrPrincipal) {
		t.Errorf("no realm at all gives %v", err)
	}
}

func FuzzPrincipal(f *testing.F) {
	for _, c := range principalCases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := krb5conf.ParsePrincipal(text, "T.TEST")
		if err != nil {
			return
		}
		again, err := krb5conf.ParsePrincipal(p.String(), "")
		if err != nil || cmp.Diff(p, again) != "" {
			t.Errorf("%q is printed as %q, which is %q, %v", text, p, again, err)
		}
	})
}
