package ldapdir

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"pgregory.net/rapid"
)

const bothFilter = "(&(objectClass=account)(|(uid={user})(krbPrincipalName={principal}))(!(host={host}*)))"

// assertions gives the assertion values in bothFilter's places, or fails when
// the filter has another shape than the template's.
func assertions(t interface{ Fatalf(string, ...any) }, filter string) (user, principal, host string) {
	p, err := ldap.CompileFilter(filter)
	if err != nil {
		t.Fatalf("%q does not compile: %v", filter, err)
	}
	if p.Tag != ldap.FilterAnd || len(p.Children) != 3 || len(p.Children[1].Children) != 2 {
		t.Fatalf("%q has another shape", filter)
	}
	either, not := p.Children[1].Children, p.Children[2]
	for i, attribute := range []string{"uid", "krbPrincipalName"} {
		if either[i].Tag != ldap.FilterEqualityMatch || either[i].Children[0].Data.String() != attribute {
			t.Fatalf("%q compares something else", filter)
		}
	}
	// With an empty host nothing is before the asterisk: a test for presence.
	if inner := not.Children[0]; inner.Tag == ldap.FilterSubstrings && len(inner.Children[1].Children) == 1 {
		host = inner.Children[1].Children[0].Data.String()
	} else if inner.Tag != ldap.FilterPresent {
		t.Fatalf("%q has another substring", filter)
	}
	return either[0].Children[1].Data.String(), either[1].Children[1].Data.String(), host
}

func TestNoValueLeavesItsPlace(t *testing.T) {
	t.Parallel()
	tpl, err := parseTemplate(bothFilter)
	if err != nil {
		t.Fatal(err)
	}
	octets := rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
	nasty := rapid.Map(rapid.SliceOf(rapid.SampledFrom([]string{"*", "(", ")", "\\", "\x00", "|", "&", "!", "=", "{user}", "\\2a", "a", "ü", "\xff"})),
		func(s []string) string { return strings.Join(s, "") })
	value := rapid.OneOf(octets, nasty, rapid.String())
	rapid.Check(t, func(rt *rapid.T) {
		v := values{user: value.Draw(rt, "user"), principal: value.Draw(rt, "principal"), host: value.Draw(rt, "host")}
		user, principal, host := assertions(rt, tpl.render(v))
		if user != v.user || principal != v.principal || host != v.host {
			rt.Fatalf("%+v became %q, %q, %q", v, user, principal, host)
		}
	})
}

func FuzzFilter(f *testing.F) {
	tpl, err := parseTemplate(bothFilter)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("alice", "alice@REALM.TEST", "")
	f.Add("*)(uid=*", "\\2a\x00", "{user}")
	f.Fuzz(func(t *testing.T, user, principal, host string) {
		u, p, h := assertions(t, tpl.render(values{user: user, principal: principal, host: host}))
		if u != user || p != principal || h != host {
			t.Fatalf("%q, %q, %q became %q, %q, %q", user, principal, host, u, p, h)
		}
	})
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"(uid={user})":                 true,
		"(cn:caseExactMatch:={user})":  true,
		"(&(uid={user})(host={host}))": true,
		"(mail={user}@{realm})":        true,
		"(member={dn})":                true,
		"({user}=x)":                   false,
		"(cn:{user}:=x)":               false,
		"(&{user}(uid=x))":             false,
		"(uid={user}){host}":           false,
		"(uid={uid})":                  false,
		"(uid={user)":                  false,
		"(uid=user})":                  false,
		"(uid={user}":                  false,
		"uid={user}":                   false,
		"(uid=*)({user})":              false,
		"(&(uid=x){folder})":           false,
		"":                             false,
	} {
		if _, err := parseTemplate(text); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAnswerable(t *testing.T) {
	t.Parallel()
	user, principal := values{user: "u", host: "h"}, values{principal: "p"}
	for text, want := range map[string][2]bool{
		"(uid={user})":                     {true, false},
		"(krb={principal})":                {false, true},
		"(|(uid={user})(krb={principal}))": {true, true},
		"(&(objectClass=x)(host={host}))":  {true, true},
	} {
		tpl, err := parseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{tpl.answerable(user), tpl.answerable(principal)}; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
