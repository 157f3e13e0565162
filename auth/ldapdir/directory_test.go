package ldapdir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"go.uber.org/goleak"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(servers ...string) ldapdir.Options {
	return ldapdir.Options{
		Connect:    ldapdir.Connect{Servers: servers},
		Search:     ldapdir.Search{Base: "dc=realm,dc=test", Filter: "(uid={user})", PrincipalFilter: "(krb={principal})"},
		Attributes: ldapdir.Attributes{Mailbox: "mailbox", User: "uid"},
		Limits:     ldapdir.Limits{Connect: 20 * time.Second, Operation: 20 * time.Second, Lookup: time.Minute, HeadStart: 50 * time.Millisecond},
		Cache:      ldapdir.CacheLimits{Found: time.Nanosecond, NotFound: time.Nanosecond},
		Log:        slog.New(slog.DiscardHandler),
	}
}

func open(t *testing.T, o ldapdir.Options) *ldapdir.Directory {
	t.Helper()
	d, err := ldapdir.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func find(t *testing.T, d *ldapdir.Directory, user string) string {
	t.Helper()
	e, err := d.Find(t.Context(), rules.Query{User: user}, nil)
	return outcome(e, err)
}

func outcome(e rules.Entry, err error) string {
	var refusal *rules.Refusal
	switch {
	case errors.As(err, &refusal):
		return string(refusal.Reason)
	case errors.Is(err, auth.ErrTemporary):
		return "temporary"
	case errors.Is(err, auth.ErrPermanent):
		return "permanent"
	case err != nil:
		return err.Error()
	case e.Locked:
		return "locked"
	case e.Outside:
		return "outside"
	}
	return e.Mailbox
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.add("(uid=alice)", "uid=alice,dc=realm,dc=test", map[string][]string{"mailbox": {"alice"}, "UID": {"Alice"}})
	f.add("(uid=two)", "uid=a,dc=test", map[string][]string{"mailbox": {"a"}})
	f.add("(uid=two)", "uid=b,dc=test", map[string][]string{"mailbox": {"b"}})
	f.add("(uid=bare)", "uid=bare,dc=test", nil)
	f.add("(uid=split)", "uid=split,dc=test", map[string][]string{"mailbox": {"a", "b"}})
	for range 50 {
		f.add("(uid=flood)", "uid=flood,dc=test", map[string][]string{"mailbox": {"x"}})
	}
	d := open(t, options(f.url()))
	for user, want := range map[string]string{
		"alice": "alice", "nobody": "no-entry", "two": "many-entries", "bare": "no-mailbox", "split": "no-mailbox", "flood": "many-entries", "*": "no-entry",
	} {
		if got := find(t, d, user); got != want {
			t.Errorf("%s: %s, want %s", user, got, want)
		}
	}
	e, err := d.Find(t.Context(), rules.Query{User: "alice"}, nil)
	if err != nil || e.User != "Alice" || e.ID != "uid=alice,dc=realm,dc=test" {
		t.Errorf("alice: %+v, %v", e, err)
	}
	if _, err := d.Find(t.Context(), rules.Query{Principal: "x@REALM.TEST"}, nil); outcome(rules.Entry{}, err) != "no-entry" {
		t.Errorf("by principal: %v", err)
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	all := map[string][]string{
		"mail": {"alice@example.test"}, "uid": {"alice"}, "alias": {"a.l", "al@example.test"}, "enabled": {"TRUE"}, "lock": {"512"},
		"home": {"Here.Test"}, "proto": {"POP3"}, "uidl": {"dovecot"}, "keep": {"90"}, "secret": {"sesame"},
		"acts": {"bob", "uid=carol,ou=people,dc=realm,dc=test", "uid=root,dc=evil", "cn=dave,dc=realm,dc=test"},
	}
	with := func(name string, values ...string) map[string][]string {
		out := map[string][]string{}
		for k, v := range all {
			out[k] = v
		}
		out[name] = values
		return out
	}
	f.add("(uid=alice)", "uid=alice,dc=realm,dc=test", all)
	f.add("(uid=al)", "uid=alice,dc=realm,dc=test", with("uid", "alice", "al", "ally"))
	f.add("(uid=off)", "uid=off,dc=realm,dc=test", with("enabled", "FALSE"))
	f.add("(uid=unset)", "uid=unset,dc=realm,dc=test", with("enabled"))
	f.add("(uid=ad)", "uid=ad,dc=realm,dc=test", with("lock", "514"))
	f.add("(uid=odd)", "uid=odd,dc=realm,dc=test", with("lock", "x"))
	f.add("(uid=far)", "uid=far,dc=realm,dc=test", with("home", "there.test"))
	f.add("(uid=keep)", "uid=keep,dc=realm,dc=test", with("keep", "some"))
	f.add("(uid=dumb)", "uid=dumb,dc=realm,dc=test", with("secret"))
	o := options(f.url())
	o.Attributes = ldapdir.Attributes{
		User: "uid", Mailbox: "mail", MailboxLocalPart: true, Aliases: "alias", Enabled: "enabled", Locked: "lock", LockedBits: 2,
		Home: "home", LocalHome: "here.test", Protocols: "proto", ActsFor: "acts", UIDStyle: "uidl", Retention: "keep", Secret: "secret",
	}
	d := open(t, o)
	e, err := d.Find(t.Context(), rules.Query{User: "alice"}, nil)
	got := fmt.Sprintf("%+v", e)
	want := fmt.Sprintf("%+v", rules.Entry{
		ID: "uid=alice,dc=realm,dc=test", User: "alice", Mailbox: "alice", Aliases: []string{"a.l", "al@example.test"},
		Protocols: []string{"POP3"}, ActsFor: []string{"bob", "carol"}, UIDStyle: "dovecot", Retention: 90 * 24 * time.Hour,
	})
	if err != nil || got != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	for user, want := range map[string]string{"off": "locked", "unset": "locked", "ad": "locked", "odd": "locked", "keep": "no-mailbox"} {
		if got := find(t, d, user); got != want {
			t.Errorf("%s: %s, want %s", user, got, want)
		}
	}
	if e, _ := d.Find(t.Context(), rules.Query{User: "far"}, nil); e.Host != "there.test" {
		t.Errorf("far: %+v", e)
	}
	if e, _ := d.Find(t.Context(), rules.Query{User: "al"}, nil); e.User != "alice" || !slices.Equal(e.Names, []string{"al", "ally"}) {
		t.Errorf("al: %+v", e)
	}
	for user, want := range map[string]string{"alice": "sesame", "dumb": "", "nobody": "", "*": ""} {
		secret, err := d.Secret(t.Context(), user)
		if secret != want || (err == nil) != (want != "") || (err != nil && !errors.Is(err, auth.ErrDenied)) {
			t.Errorf("secret of %s: %q, %v", user, secret, err)
		}
	}
	if strings.Contains(got, "sesame") {
		t.Error("the secret is in the entry")
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.add("(uid=in)", "uid=in,dc=realm,dc=test", map[string][]string{"mailbox": {"in"}, "memberOf": {"cn=other,dc=test", "CN=Mail, dc=test"}})
	f.add("(uid=out)", "uid=out,dc=realm,dc=test", map[string][]string{"mailbox": {"out"}, "memberOf": {"cn=other,dc=test"}})
	f.add("(member=uid=in,dc=realm,dc=test)", "cn=mail,dc=test", nil)
	for _, g := range []ldapdir.Group{{DN: "cn=mail,dc=test"}, {Filter: "(member={dn})"}} {
		o := options(f.url())
		o.Group = g
		d := open(t, o)
		if in, out := find(t, d, "in"), find(t, d, "out"); in != "in" || out != "outside" {
			t.Errorf("%+v: %s, %s", g, in, out)
		}
	}
}

func TestCacheAndFlight(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.add("(uid=alice)", "uid=alice,dc=test", map[string][]string{"mailbox": {"alice"}})
	release := make(chan struct{})
	f.set(func(f *fake) { f.before = func(net.Conn) bool { <-release; return true } })
	o := options(f.url())
	o.Cache = ldapdir.CacheLimits{Found: time.Hour, NotFound: time.Hour, Entries: 10}
	d := open(t, o)
	hungUp, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := d.Find(hungUp, rules.Query{User: "alice"}, nil)
		gone <- err
	}()
	for searches := 0; searches == 0; searches, _ = f.count() {
		time.Sleep(time.Millisecond)
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if got := find(t, d, "alice"); got != "alice" {
				t.Errorf("alice: %s", got)
			}
		})
	}
	cancel() // the one who began the search goes away
	if err := <-gone; !errors.Is(err, auth.ErrTemporary) {
		t.Errorf("who hung up got %v", err)
	}
	close(release)
	group.Wait()
	find(t, d, "nobody")
	find(t, d, "nobody")
	if n, _ := f.count(); n != 2 {
		t.Errorf("%d searches, want 2", n)
	}
	if _, err := d.Find(t.Context(), rules.Query{User: "alice"}, func(rules.Step) {}); err != nil {
		t.Error(err)
	}
	if n, _ := f.count(); n != 3 {
		t.Errorf("a trace was answered out of the cache")
	}
	for i := range 50 {
		find(t, d, fmt.Sprint("user", i))
	}
	if s := d.Stats(); s.Cached != 10 || s.InUse != 0 || s.Idle > 8 {
		t.Errorf("%+v", s)
	}
}

func TestDownIsNotNo(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.add("(uid=alice)", "uid=alice,dc=test", map[string][]string{"mailbox": {"alice"}})
	var log bytes.Buffer
	o := options(f.url())
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	d := open(t, o)
	if got := find(t, d, "alice") + " " + find(t, d, "nobody"); got != "alice no-entry" {
		t.Fatal(got)
	}
	f.listener.Close()
	f.hangUp()
	for range 4 {
		if got := find(t, d, "alice") + " " + find(t, d, "nobody") + " " + find(t, d, "bob"); got != "alice temporary temporary" {
			t.Errorf("while it is down: %s", got)
		}
	}
	if !strings.Contains(log.String(), "using the last known entry") {
		t.Errorf("the log does not say so:\n%s", &log)
	}
	o.Cache.Stale = -1
	if got := find(t, open(t, o), "alice"); got != "temporary" {
		t.Errorf("without Stale: %s", got)
	}
}

func TestIdleDropIsNotNoticed(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.add("(uid=alice)", "uid=alice,dc=test", map[string][]string{"mailbox": {"alice"}})
	d := open(t, options(f.url()))
	find(t, d, "alice")
	// The server closes as it reads the next search: the harder case.
	var once sync.Once
	f.set(func(f *fake) {
		f.before = func(net.Conn) bool {
			first := false
			once.Do(func() { first = true })
			return !first
		}
	})
	if got := find(t, d, "alice"); got != "alice" {
		t.Errorf("after the server closed at the search: %s", got)
	}
	f.hangUp()
	if got := find(t, d, "alice"); got != "alice" {
		t.Errorf("after the server hung up: %s", got)
	}
}

func TestFailover(t *testing.T) {
	t.Parallel()
	alice := func(f *fake, mailbox string) {
		f.add("(uid=alice)", "uid=alice,dc=test", map[string][]string{"mailbox": {mailbox}})
	}
	first, second := newFake(t), newFake(t)
	alice(first, "first")
	alice(second, "second")
	d := open(t, options(first.url(), second.url()))
	if got := find(t, d, "alice"); got != "first" {
		t.Errorf("both up: %s", got)
	}
	first.set(func(f *fake) { f.code = 51 }) // busy
	if got := find(t, d, "alice"); got != "second" {
		t.Errorf("first is busy: %s", got)
	}
	first.listener.Close()
	first.hangUp()
	if got := find(t, d, "alice"); got != "second" {
		t.Errorf("first is down: %s", got)
	}
	second.hangUp()
	if got := find(t, d, "alice"); got != "second" {
		t.Errorf("second dropped its connections: %s", got)
	}
}

// blackHole accepts connections and says nothing.
func blackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String() // the kernel accepts, nobody answers
}

func TestBlackHole(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.add("(uid=alice)", "uid=alice,dc=test", map[string][]string{"mailbox": {"alice"}})
	o := options("ldaps://"+blackHole(t), f.url())
	d := open(t, o)
	began := time.Now()
	if got := find(t, d, "alice"); got != "alice" || time.Since(began) > o.Limits.Connect {
		t.Errorf("beside a black hole: %s after %v", got, time.Since(began))
	}
	o = options("ldap://" + blackHole(t))
	o.Limits = ldapdir.Limits{Connect: 100 * time.Millisecond, Operation: 100 * time.Millisecond, Lookup: 300 * time.Millisecond, Connections: 1}
	d = open(t, o)
	began = time.Now()
	for range 4 {
		if got := find(t, d, "alice"); got != "temporary" {
			t.Errorf("only a black hole: %s", got)
		}
	}
	if time.Since(began) > 20*time.Second {
		t.Errorf("four lookups took %v", time.Since(began))
	}
	status := d.Ping(t.Context())
	if len(status) != 1 || status[0].Err == nil || !status[0].Resting {
		t.Errorf("%+v", status)
	}
}

// TestCutAnswer: an entry without the result behind it is no answer; there might
// have been a second one.
func TestCutAnswer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.add("(uid=alice)", "uid=alice,dc=test", map[string][]string{"mailbox": {"alice"}})
	f.set(func(f *fake) { f.cut = true })
	var log bytes.Buffer
	o := options(f.url())
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	d := open(t, o)
	if got := find(t, d, "alice"); got != "temporary" {
		t.Errorf("a cut answer: %s", got)
	}
	if !strings.Contains(log.String(), "ldap is down") {
		t.Errorf("the log does not say so:\n%s", &log)
	}
}

// TestConnectionsAtMost: more lookups than connections wait, and are all answered.
func TestConnectionsAtMost(t *testing.T) {
	t.Parallel()
	const most, lookups = 3, 30
	f := newFake(t)
	var now, peak atomic.Int64
	f.set(func(f *fake) {
		f.before = func(net.Conn) bool {
			n := now.Add(1)
			for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
			}
			time.Sleep(5 * time.Millisecond) // a slow server
			now.Add(-1)
			return true
		}
	})
	o := options(f.url())
	o.Limits = ldapdir.Limits{Connect: time.Minute, Operation: time.Minute, Lookup: time.Minute, Connections: most}
	for i := range lookups {
		user := fmt.Sprint("u", i)
		f.add("(uid="+user+")", "uid="+user+",dc=test", map[string][]string{"mailbox": {user}})
	}
	d := open(t, o)
	var group sync.WaitGroup
	for i := range lookups {
		group.Go(func() {
			user := fmt.Sprint("u", i)
			if got := find(t, d, user); got != user {
				t.Errorf("%s: %s", user, got)
			}
		})
	}
	group.Wait()
	if peak.Load() > most {
		t.Errorf("%d searches at once, want at most %d", peak.Load(), most)
	}
	if _, conns := f.count(); conns > most {
		t.Errorf("%d connections, want at most %d", conns, most)
	}
}

func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"4 GiB":         "\x30\x84\xff\xff\xff\xff",
		"http":          "HTTP/1.1 200 OK\r\n\r\n",
		"bare sequence": "\x30\x00",
		"empty entry":   "\x30\x05\x02\x01\x01\x64\x00",
		"null id":       "\x30\x04\x05\x00\x64\x00",
		"entry of null": "\x30\x09\x02\x01\x01\x64\x04\x05\x00\x05\x00",
		"done of null":  "\x30\x07\x02\x01\x01\x65\x02\x05\x00",
		"half":          "\x30\x7f\x02\x01",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.set(func(f *fake) { f.before = func(c net.Conn) bool { c.Write([]byte(answer)); return false } })
			if got := find(t, open(t, options(f.url())), "alice"); got != "temporary" {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestMessageTooLong: a sound entry, but longer than any that is of use.
func TestMessageTooLong(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for user, size := range map[string]int{"long": 1 << 19, "longer": 1 << 21} {
		f.add("(uid="+user+")", "uid="+user+",dc=test", map[string][]string{"mailbox": {user}, "other": {strings.Repeat("x", size)}})
	}
	d := open(t, options(f.url()))
	if long, longer := find(t, d, "long"), find(t, d, "longer"); long != "long" || longer != "temporary" {
		t.Errorf("%s, %s", long, longer)
	}
}

// TestAnswerWithoutEnd: messages of which each is sound, but which never end, are not
// gathered until the time is over.
func TestAnswerWithoutEnd(t *testing.T) {
	t.Parallel()
	const all = 256 << 20
	f := newFake(t)
	f.set(func(f *fake) { f.flood = all })
	if got := find(t, open(t, options(f.url())), "alice"); got != "temporary" {
		t.Errorf("%s", got)
	}
	f.set(func(f *fake) {
		if f.flooded > all/4 {
			t.Errorf("%d octets were taken", f.flooded)
		}
	})
}

// TestRest: a server that refuses connections is left alone after a while.
func TestRest(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.listener.Close()
	var mu sync.Mutex
	connects := 0
	o := options(f.url())
	o.Observe = func(string, string, time.Duration, error) {
		mu.Lock()
		defer mu.Unlock()
		connects++
	}
	d := open(t, o)
	for range 10 {
		if got := find(t, d, "alice"); got != "temporary" {
			t.Errorf("%s", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if connects != 2 {
		t.Errorf("%d connects for 10 lookups, want 2", connects)
	}
	if status := d.Ping(t.Context()); !status[0].Resting || status[0].Err == nil {
		t.Errorf("%+v", status)
	}
}

// TestPanicIsTold: a fault over a connection is an error of this lookup, and is
// counted.
func TestPanicIsTold(t *testing.T) {
	t.Parallel()
	o := options(newFake(t).url())
	o.Connect.Bind = func(context.Context, *ldap.Conn, string) error { panic("bind fell over") }
	var told atomic.Int64
	o.Panicked = func(value any, stack []byte) {
		if told.Add(1); value != "bind fell over" || len(stack) == 0 {
			t.Errorf("told of %v at %s", value, stack)
		}
	}
	if got := find(t, open(t, o), "alice"); got != "temporary" || told.Load() == 0 {
		t.Errorf("%s, told %d times", got, told.Load())
	}
}

// TestPanicOfTheLibrary: go-ldap catches what happens in its own goroutines and
// says so in an error only.
func TestPanicOfTheLibrary(t *testing.T) {
	t.Parallel()
	o := options(newFake(t).url())
	o.Connect.Bind = func(context.Context, *ldap.Conn, string) error {
		return errors.New("ldap: recovered panic in reader: fell over")
	}
	var told atomic.Int64
	o.Panicked = func(any, []byte) { told.Add(1) }
	if got := find(t, open(t, o), "alice"); got != "temporary" || told.Load() == 0 {
		t.Errorf("%s, told %d times", got, told.Load())
	}
}

func TestResultCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{32: "permanent", 50: "permanent", 10: "permanent", 8: "permanent", 51: "temporary", 52: "temporary", 1: "temporary", 80: "temporary", 3: "temporary"} {
		f := newFake(t)
		f.set(func(f *fake) { f.code = code })
		if got := find(t, open(t, options(f.url())), "alice"); got != want {
			t.Errorf("code %d: %s, want %s", code, got, want)
		}
	}
}

func TestLoadCAs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if _, err := ldapdir.LoadCAs(path); err == nil {
		t.Error("a missing file was taken")
	}
	if err := os.WriteFile(path, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ldapdir.LoadCAs(path); err == nil {
		t.Error("a file without a certificate was taken")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*ldapdir.Options){
		"clear over the net": func(o *ldapdir.Options) { o.Connect.Servers = []string{"ldap://ldap.example.test"} },
		"no server":          func(o *ldapdir.Options) { o.Connect.Servers = nil },
		"scheme":             func(o *ldapdir.Options) { o.Connect.Servers = []string{"http://127.0.0.1"} },
		"password in url":    func(o *ldapdir.Options) { o.Connect.Servers = []string{"ldap://a:secret@127.0.0.1"} },
		"path":               func(o *ldapdir.Options) { o.Connect.Servers = []string{"ldap://127.0.0.1/dc=x"} },
		"relative socket":    func(o *ldapdir.Options) { o.Connect.Servers = []string{"ldapi://run%2Fldapi"} },
		"scope":              func(o *ldapdir.Options) { o.Search.Scope = "tree" },
		"base":               func(o *ldapdir.Options) { o.Search.Base = "realm.test" },
		"filter":             func(o *ldapdir.Options) { o.Search.Filter = "(uid={login})" },
		"filter for all":     func(o *ldapdir.Options) { o.Search.Filter = "(objectClass=*)" },
		"principal filter":   func(o *ldapdir.Options) { o.Search.PrincipalFilter = "(uid={user})" },
		"host filter":        func(o *ldapdir.Options) { o.Search.HostFilter = "(uid={user})" },
		"no mailbox":         func(o *ldapdir.Options) { o.Attributes.Mailbox = "" },
		"group twice":        func(o *ldapdir.Options) { o.Group = ldapdir.Group{DN: "cn=x", Filter: "(member={dn})"} },
		"group of all":       func(o *ldapdir.Options) { o.Group = ldapdir.Group{Filter: "(cn=mail)"} },
		"group without name": func(o *ldapdir.Options) { o.Group = ldapdir.Group{Base: "dc=test"} },
		"group dn":           func(o *ldapdir.Options) { o.Group = ldapdir.Group{DN: "mail"} },
	} {
		o := options("ldap://127.0.0.1")
		change(&o)
		if _, err := ldapdir.New(o); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*ldapdir.Connect){
		"startTLS": func(c *ldapdir.Connect) { c.StartTLS = true },
		"allowed":  func(c *ldapdir.Connect) { c.AllowClear = true },
		"ldaps":    func(c *ldapdir.Connect) { c.Servers = []string{"ldaps://ldap.example.test"} },
		"ldapi":    func(c *ldapdir.Connect) { c.Servers = []string{"ldapi://%2Frun%2Fldapi", "ldapi://%2Frun%2Fldapi/"} },
		"loopback": func(c *ldapdir.Connect) { c.Servers = []string{"ldap://[::1]:389", "ldap://127.1.2.3"} },
	} {
		o := options("ldap://ldap.example.test")
		change(&o.Connect)
		if _, err := ldapdir.New(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
