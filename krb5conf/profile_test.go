package krb5conf_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/krb5conf"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func parse(t *testing.T, text string) *krb5conf.Profile {
	t.Helper()
	p, err := krb5conf.Parse("test.conf", text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// profileCases hold what libkrb5 makes of each text; the oracle test asks it.
var profileCases = []struct {
	name, text string
	want       map[string][]string
}{
	{"repeated key", "[a]\nb = 1\nb = 2\n", map[string][]string{"a/b": {"1", "2"}}},
	{"lines before the first section", "junk\n[a]\nb = 1\n", map[string][]string{"a/b": {"1"}}},
	{"two sections of one name", "[a]\nb = 1\n[c]\nd = 2\n[a]\nb = 3\n", map[string][]string{"a/b": {"1", "3"}, "c/d": {"2"}}},
	{"two blocks of one name", "[a]\nr = {\nk = h\n}\nr = {\nk = i\n}\n", map[string][]string{"a/r/k": {"h", "i"}}},
	{"brace on the next line", "[a]\nr =\n{\nk = h\n}\n", map[string][]string{"a/r/k": {"h"}, "a/r": nil}},
	{"text behind a closing brace", "[a]\nr = {\nk = h\n} x\nl = 1\n", map[string][]string{"a/r/k": {"h"}, "a/l": {"1"}}},
	{"block left open", "[a]\nr = {\nk = h\n", map[string][]string{"a/r/k": {"h"}}},
	{"nesting", "[a]\nr = {\ns = {\nk = h\n}\n}\n", map[string][]string{"a/r/s/k": {"h"}}},
	{"final marks in one file", "[a]*\nb* = 1\nb = 2\nr = {\nk = 1\n}*\nr = {\nk = 2\n}\n",
		map[string][]string{"a/b": {"1", "2"}, "a/r/k": {"1", "2"}}},
	{"quotes", "[a]\nb = \"x y\" z\nc = \"a\\tb\\\"q\\0\"\nd=\"un\n", map[string][]string{"a/b": {"x y"}, "a/c": {"a\tb\"q0"}, "a/d": {"un"}}},
	{"comments only at the start", "# c\n; c\n  # c\n[a]\n# c\nb = 1 # no ; comment\n", map[string][]string{"a/b": {"1 # no ; comment"}}},
	{"CR LF", "[a]\r\nb = 1\r\nr = {\r\n k = 2\r\n}\r\n", map[string][]string{"a/b": {"1"}, "a/r/k": {"2"}}},
	{"blanks and tabs", "[a]\n\tb\t=\t1 \t\n", map[string][]string{"a/b": {"1"}}},
	{"equals sign in a value", "[a]\nb = c = d\n", map[string][]string{"a/b": {"c = d"}}},
	{"names keep their case", "[a]\nB = 1\n", map[string][]string{"a/B": {"1"}, "a/b": nil}},
	{"rule with # and ;", "[realms]\nR = {\nauth_to_local = RULE:[2:$1;$2](^.*;pop$)s/;pop$//\n}\n",
		map[string][]string{"realms/R/auth_to_local": {"RULE:[2:$1;$2](^.*;pop$)s/;pop$//"}}},
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range profileCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := parse(t, c.text)
			for path, want := range c.want {
				if d := cmp.Diff(want, p.Values(strings.Split(path, "/")...)); d != "" {
					t.Errorf("%s: %s", path, d)
				}
			}
		})
	}
}

// faultCases stop libkrb5 too; the oracle test asks it.
var faultCases = []struct{ name, text, place string }{
	{"no equals sign", "[a]\nwhat\n", "test.conf:2"},
	{"two words for a name", "[a]\nb c = 1\n", "test.conf:2"},
	{"no name", "[a]\n= 1\n", "test.conf:2"},
	{"brace closed that was not opened", "[a]\n}\n", "test.conf:2"},
	{"section not closed", "[a\nb=1\n", "test.conf:1"},
	{"text behind a section", "[a] x\nb=1\n", "test.conf:1"},
	{"blank before a final mark", "[a] *\nb=1\n", "test.conf:1"},
	{"section in a block", "[a]\nr = {\n[b]\n}\n", "test.conf:3"},
	{"neither value nor brace", "[a]\nb =\nc = 1\n", "test.conf:3"},
	{"module", "module x:y\n[a]\nb = 1\n", "test.conf:1"},
	{"include that is not there", "[a]\ninclude /nonexistent/x\n", "test.conf:2"},
	{"includedir that is not there", "includedir /nonexistent.d\n[a]\n", "test.conf:1"},
	{"include by a relative path", "include x\n[a]\n", "test.conf:1"},
	{"includedir by a relative path", "includedir x\n[a]\n", "test.conf:1"},
}

func TestParseFault(t *testing.T) {
	t.Parallel()
	ours := []struct{ name, text, place string }{
		{"line too long", "[a]\nb = " + strings.Repeat("x", 1<<17), "test.conf:2"},
		{"nested too deep", "[a]\n" + strings.Repeat("b = {\n", 100), "test.conf:33"},
		{"NUL", "[a]\nb = \x00\n", "test.conf:2"},
	}
	for _, c := range append(ours, faultCases...) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := krb5conf.Parse("test.conf", c.text)
			if err == nil || !strings.Contains(err.Error(), c.place+":") {
				t.Errorf("error %v does not name %s", err, c.place)
			}
		})
	}
}

func TestInclude(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"ok", "ok.conf", "o-k_1", ".hidden.conf", "not.txt", "tilde~", "ok.conf.rpmsave", "UPPER"} {
		write(t, dir, name, "[i]\nv = "+name+"\n")
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	one := write(t, t.TempDir(), "one", "[i]\nw = inside\n")
	p := parse(t, "includedir "+dir+"\n[a]\nb = 1\ninclude "+one+"\nc = 2\n")
	for path, want := range map[string][]string{
		"i/v": {"UPPER", "o-k_1", "ok", "ok.conf"}, "i/w": {"inside"}, "a/b": {"1"}, "a/c": {"2"},
	} {
		if d := cmp.Diff(want, p.Values(strings.Split(path, "/")...)); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
	if len(p.Sources) != 6 {
		t.Errorf("sources are %q", p.Sources)
	}
}

func TestIncludeLoop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, dir, "a", "include "+b+"\n")
	write(t, dir, "b", strings.Repeat("include "+a+"\n", 20))
	if _, err := krb5conf.Load(a); err == nil || !strings.Contains(err.Error(), "includes itself") || !strings.Contains(err.Error(), b+":1") {
		t.Errorf("loop gives %v", err)
	}
	for i := range 30 {
		write(t, dir, fmt.Sprintf("deep%d", i), fmt.Sprintf("include %s/deep%d\n", dir, i+1))
	}
	if _, err := krb5conf.Load(filepath.Join(dir, "deep0")); err == nil || !strings.Contains(err.Error(), "inside each other") {
		t.Errorf("depth gives %v", err)
	}
	leaf := write(t, dir, "leaf", "[a]\n")
	wide := write(t, dir, "wide", strings.Repeat("include "+leaf+"\n", 1000))
	if _, err := krb5conf.Load(wide); err == nil || !strings.Contains(err.Error(), "more than 512 files") {
		t.Errorf("width gives %v", err)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one := write(t, dir, "one", "[a]\nb = 1\n[f]*\nx = 1\n")
	two := write(t, dir, "two", "[a]\nb = 2\nc = 3\n[f]\nx = 2\ny = 3\n")
	p, err := krb5conf.Load(filepath.Join(dir, "none"), one, two)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Value("", "a", "b") + p.Value("", "a", "c"); got != "13" {
		t.Errorf("the first value does not win: %s", got)
	}
	if got := fmt.Sprint(p.Values("a", "b"), p.Values("f", "x"), p.Values("f", "y"), p.Names("f")); got != "[1 2] [1] [] [x]" {
		t.Errorf("a final section is not final: %s", got)
	}
	if len(p.Warnings) == 0 || !strings.Contains(p.Warnings[0], "no such file") {
		t.Errorf("warnings are %q", p.Warnings)
	}
	if _, err := krb5conf.Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file at all gives %v", err)
	}
	if _, err := krb5conf.Load(dir, one); err == nil {
		t.Error("a directory was read as a file")
	}
	big := write(t, dir, "big", strings.Repeat("# comment\n", 1<<18))
	if _, err := krb5conf.Load(big); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file gives %v", err)
	}
}

func TestDefaultPaths(t *testing.T) {
	t.Setenv("KRB5_CONFIG", "/a::/b:")
	if got := fmt.Sprint(krb5conf.DefaultPaths()); got != "[/a /b]" {
		t.Errorf("list gives %s", got)
	}
	t.Setenv("KRB5_CONFIG", "")
	if got := fmt.Sprint(krb5conf.DefaultPaths()); got != "[/etc/krb5.conf]" {
		t.Errorf("default is %s", got)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	p := parse(t, `stray
[libdefaults]
	default_relm = R
	R = {
		ticket_lifetime = 1
	}
[realms]
	R = { kdc = h }
	S = {
		kdc = https://proxy/KdcProxy
		kcd = h
	}
	T = h
[oddity]
	x = 1
`)
	want := []string{
		"test.conf:1: \"stray\" stands before the first section and is passed over, as libkrb5 does",
		"test.conf:8: libkrb5 does not read a block that begins and ends in one line",
		"test.conf:3: unknown libdefaults relation default_relm",
		"test.conf:10: kdc https://proxy/KdcProxy cannot be asked; host, host:port, [v6]:port, tcp/host and udp/host can",
		"test.conf:11: unknown realm relation kcd",
		"test.conf:13: realm T has no block",
		"test.conf:14: unknown section oddity",
	}
	if d := cmp.Diff(want, p.Warnings); d != "" {
		t.Error(d)
	}
}

func FuzzProfile(f *testing.F) {
	for _, c := range profileCases {
		f.Add(c.text)
	}
	for _, c := range faultCases {
		if !strings.Contains(c.text, "include") {
			f.Add(c.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") {
			return // the fuzzer must not read the machine's files
		}
		p, err := krb5conf.Parse("fuzz", text)
		if err != nil {
			if !strings.Contains(err.Error(), "fuzz:") {
				t.Errorf("error without a place: %v", err)
			}
			return
		}
		c := p.Client()
		for _, r := range c.Realms {
			for _, kdc := range r.KDC {
				if !strings.Contains(kdc, ":") {
					t.Errorf("KDC %q has no port", kdc)
				}
			}
		}
	})
}
