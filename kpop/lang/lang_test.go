package lang_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/kpopd/kpopd/kpop/lang"
)

// longest is the most octets of a text: RFC 2449 section 4 gives a reply line
// 512, and some of them go to the status, a response code and the line end.
const longest = 400

func all(t *testing.T) []*lang.Language {
	t.Helper()
	list, err := lang.All()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestCatalogues: each language has each text, on one line that fits.
func TestCatalogues(t *testing.T) {
	t.Parallel()
	list := all(t)
	want := list[0].IDs()
	slices.Sort(want)
	for _, l := range list {
		ids := l.IDs()
		slices.Sort(ids)
		if !slices.Equal(ids, want) {
			t.Errorf("%s has %d texts, en %d: %q", l.Tag, len(ids), len(want), difference(ids, want))
		}
		for _, id := range ids {
			checkText(t, l, id)
		}
	}
}

func difference(a, b []string) []string {
	in := func(s []string) func(string) bool { return func(x string) bool { return slices.Contains(s, x) } }
	return append(slices.DeleteFunc(slices.Clone(a), in(b)), slices.DeleteFunc(slices.Clone(b), in(a))...)
}

func checkText(t *testing.T, l *lang.Language, id string) {
	t.Helper()
	text := l.Text(id)
	switch {
	case text == "" || strings.TrimSpace(text) != text:
		t.Errorf("%s: %q: empty, or with blanks around it: %q", l.Tag, id, text)
	case len(text) > longest:
		t.Errorf("%s: %q has %d octets", l.Tag, id, len(text))
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		t.Errorf("%s: %q: not UTF-8 or with control characters: %q", l.Tag, id, text)
	case text[0] == '[' || strings.ContainsRune(id, '%') || strings.ContainsRune(text, '%'):
		t.Errorf("%s: %q: looks like a response code or a format: %q", l.Tag, id, text)
	case l.Tag == "en" && text != id:
		t.Errorf("en: %q is said as %q", id, text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Bidi_Control, r) }) {
		t.Errorf("%s: %q: has marks of direction: %q", l.Tag, id, text)
	}
}

func TestLanguages(t *testing.T) {
	t.Parallel()
	var tags []string
	for _, l := range all(t) {
		tags = append(tags, l.Tag)
	}
	if want := []string{"en", "i-default", "ar", "de", "es", "fr", "ja", "ru", "zh"}; !slices.Equal(tags, want) {
		t.Errorf("%q", tags)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for wanted, tag := range map[string]string{
		"de": "de", "DE": "de", "de-CH": "de", "de-Latn-CH-1996": "de", "zh-Hans": "zh", "en-GB": "en", "fr_CA": "fr", "I-Default": "i-default",
		"mul": "", "it": "", "": "", "*": "", "-": "", "x": "", "de-": "", "ありがとう": "", strings.Repeat("a-", 200): "",
	} {
		l, err := lang.Match(wanted)
		switch {
		case err != nil:
			t.Errorf("%q: %v", wanted, err)
		case l == nil && tag != "" || l != nil && l.Tag != tag:
			t.Errorf("%q: %+v", wanted, l)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	l, err := lang.Match("es")
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Text("Language is changed"); got != "Idioma cambiado" {
		t.Errorf("%q", got)
	}
	if got := l.Text("nobody has translated this"); got != "nobody has translated this" {
		t.Errorf("%q", got)
	}
}
