//go:build integration

package ldapdir_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/authtest"
	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/ldapdir/ldaptest"
	"github.com/kpopd/kpopd/auth/rules"
)

// slapd starts a server of the test's own.
func slapd(t *testing.T, o ldaptest.Options) *ldaptest.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "slapd") // a socket's name must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := ldaptest.Start(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func users(t *testing.T, s *ldaptest.Server) {
	t.Helper()
	err := s.Add(
		ldaptest.User{Name: "alice", Mailbox: "alice", More: map[string][]string{
			"krbPrincipalName": {"alice@REALM.TEST"}, "kpopAlias": {"alice.liddell"}, "kpopSecret": {"sesame"}, "kpopRetention": {"30"},
			"kpopUIDStyle": {"dovecot"}, "mailHost": {"mail.test"}, "mailLocalAddress": {"alice@mail.test"}, "userPassword": {"wonder"},
		}},
		ldaptest.User{Name: "bob", Mailbox: "robert", More: map[string][]string{"krbPrincipalName": {"bob@REALM.TEST"}, "kpopProtocol": {"KPOP"}}},
		ldaptest.User{Name: "carol", Mailbox: "carol", More: map[string][]string{"krbPrincipalName": {"carol@REALM.TEST"}, "kpopLocked": {"20260101000000Z"}}},
		ldaptest.User{Name: "dave", More: map[string][]string{"krbPrincipalName": {"dave@REALM.TEST"}}},
		ldaptest.User{Name: "erin", Mailbox: "../../etc", More: map[string][]string{"krbPrincipalName": {"erin@REALM.TEST"}}},
		ldaptest.User{Name: "twin1", Mailbox: "twin1", More: map[string][]string{"krbPrincipalName": {"twin@REALM.TEST"}}},
		ldaptest.User{Name: "twin2", Mailbox: "twin2", More: map[string][]string{"krbPrincipalName": {"twin@REALM.TEST"}}},
		ldaptest.User{Name: "helpdesk", Mailbox: "helpdesk", More: map[string][]string{
			"krbPrincipalName": {"helpdesk@REALM.TEST"}, "kpopActsFor": {"alice", ldaptest.UserDN("bob")},
		}},
		ldaptest.User{Name: "alice.shop", Mailbox: "alice.shop", More: map[string][]string{"kpopHost": {"shop.test"}, "kpopAlias": {"alice"}}},
	)
	if err == nil {
		err = s.AddGroup("mail", "alice", "bob", "carol", "dave", "erin")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func real(uris ...string) ldapdir.Options {
	o := options(uris...)
	o.Search = ldapdir.Search{
		Base: ldaptest.Base, Filter: "(&(objectClass=inetOrgPerson)(uid={user}))", PrincipalFilter: "(krbPrincipalName={principal})",
		HostFilter: "(|(&(kpopHost={host})(kpopAlias={user}))(&(mailHost={host})(uid={user})))",
	}
	o.Attributes = ldapdir.Attributes{
		User: "uid", Mailbox: "kpopMailbox", Aliases: "kpopAlias", Locked: "kpopLocked", Home: "mailHost", LocalHome: "mail.test",
		Protocols: "kpopProtocol", ActsFor: "kpopActsFor", UIDStyle: "kpopUIDStyle", Retention: "kpopRetention", Secret: "kpopSecret",
	}
	return o
}

func ruled(d *ldapdir.Directory) *rules.Rules {
	return &rules.Rules{
		Names:  auth.NamePolicy{Mode: auth.NameBoth, Hosts: []string{"shop.test", "mail.test"}, Realms: []string{"REALM.TEST"}},
		Realms: rules.Realms{Default: "REALM.TEST"}, Source: d, Log: slog.New(slog.DiscardHandler),
	}
}

func TestSlapdDecisions(t *testing.T) {
	t.Parallel()
	s := slapd(t, ldaptest.Options{})
	users(t, s)
	r := ruled(open(t, real(s.URI)))
	for _, tt := range []struct{ principal, authzid, mechanism, want string }{
		{"alice", "", "GSSAPI", "alice"},
		{"alice", "alice", "GSSAPI", "alice"},
		{"alice", "alice.liddell", "GSSAPI", "alice"},
		{"alice", "alice+lists", "GSSAPI", "alice+lists"},
		{"alice", "alice@shop.test", "GSSAPI", "alice.shop"},
		{"alice", "alice@mail.test", "GSSAPI", "alice"},
		{"bob", "", "KPOP", "robert"},
		{"bob", "", "GSSAPI", "protocol"},
		{"bob", "alice", "KPOP", "not-authorized"},
		{"carol", "", "GSSAPI", "locked"},
		{"dave", "", "GSSAPI", "no-mailbox"},
		{"erin", "", "GSSAPI", "no-mailbox"},
		{"twin", "", "GSSAPI", "many-entries"},
		{"nobody", "", "GSSAPI", "unmapped"},
		{"ALICE", "", "GSSAPI", "unmapped"},
		{"*", "", "GSSAPI", "unmapped"},
		{"alice)(uid=*", "", "GSSAPI", "unmapped"},
		{"helpdesk", "alice", "GSSAPI", "as alice"},
		{"helpdesk", "bob", "KPOP", "as robert"},
		{"helpdesk", "carol", "GSSAPI", "not-authorized"},
	} {
		id := auth.Identity{Mechanism: tt.mechanism, Authcid: tt.principal + "@REALM.TEST", Realm: "REALM.TEST", Authzid: tt.authzid}
		account, err := r.Lookup(t.Context(), id)
		got := outcome(rules.Entry{Mailbox: account.Mailbox}, err)
		if account.Acting {
			got = "as " + got
		}
		if got != tt.want || (err != nil && !errors.Is(err, auth.ErrDenied)) {
			t.Errorf("%s asks for %q by %s: %s, want %s (%v)", tt.principal, tt.authzid, tt.mechanism, got, tt.want, err)
		}
	}
	steps, _, err := r.Why(t.Context(), auth.Identity{Mechanism: "GSSAPI", Authcid: "alice@REALM.TEST", Realm: "REALM.TEST"})
	all := fmt.Sprint(steps)
	for _, want := range []string{"(krbPrincipalName=alice@REALM.TEST)", "uid=alice,ou=people," + ldaptest.Base, "kpopMailbox", `allowed: mailbox "alice"`} {
		if err != nil || !strings.Contains(all, want) {
			t.Errorf("no %s in %s, %v", want, all, err)
		}
	}
	if strings.Contains(all, "sesame") {
		t.Error("the trace shows the secret")
	}
	authtest.Directory(t, r, auth.Identity{Mechanism: "GSSAPI", Authcid: "alice@REALM.TEST", Realm: "REALM.TEST"})
}

// TestSlapdSpelling: slapd does not tell names apart by case or by the width of their
// letters, and the KDC does: ALICE may be somebody else.
func TestSlapdSpelling(t *testing.T) {
	t.Parallel()
	s := slapd(t, ldaptest.Options{})
	users(t, s)
	r := ruled(open(t, real(s.URI)))
	r.Local.Map = func(principal string) (string, error) { return strings.TrimSuffix(principal, "@REALM.TEST"), nil }
	for name, want := range map[string][2]string{ // told apart, and not
		"helpdesk": {"helpdesk", "helpdesk"}, "HELPDESK": {"no-entry", "helpdesk"}, "Helpdesk": {"no-entry", "helpdesk"},
		"\uff48elpdesk": {"no-entry", "helpdesk"}, "nobody": {"no-entry", "no-entry"},
	} {
		for i, fold := range []bool{false, true} {
			r.FoldCase = fold
			account, err := r.Lookup(t.Context(), auth.Identity{Mechanism: "GSSAPI", Authcid: name + "@REALM.TEST", Realm: "REALM.TEST"})
			if got := outcome(rules.Entry{Mailbox: account.Mailbox}, err); got != want[i] {
				t.Errorf("%s, fold_case %t: %s, want %s (%v)", name, fold, got, want[i], err)
			}
		}
	}
}

func TestSlapdGroups(t *testing.T) {
	t.Parallel()
	s := slapd(t, ldaptest.Options{})
	users(t, s)
	dn := "cn=mail,ou=groups," + ldaptest.Base
	for _, g := range []ldapdir.Group{{DN: "CN=Mail, ou=groups," + ldaptest.Base}, {Filter: "(&(cn=mail)(member={dn}))", Base: "ou=groups," + ldaptest.Base},
		{Filter: "(&(uid={user})(memberOf=cn=mail,ou=groups," + ldaptest.Base + "))"}} {
		o := real(s.URI)
		o.Group = g
		d := open(t, o)
		if in, out := find(t, d, "alice"), find(t, d, "helpdesk"); in != "alice" || out != "outside" {
			t.Errorf("%s by %+v: %s, %s", dn, g, in, out)
		}
		for principal, outside := range map[string]bool{"alice@REALM.TEST": false, "helpdesk@REALM.TEST": true} {
			e, err := d.Find(t.Context(), rules.Query{Principal: principal, Realm: "REALM.TEST"}, nil)
			if err != nil || e.Outside != outside {
				t.Errorf("%s by %+v: outside %t, %v", principal, g, e.Outside, err)
			}
		}
	}
}

func TestSlapdBinds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, certificate, key, err := ldaptest.MakeCertificate(dir, "127.0.0.1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	s := slapd(t, ldaptest.Options{Certificate: certificate, Key: key, CA: ca, OnlyUsers: true})
	users(t, s)
	roots := pool(t, ca)
	password := file(t, "wonder\n", 0o600)
	simple := ldapdir.Simple(ldaptest.UserDN("alice"), password)
	for name, c := range map[string]struct {
		connect ldapdir.Connect
		want    string
	}{
		"simple":               {ldapdir.Connect{Servers: []string{s.URI}, Bind: simple}, "alice"},
		"simple, StartTLS":     {ldapdir.Connect{Servers: []string{s.URI}, StartTLS: true, RootCAs: roots, Bind: simple}, "alice"},
		"simple, ldaps":        {ldapdir.Connect{Servers: []string{s.TLSURI}, RootCAs: roots, Bind: simple}, "alice"},
		"external, ldapi":      {ldapdir.Connect{Servers: []string{s.LocalURI}, Bind: ldapdir.External()}, "alice"},
		"anonymous":            {ldapdir.Connect{Servers: []string{s.URI}}, "permanent"},
		"external over tcp":    {ldapdir.Connect{Servers: []string{s.URI}, Bind: ldapdir.External()}, "temporary"},
		"wrong password":       {ldapdir.Connect{Servers: []string{s.URI}, Bind: ldapdir.Simple(ldaptest.UserDN("alice"), file(t, "x", 0o600))}, "temporary"},
		"empty password":       {ldapdir.Connect{Servers: []string{s.URI}, Bind: ldapdir.Simple(ldaptest.UserDN("alice"), file(t, "\n", 0o600))}, "temporary"},
		"readable password":    {ldapdir.Connect{Servers: []string{s.URI}, Bind: ldapdir.Simple(ldaptest.UserDN("alice"), file(t, "wonder\n", 0o644))}, "temporary"},
		"unknown CA":           {ldapdir.Connect{Servers: []string{s.TLSURI}, RootCAs: x509.NewCertPool(), Bind: simple}, "temporary"},
		"unknown CA, StartTLS": {ldapdir.Connect{Servers: []string{s.URI}, StartTLS: true, RootCAs: x509.NewCertPool(), Bind: simple}, "temporary"},
	} {
		o := real()
		o.Connect = c.connect
		d := open(t, o)
		_, err := d.Find(t.Context(), rules.Query{User: "alice"}, nil)
		if got := find(t, d, "alice"); got != c.want {
			t.Errorf("%s: %s, want %s (%v)", name, got, c.want, err)
		}
		if err != nil && strings.Contains(err.Error(), "wonder") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
		if c.want == "alice" {
			if secret, err := d.Secret(t.Context(), "alice"); secret != "sesame" {
				t.Errorf("%s: secret %q, %v", name, secret, err)
			}
			if p := d.Ping(t.Context()); p[0].Err != nil {
				t.Errorf("%s: ping: %v", name, p[0].Err)
			}
		}
	}
}

func TestSlapdWrongName(t *testing.T) {
	t.Parallel()
	ca, certificate, key, err := ldaptest.MakeCertificate(t.TempDir(), "ldap.other.test")
	if err != nil {
		t.Fatal(err)
	}
	s := slapd(t, ldaptest.Options{Certificate: certificate, Key: key, CA: ca})
	users(t, s)
	for _, uri := range []string{s.URI, s.TLSURI} {
		o := real(uri)
		o.Connect.StartTLS, o.Connect.RootCAs = true, pool(t, ca)
		if got := find(t, open(t, o), "alice"); got != "temporary" {
			t.Errorf("%s with a certificate for another: %s", uri, got)
		}
	}
	plain := slapd(t, ldaptest.Options{})
	o := real(plain.URI)
	o.Connect.StartTLS = true
	if got := find(t, open(t, o), "alice"); got != "temporary" {
		t.Errorf("a server without StartTLS: %s", got)
	}
}

func TestSlapdFailover(t *testing.T) {
	t.Parallel()
	first, second := slapd(t, ldaptest.Options{}), slapd(t, ldaptest.Options{})
	users(t, first)
	users(t, second)
	if err := second.Set("alice", "kpopMailbox", "second"); err != nil {
		t.Fatal(err)
	}
	o := real("ldaps://"+blackHole(t), first.URI, second.URI)
	o.Limits.Connect = 2 * time.Second // the black hole's
	d := open(t, o)
	becomes(t, d, "alice", "second")
	first.Kill()
	becomes(t, d, "second", "alice")
	second.Kill()
	if got := find(t, d, "alice") + " " + find(t, d, "bob"); got != "second temporary" {
		t.Errorf("both are killed: %s", got)
	}
	if err := first.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	becomes(t, d, "alice", "second") // the breaker lets one try after a second or two
}

// A server that takes connections and answers nothing is left for the next, and
// without a next it is no "no".
func TestSlapdStopped(t *testing.T) {
	t.Parallel()
	first, second := slapd(t, ldaptest.Options{}), slapd(t, ldaptest.Options{})
	users(t, first)
	users(t, second)
	if err := second.Set("alice", "kpopMailbox", "second"); err != nil {
		t.Fatal(err)
	}
	limits := ldapdir.Limits{Connect: 5 * time.Second, Operation: time.Second, Lookup: time.Minute, HeadStart: 50 * time.Millisecond}
	both, alone := real(first.URI, second.URI), real(first.URI)
	both.Limits, alone.Limits = limits, limits
	both.Cache.Stale, alone.Cache.Stale = -1, -1
	pair, single := open(t, both), open(t, alone)
	becomes(t, pair, "alice", "second")
	becomes(t, single, "alice", "")
	signal(t, first, syscall.SIGSTOP)
	becomes(t, pair, "second", "")
	becomes(t, single, "temporary", "")
	if got := find(t, pair, "nobody"); got != "no-entry" && got != "temporary" {
		t.Errorf("a user whom nobody knows: %s", got)
	}
	signal(t, first, syscall.SIGCONT)
	becomes(t, single, "alice", "")
}

// A server that is killed while it has a question is no matter for who asked:
// the next one answers it.
func TestSlapdKilledUnderASearch(t *testing.T) {
	t.Parallel()
	first, second := slapd(t, ldaptest.Options{}), slapd(t, ldaptest.Options{})
	users(t, first)
	users(t, second)
	if err := second.Set("alice", "kpopMailbox", "second"); err != nil {
		t.Fatal(err)
	}
	o := real(first.URI, second.URI)
	o.Limits.HeadStart = time.Minute // the first is asked as long as it lives
	d := open(t, o)
	if got := find(t, d, "alice"); got != "alice" {
		t.Fatal(got)
	}
	signal(t, first, syscall.SIGSTOP) // it takes the question and says nothing
	answers := make(chan string)
	go func() { answers <- find(t, d, "alice") }()
	for end := time.Now().Add(time.Minute); d.Stats().InUse == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody asks")
		}
	}
	first.Kill()
	if got := <-answers; got != "second" {
		t.Errorf("the first server was killed under a search: %s", got)
	}
}

// becomes looks alice up until she is as wanted; until then she may be what she
// was, or the directory may be down.
func becomes(t *testing.T, d *ldapdir.Directory, want, was string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got := find(t, d, "alice")
		if got == want {
			return
		}
		if got != was && got != "temporary" || time.Now().After(end) {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

func signal(t *testing.T, s *ldaptest.Server, what syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(s.PID, what); err != nil {
		t.Fatal(err)
	}
	if what != syscall.SIGSTOP {
		return
	}
	t.Cleanup(func() { _ = syscall.Kill(s.PID, syscall.SIGCONT) })           // it could not be ended otherwise
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // each of its threads stops by itself
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(stat), "State:\tT") {
			return
		}
		if time.Now().After(end) {
			t.Fatal("slapd does not stop")
		}
	}
}

func TestSlapdIdleDrop(t *testing.T) {
	t.Parallel()
	s := slapd(t, ldaptest.Options{IdleTimeout: time.Second})
	users(t, s)
	var failures int
	o := real(s.URI)
	o.Observe = func(_, _ string, _ time.Duration, err error) {
		if err != nil {
			failures++
		}
	}
	d := open(t, o)
	find(t, d, "alice")
	deadline := time.Now().Add(time.Minute)
	for connected(t, s.Port) > 0 {
		if time.Now().After(deadline) {
			t.Fatal("slapd drops no idle connection")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := find(t, d, "alice"); got != "alice" || failures != 0 {
		t.Errorf("after slapd dropped the connection: %s with %d failures", got, failures)
	}
}

// connected counts the connections to a port that its clients have not closed: those
// that are established, and those that only the server has closed.
func connected(t *testing.T, port int) int {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	const established, closeWait = "01", "08"
	to := fmt.Sprintf(" 0100007F:%04X ", port)
	return strings.Count(string(table), to+established+" ") + strings.Count(string(table), to+closeWait+" ")
}

// It is alone while it runs: the heap is the whole process's.
func TestSlapdManyUsers(t *testing.T) {
	const n = 10000
	s := slapd(t, ldaptest.Options{})
	var all []ldaptest.User
	for i := range n {
		all = append(all, ldaptest.User{Name: fmt.Sprintf("user%05d", i), Mailbox: fmt.Sprintf("box%05d", i)})
	}
	if err := s.Add(all...); err != nil {
		t.Fatal(err)
	}
	o := real(s.URI)
	o.Cache = ldapdir.CacheLimits{Entries: 500, Found: time.Hour}
	d := open(t, o)
	ask := func(i int) {
		if got, want := find(t, d, all[i].Name), all[i].Mailbox; got != want {
			t.Fatalf("%s: %s", all[i].Name, got)
		}
	}
	for i := range 1000 {
		ask(i)
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	for i := range n {
		ask(i)
	}
	if grown := int64(heap()) - int64(before); grown > 2<<20 {
		t.Errorf("%d users made the heap grow by %d octets", n, grown)
	}
	if after := runtime.NumGoroutine(); after > goroutines+20 {
		t.Errorf("%d goroutines, before %d", after, goroutines)
	}
	if st := d.Stats(); st.Cached != 500 || st.Idle != 1 {
		t.Errorf("%+v", st)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSlapdInjection asks slapd itself: whatever a value holds, only the entry
// with that very value is found.
func TestSlapdInjection(t *testing.T) {
	t.Parallel()
	s := slapd(t, ldaptest.Options{})
	users(t, s)
	odd := []string{`a*b`, `a(b`, `a)b`, `a\b`, `a\2ab`, "ä b", `)(uid=*`}
	for i, name := range odd {
		if err := s.Add(ldaptest.User{Name: name, Mailbox: fmt.Sprint("odd", i)}); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, real(s.URI))
	for i, name := range odd {
		if got := find(t, d, name); got != fmt.Sprint("odd", i) {
			t.Errorf("%q: %s", name, got)
		}
	}
	for _, name := range []string{"*", "a*", "*)(objectClass=*", "alice)(|(uid=*", "alice\x00", `\61lice`, "", "alice,ou=people", "(", ")", "|", "&"} {
		if got := find(t, d, name); got != "no-entry" {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func TestSlapdWrongBase(t *testing.T) {
	t.Parallel()
	s := slapd(t, ldaptest.Options{})
	o := real(s.URI)
	o.Search.Base = "dc=other,dc=test"
	d := open(t, o)
	if got := find(t, d, "alice"); got != "permanent" {
		t.Errorf("a base that is not there: %s", got)
	}
	var coded *ldap.Error
	if p := d.Ping(context.Background()); !errors.As(p[0].Err, &coded) || coded.ResultCode != ldap.LDAPResultNoSuchObject {
		t.Errorf("ping: %v", p[0].Err)
	}
}

func pool(t *testing.T, ca string) *x509.CertPool {
	t.Helper()
	cas, err := ldapdir.LoadCAs(ca)
	if err != nil {
		t.Fatal(err)
	}
	return cas
}

func file(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
