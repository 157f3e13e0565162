package auth_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/auth"
)

func policy(mode auth.NameMode) auth.NamePolicy {
	return auth.NamePolicy{Mode: mode, Hosts: []string{"mail.example.test", "shop"}, Realms: []string{"REALM.TEST"}}
}

func TestLoginName(t *testing.T) {
	t.Parallel()
	john := auth.LoginName{User: "john"}
	host := auth.LoginName{User: "john", Host: "mail.example.test"}
	shop := auth.LoginName{User: "john", Host: "shop"}
	folder := auth.LoginName{User: "john", Folder: "lists"}
	principal := auth.LoginName{User: "john", Realm: "REALM.TEST"}
	none := auth.LoginName{} // refused
	tests := []struct {
		in                        string
		plain, sdps, folder, both auth.LoginName
	}{
		{"john", john, john, john, john},
		{"john@REALM.TEST", principal, principal, principal, principal},
		{"john@realm.test", none, none, none, none},
		{"john@mail.example.test", none, host, none, host},
		{"john@MAIL.Example.Test", none, host, none, host},
		{"john+mail.example.test", none, host, auth.LoginName{User: "john", Folder: "mail.example.test"}, host},
		{"john+shop", none, shop, auth.LoginName{User: "john", Folder: "shop"}, shop},
		{"john+lists", none, none, folder, folder},
		{"john+lists.go", none, none, auth.LoginName{User: "john", Folder: "lists.go"}, auth.LoginName{User: "john", Folder: "lists.go"}},
		{"john+lists@REALM.TEST", none, none, auth.LoginName{User: "john", Folder: "lists", Realm: "REALM.TEST"}, auth.LoginName{User: "john", Folder: "lists", Realm: "REALM.TEST"}},
		{"john+lists@shop", none, none, none, auth.LoginName{User: "john", Folder: "lists", Host: "shop"}},
		{"john+shop@shop", none, none, none, none},
		{"john+a+b", none, none, none, none},
		{"john@EVIL.TEST", none, none, none, none},
		{"john@", none, none, none, none},
		{"john+", none, none, none, none},
		{"@shop", none, none, none, none},
		{"+lists", none, none, none, none},
		{"john@shop@REALM.TEST", none, none, none, none},
		{"john/admin", none, none, none, none},
		{"john/admin@REALM.TEST", none, none, none, none},
		{"john\x00", none, none, none, none},
		{"john\x00@REALM.TEST", none, none, none, none},
		{"john\r\nDELE 1", none, none, none, none},
		{"jo hn", none, none, none, none},
		{"john\u202e", none, none, none, none},
		{"john\x80", none, none, none, none},
		{"..", none, none, none, none},
		{".john", none, none, none, none},
		{"john+../bob", none, none, none, none},
		{"john+..bob", none, none, none, none},
		{"john+ x", none, none, none, none},
		{"john+a/../b", none, none, none, none},
		{"john+/a", none, none, none, none},
		{"john+a/", none, none, none, none},
		{"john+a//b", none, none, none, none},
		{"john+a/.b", none, none, none, none},
		{"john+a/b ", none, none, none, none},
		{"john+a\\b", none, none, none, none},
		{"john+a/b c", none, none, auth.LoginName{User: "john", Folder: "a/b c"}, auth.LoginName{User: "john", Folder: "a/b c"}},
		{"john+&U,BTFw-", none, none, auth.LoginName{User: "john", Folder: "&U,BTFw-"}, auth.LoginName{User: "john", Folder: "&U,BTFw-"}},
		{"john+x.", none, none, none, none},
		{"jo*n", none, none, none, none},
		{"john)(uid=*", none, none, none, none},
		{`john\2a`, none, none, none, none},
		{"user^name", none, none, none, none},
		{"", none, none, none, none},
		{strings.Repeat("j", 256), none, none, none, none},
		{"j.doe-2_x$", auth.LoginName{User: "j.doe-2_x$"}, auth.LoginName{User: "j.doe-2_x$"}, auth.LoginName{User: "j.doe-2_x$"}, auth.LoginName{User: "j.doe-2_x$"}},
		{"jürgen", auth.LoginName{User: "jürgen"}, auth.LoginName{User: "jürgen"}, auth.LoginName{User: "jürgen"}, auth.LoginName{User: "jürgen"}},
	}
	for _, tt := range tests {
		want := map[auth.NameMode]auth.LoginName{
			"": tt.plain, auth.NamePlain: tt.plain, auth.NameSDPS: tt.sdps, auth.NameFolder: tt.folder, auth.NameBoth: tt.both,
		}
		for mode, w := range want {
			got, err := policy(mode).Parse(tt.in)
			if got != w || (err != nil) != (w == none) {
				t.Errorf("mode %q, Parse(%q) = %+v, %v, want %+v", mode, tt.in, got, err, w)
			}
			if err != nil && (!errors.Is(err, auth.ErrName) || !errors.Is(err, auth.ErrDenied)) {
				t.Errorf("mode %q, Parse(%q): %v is not an ErrName", mode, tt.in, err)
			}
		}
	}
}

func TestLoginNameAnyHost(t *testing.T) {
	t.Parallel()
	p := auth.NamePolicy{Mode: auth.NameSDPS, Hosts: []string{"*"}}
	for _, in := range []string{"john@any.test", "john+any.test"} {
		if n, err := p.Parse(in); err != nil || n.Host != "any.test" {
			t.Errorf("Parse(%q) = %+v, %v", in, n, err)
		}
	}
	p.Mode = auth.NameBoth // a folder must not turn into a host by "*"
	if n, err := p.Parse("john+any.test"); err != nil || n.Folder != "any.test" || n.Host != "" {
		t.Errorf("Parse in mode both = %+v, %v", n, err)
	}
	p = auth.NamePolicy{Mode: auth.NameFolder, Separator: '%'}
	if n, err := p.Parse("john%x"); err != nil || n.Folder != "x" {
		t.Errorf("Parse with separator %% = %+v, %v", n, err)
	}
}

func TestNamePolicyCheck(t *testing.T) {
	t.Parallel()
	for _, p := range []auth.NamePolicy{
		{Mode: "subfolders"},
		{Separator: '@'},
		{Separator: 'x'},
		{Separator: '.'},
		{Mode: auth.NameSDPS, Hosts: []string{"mail_host"}},
	} {
		if p.Check() == nil {
			t.Errorf("%+v passed", p)
		}
	}
	for _, p := range []auth.NamePolicy{{}, policy(auth.NameBoth)} {
		if err := p.Check(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestCheckMailbox(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"alice": true, "alice@example.test": true, "a.b": true,
		"../../etc/passwd": false, "/var/mail/alice": false, "alice\n": false, "alice+x": false,
		"user.alice/x": false, "alice@": false, "alice@../x": false, "": false, "al..ice": false,
	} {
		if err := auth.CheckMailbox(name); (err == nil) != ok {
			t.Errorf("CheckMailbox(%q) = %v", name, err)
		}
	}
}

func FuzzLoginName(f *testing.F) {
	for _, s := range []string{"john", "john@shop", "john+shop", "john+lists@REALM.TEST", "j\x00", "../x", "ü@REALM.TEST", "a+b+c"} {
		f.Add(s, byte(0))
		f.Add(s, byte('-'))
	}
	f.Fuzz(func(t *testing.T, s string, separator byte) {
		for _, mode := range []auth.NameMode{auth.NamePlain, auth.NameSDPS, auth.NameFolder, auth.NameBoth} {
			p := policy(mode)
			p.Separator = separator
			if p.Check() != nil {
				continue
			}
			n, err := p.Parse(s)
			if err != nil {
				if n != (auth.LoginName{}) && n.User != "" {
					t.Fatalf("a refused name gave user %q", n.User)
				}
				continue
			}
			if strings.ContainsAny(n.User+n.Host+n.Realm, "/") || n.User == "" {
				t.Fatalf("Parse(%q) = %+v", s, n)
			}
			// A folder has levels, and none that could lead elsewhere.
			if strings.Contains("/"+n.Folder+"/", "//") != (n.Folder == "") || strings.Contains(n.Folder, "..") {
				t.Fatalf("Parse(%q) = %+v", s, n)
			}
			if strings.ContainsAny(n.User+n.Folder+n.Host+n.Realm, "\x00\r\n\\*@()") {
				t.Fatalf("Parse(%q) = %+v", s, n)
			}
			if n.Principal() != "" && n.Realm != "REALM.TEST" {
				t.Fatalf("Parse(%q) made up realm %q", s, n.Realm)
			}
		}
	})
}

func TestStrip(t *testing.T) {
	t.Parallel()
	check := func(_ context.Context, _ auth.Peer, user, _ string) (*auth.Identity, error) {
		return &auth.Identity{Authcid: user}, nil
	}
	strip := policy(auth.NameBoth).Strip(check)
	id, err := strip(t.Context(), auth.Peer{}, "john+lists", "x")
	if err != nil || id.Authcid != "john" || id.Authzid != "john+lists" {
		t.Errorf("john+lists: %+v, %v", id, err)
	}
	if _, err := strip(t.Context(), auth.Peer{}, "john/admin", "x"); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("john/admin: %v", err)
	}
}
