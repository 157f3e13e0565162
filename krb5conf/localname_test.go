package krb5conf_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/krb5conf"
)

// realmBlock is a configuration whose default realm T.TEST holds lines.
func realmBlock(lines string) string {
	return "[libdefaults]\ndefault_realm = T.TEST\ndns_lookup_kdc = false\n[realms]\nT.TEST = {\n" + lines + "\n}\n"
}

func localNames(t *testing.T, lines string, o krb5conf.LocalNameOptions) *krb5conf.LocalNames {
	t.Helper()
	l, err := krb5conf.NewLocalNames(parse(t, realmBlock(lines)), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The principals that every rule set is asked about, here and by the oracle.
const rulePrincipals = `alice@T.TEST alice/admin@T.TEST alice/pop@T.TEST alice@O.TEST Alice@T.TEST host/pop.test@T.TEST
	a\/b@T.TEST alice\@x@T.TEST alice@OXTEST alice@O.TEST.EVIL xalice@O.TEST alice/pop@O.TEST alice/T.TEST@T.TEST
	aaa@T.TEST a/b/c@T.TEST a.l\\b@T.TEST`

// ruleCases are auth_to_local settings and what libkrb5 1.20.1 gives for
// rulePrincipals in their order: a name, or "-" for none. The oracle test asks
// it again.
var ruleCases = []struct{ name, lines, want string }{
	{"none", "", "alice - - - Alice - a/b alice@x - - - - alice aaa - a.l\\b"},
	{"foreign realm, then default", `auth_to_local = RULE:[1:$1@$0](^.*@O\.TEST$)s/@.*//
		auth_to_local = DEFAULT`, "alice - - alice Alice - a/b alice@x - - xalice - alice aaa - a.l\\b"},
	{"dots in brackets", `auth_to_local = RULE:[1:$1@$0](^.*@O[.]TEST$)s/[.=]TEST$/[=]/s/@O[[][=]]$//`, "- - - alice - - - - - - xalice - - - - -"},
	{"at most three", `auth_to_local = RULE:[1:$1](a{,3})`, "- - - - - - - - - - - - - aaa - -"},
	{"unanchored pattern matches the whole", `auth_to_local = RULE:[1:$1@$0](.*@O.TEST)s/@.*//`,
		"- - - alice - - - - alice - xalice - - - - -"},
	{"semicolon", `auth_to_local = RULE:[2:$1;$2](^.*;pop$)s/;pop$//`, "- - alice - - - - - - - - alice - - - -"},
	{"no pattern", `auth_to_local = RULE:[1:$1]`, "alice - - alice Alice - a/b alice@x alice alice xalice - - aaa - a.l\\b"},
	{"no selection", `auth_to_local = RULE:s/@.*//`,
		`alice alice/admin alice/pop alice Alice host/pop.test a\/b alice alice alice xalice alice/pop alice/T.TEST aaa a/b/c a.l\\b`},
	{"empty rule", `auth_to_local = RULE:`,
		`alice alice/admin alice/pop alice Alice host/pop.test a\/b alice@x alice alice xalice alice/pop alice/T.TEST aaa a/b/c a.l\\b`},
	{"global and chain", `auth_to_local = RULE:[1:$1]s/i/I/gs/a/b/s/b/c/`,
		"clIce - - clIce AlIce - c/b clIce@x clIce clIce xclIce - - caa - c.l\\b"},
	{"blanks between substitutions", `auth_to_local = RULE:[1:$1]s/a/b/ s/b/c/`,
		"clice - - clice Alice - c/b clice@x clice clice xclice - - caa - c.l\\b"},
	{"caret with g matches anew", `auth_to_local = RULE:[1:$1]s/^a//g`,
		"lice - - lice Alice - /b lice@x lice lice xalice - - = - .l\\b"},
	{"result empty", `auth_to_local = RULE:[1:$1](alice)s/alice//`, "= - - = - - - - = = - - - - - -"},
	{"empty match without g", `auth_to_local = RULE:[1:$1]s/x*/y/`,
		"yalice - - yalice yAlice - ya/b yalice@x yalice yalice yalice - - yaaa - ya.l\\b"},
	{"replacement is literal", `auth_to_local = RULE:[1:$1](alice)s/a/\1&/`, `\1&lice - - \1&lice - - - - \1&lice \1&lice - - - - - -`},
	{"realm in the middle", `auth_to_local = RULE:[2:$2.$0.$1]`,
		"- admin.T.TEST.alice pop.T.TEST.alice - - pop.test.T.TEST.host - - - - - pop.O.TEST.alice T.TEST.T.TEST.alice - - -"},
	{"dollar without digits is the realm", `auth_to_local = RULE:[1:$realm](T.*)`,
		"T.TESTrealm - - - T.TESTrealm - T.TESTrealm T.TESTrealm - - - - - T.TESTrealm - T.TESTrealm"},
	{"numbers as strtol reads them", `auth_to_local = RULE:[ +01:$01$-1x](aliceT.*)`, "aliceT.TESTx - - - - - - - - - - - - - - -"},
	{"three components", `auth_to_local = RULE:[3:$3$2$1]`, "- - - - - - - - - - - - - - cba -"},
	{"none at all", `auth_to_local = RULE:[0:x]`, "- - - - - - - - - - - - - - - -"},
	{"alternatives take the longest", `auth_to_local = RULE:[1:$1](al|alice|a*)`, "alice - - alice - - - - alice alice - - - aaa - -"},
	{"empty pattern", `auth_to_local = RULE:[1:$1]()`, "- - - - - - - - - - - - - - - -"},
	{"blank behind the pattern", `auth_to_local = RULE:[1:$1](alice) `, "alice - - alice - - - - alice alice - - - - - -"},
	{"backslash in a bracket is a member", `auth_to_local = RULE:[1:$1](a.*)s/[^\.l]/X/g`,
		`XlXXX - - XlXXX - - XXX XlXXXXX XlXXX XlXXX - - - XXX - X.l\X`},
	{"bracket of a bracket", `auth_to_local = RULE:[1:$1](a[]a]*)`, "- - - - - - - - - - - - - aaa - -"},
	{"classes", `auth_to_local = RULE:[1:$1]([[:upper:]][[:alpha:]]*)`, "- - - - Alice - - - - - - - - - - -"},
	{"GNU classes", `auth_to_local = RULE:[1:$1](\w*)`, "alice - - alice Alice - - - alice alice xalice - - aaa - -"},
	{"repetition", `auth_to_local = RULE:[1:$1](a{3})`, "- - - - - - - - - - - - - aaa - -"},
	{"names", `auth_to_local_names = {
		alice = al
		alice/admin = root
		a\/b = ab
		}`, "al root - al Alice - ab alice@x al al - - alice aaa - a.l\\b"},
	{"last of several names", `auth_to_local_names = {
		alice = x
		}
		auth_to_local_names = {
		alice = y
		}`, "y - - y Alice - a/b alice@x y y - - alice aaa - a.l\\b"},
	{"names before rules", `auth_to_local = RULE:[1:z$1](.*)
		auth_to_local_names = {
		alice = al
		}`, "al - - al zAlice - za/b zalice@x al al zxalice - - zaaa - za.l\\b"},
	{"first rule wins", `auth_to_local = RULE:[2:$1](alice)
		auth_to_local = RULE:[1:x$1](x[Aa]lice)
		auth_to_local = DEFAULT`, "xalice alice alice xalice xAlice - a/b alice@x xalice xalice - alice alice aaa - a.l\\b"},
	{"default first", `auth_to_local = DEFAULT
		auth_to_local = RULE:[1:f-$1]`, "alice - - f-alice Alice - a/b alice@x f-alice f-alice f-xalice - alice aaa - a.l\\b"},
	{"default with a residue", `auth_to_local = DEFAULT:x`, "alice - - - Alice - a/b alice@x - - - - alice aaa - a.l\\b"},
	{"instances to users", `auth_to_local = RULE:[2:$1](.*)s/$/-x/`,
		"- alice-x alice-x - - host-x - - - - - alice-x alice-x - - -"},
}

// refused are results that safeName refuses though libkrb5 gives them; "=" is
// the empty one.
func refused(name string) bool {
	return name == "=" || strings.ContainsAny(name, "/@") || strings.HasPrefix(name, ".")
}

func TestMap(t *testing.T) {
	t.Parallel()
	everyone := krb5conf.LocalNameOptions{NamesForeign: true, TrustedRealms: []string{"O.TEST", "OXTEST", "O.TEST.EVIL"}}
	for _, c := range ruleCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := localNames(t, c.lines, everyone)
			want := strings.Fields(c.want)
			for i, principal := range strings.Fields(rulePrincipals) {
				name, err := l.Map(principal)
				switch w := want[i]; {
				case w == "-" && !errors.Is(err, krb5conf.ErrNoMapping),
					w != "-" && refused(w) && !errors.Is(err, krb5conf.ErrUnsafe),
					w != "-" && !refused(w) && (err != nil || name != w):
					t.Errorf("%s: got %q, %v; want %s", principal, name, err, w)
				}
			}
		})
	}
}

func TestMalformedRule(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{
		"RULE", "default", "NONE", "DB:/x", "AUTO", "RULE:[1:$1", "RULE:[1$1]", "RULE:[x:$1]", "RULE:[-1:$1]", "RULE:[1:$2]", "RULE:[99999999999999999999:x]",
		"RULE:[1:$1](a", "RULE:[1:$1]((a|b)c)", "RULE:[1:$1](a)(b)", "RULE:[1:$1](*a)", "RULE:[1:$1] (a)", "RULE:[1:$1]([a)", `RULE:[1:$1](a\)`,
		`RULE:[1:$1](\bx)`, `RULE:[1:$1](a\1)`, "RULE:[1:$1]([[.a.]])", "RULE:[1:$1]s/a/b", "RULE:[1:$1]s/a", "RULE:[1:$1]s|a|b|", "RULE:[1:$1]s/a/b/x",
		"RULE:[1:$1]s/(/b/", "RULE:[1:$1]s/x*/y/g", "RULE:[1:$1]s/^/y/g", "RULE:[1:$1]x", `"RULE:[1:$1\n]"`,
	} {
		_, err := krb5conf.NewLocalNames(parse(t, realmBlock("auth_to_local = "+rule)), krb5conf.LocalNameOptions{})
		if err == nil || !strings.Contains(err.Error(), "test.conf:6: ") {
			t.Errorf("%s gives %v", rule, err)
		}
	}
	if _, err := krb5conf.NewLocalNames(parse(t, "[libdefaults]\n"), krb5conf.LocalNameOptions{}); err == nil {
		t.Error("no default realm is taken")
	}
}

func TestSafety(t *testing.T) {
	t.Parallel()
	all := "auth_to_local = RULE:[1:$1]\nauth_to_local_names = {\nbob = robert\n}"
	for _, c := range []struct {
		name, lines, principal string
		options                krb5conf.LocalNameOptions
		want                   error
	}{
		{"foreign realm comes before any rule", all, "alice@O.TEST", krb5conf.LocalNameOptions{}, krb5conf.ErrUntrusted},
		{"realms differ in case", all, "alice@t.test", krb5conf.LocalNameOptions{}, krb5conf.ErrUntrusted},
		{"realm that ends like ours", all, "alice@EVIL.T.TEST", krb5conf.LocalNameOptions{}, krb5conf.ErrUntrusted},
		{"names only for our realm", "auth_to_local = DEFAULT\nauth_to_local_names = {\nbob = robert\n}", "bob@O.TEST",
			krb5conf.LocalNameOptions{TrustedRealms: []string{"O.TEST"}}, krb5conf.ErrNoMapping},
		{"slash", all, `a\/b@T.TEST`, krb5conf.LocalNameOptions{}, krb5conf.ErrUnsafe},
		{"at sign", all, `a\@b@T.TEST`, krb5conf.LocalNameOptions{}, krb5conf.ErrUnsafe},
		{"leading dot", all, ".a@T.TEST", krb5conf.LocalNameOptions{}, krb5conf.ErrUnsafe},
		{"two dots", all, "a..b@T.TEST", krb5conf.LocalNameOptions{}, krb5conf.ErrUnsafe},
		{"too long", "auth_to_local = RULE:[1:$1$1]", strings.Repeat("a", 200) + "@T.TEST", krb5conf.LocalNameOptions{}, krb5conf.ErrUnsafe},
		{"empty", "auth_to_local = RULE:[1:$1]s/.*//", "a@T.TEST", krb5conf.LocalNameOptions{}, krb5conf.ErrUnsafe},
		{"refused result tries no other rule", "auth_to_local = RULE:[1:.$1]\nauth_to_local = DEFAULT", "a@T.TEST", krb5conf.LocalNameOptions{}, krb5conf.ErrUnsafe},
		{"NUL", all, `a\0b@T.TEST`, krb5conf.LocalNameOptions{}, krb5conf.ErrPrincipal},
		{"control octet", all, "a\x01b@T.TEST", krb5conf.LocalNameOptions{}, krb5conf.ErrPrincipal},
	} {
		name, err := localNames(t, c.lines, c.options).Map(c.principal)
		if !errors.Is(err, c.want) || name != "" {
			t.Errorf("%s: got %q, %v", c.name, name, err)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	l := localNames(t, "auth_to_local = RULE:[2:$1](alice)\nauth_to_local = DEFAULT\nauth_to_local_names = {\nbob = rob\n}", krb5conf.LocalNameOptions{})
	for principal, want := range map[string]string{
		"alice@T.TEST":   "alice <nil> [{RULE:[2:$1](alice) } {DEFAULT alice}]",
		"alice/x@T.TEST": "alice <nil> [{RULE:[2:$1](alice) alice}]",
		"bob@T.TEST":     "rob <nil> [{auth_to_local_names bob rob}]",
		"a@O.TEST":       ` krb5conf: realm is not trusted [{realm "O.TEST" is not one of ["T.TEST"] }]`,
	} {
		name, steps, err := l.Explain(principal)
		if d := cmp.Diff(want, fmt.Sprint(name, " ", err, " ", steps)); d != "" {
			t.Errorf("%s: %s", principal, d)
		}
		if again, errAgain := l.Map(principal); again != name || !errors.Is(errAgain, err) && err != nil {
			t.Errorf("%s: Map gives %s, %v", principal, again, errAgain)
		}
	}
}

func FuzzLocalName(f *testing.F) {
	for _, c := range ruleCases {
		for line := range strings.Lines(c.lines) {
			if _, rule, ok := strings.Cut(strings.TrimSpace(line), "auth_to_local = "); ok {
				f.Add(rule, "alice/admin@T.TEST")
				f.Add(rule, "alice@O.TEST")
			}
		}
	}
	f.Fuzz(func(t *testing.T, rule, principal string) {
		if strings.ContainsAny(rule, "\n\r") {
			return
		}
		p, err := krb5conf.Parse("fuzz", realmBlock("auth_to_local = "+rule))
		if err != nil {
			return
		}
		l, err := krb5conf.NewLocalNames(p, krb5conf.LocalNameOptions{TrustedRealms: []string{"O.TEST"}})
		if err != nil {
			return
		}
		name, err := l.Map(principal)
		if (err == nil) != (name != "") {
			t.Errorf("%q is mapped to %q, %v", principal, name, err)
		}
		if strings.ContainsAny(name, "/@\x00\n") || strings.HasPrefix(name, ".") || strings.Contains(name, "..") || len(name) > 255 {
			t.Errorf("%q is mapped to %q", principal, name)
		}
	})
}
