package imapdconf_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

var (
	unixNames = imapdconf.Names{UnixHierarchySep: true, DefaultDomain: "internal"}
	netnews   = imapdconf.Names{DefaultDomain: "internal"}
	virtual   = imapdconf.Names{
		UnixHierarchySep: true, VirtDomains: imapdconf.VirtDomainsUserid, DefaultDomain: "probe.example",
	}
)

func TestLoginNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names                             imapdconf.Names
		login, intname, dbname, ext, user string
	}{
		{unixNames, "alice", "user.alice", "user\x1falice", "user/alice", "alice"},
		{unixNames, "first.last", "user.first^last", "user\x1ffirst.last", "user/first.last", "first.last"},
		{unixNames, "flags+Archive", "user.flags.Archive", "user\x1fflags\x1fArchive", "user/flags/Archive", "flags"},
		{unixNames, "dave+Sent.Items", "user.dave.Sent^Items", "user\x1fdave\x1fSent.Items", "user/dave/Sent.Items", "dave"},
		{unixNames, "dave+a/b", "user.dave.a.b", "user\x1fdave\x1fa\x1fb", "user/dave/a/b", "dave"},
		{unixNames, "dave+B&AOk-", "user.dave.B&AOk-", "user\x1fdave\x1fB&AOk-", "user/dave/B&AOk-", "dave"},
		{netnews, "dave+a.b", "user.dave.a.b", "user\x1fdave\x1fa\x1fb", "user.dave.a.b", "dave"},
		{virtual, "eve@dom.example", "dom.example!user.eve", "dom.example\x1duser\x1feve", "user/eve@dom.example", "eve@dom.example"},
		{virtual, "e.ve+x@dom.example", "dom.example!user.e^ve.x", "dom.example\x1duser\x1fe.ve\x1fx", "user/e.ve/x@dom.example", "e.ve@dom.example"},
		{unixNames, "eve+été/a b", "user.eve.&AOk-t&AOk-.a b", "user\x1feve\x1f&AOk-t&AOk-\x1fa b", "user/eve/&AOk-t&AOk-/a b", "eve"},
		{unixNames, "eve+&U,BTFw-", "user.eve.&U,BTFw-", "user\x1feve\x1f&U,BTFw-", "user/eve/&U,BTFw-", "eve"},
		{virtual, "d.dot@probe.example", "user.d^dot", "user\x1fd.dot", "user/d.dot", "d.dot"},
	} {
		n, err := c.names.ParseLogin(c.login)
		if err != nil {
			t.Errorf("%s: %v", c.login, err)
			continue
		}
		got := []string{n.Intname(), n.DBName(), c.names.External(n), n.Userid()}
		want := []string{c.intname, c.dbname, c.ext, c.user}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %q, want %q", c.login, got, want)
		}
		for _, parse := range []func() (imapdconf.Name, error){
			func() (imapdconf.Name, error) { return imapdconf.ParseIntname(c.intname) },
			func() (imapdconf.Name, error) { return imapdconf.ParseDBName(c.dbname) },
		} {
			if again, err := parse(); err != nil || !again.Equal(n) {
				t.Errorf("%s: read back as %v, %v", c.login, again, err)
			}
		}
	}
}

func TestRefusedNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 600)
	for _, c := range []struct {
		names imapdconf.Names
		login string
	}{
		{unixNames, ""}, {unixNames, "."}, {unixNames, ".."}, {unixNames, "a/b"}, {unixNames, "../x"}, {unixNames, "a^b"},
		{unixNames, "a\x00b"}, {unixNames, "a\nb"}, {unixNames, "a\x1fb"}, {unixNames, "a\x1db"}, {unixNames, "a!b"},
		{unixNames, "anyone"}, {unixNames, "anonymous"}, {unixNames, "%x"}, {unixNames, "a%"}, {unixNames, "j\xc3\xa9"},
		{unixNames, "a&b"}, {unixNames, "a&b/-"}, {unixNames, long}, {unixNames, "a+"}, {unixNames, "+x"}, {unixNames, "a+b//c"},
		{unixNames, "a+../b"}, {unixNames, "a+b/../../c"}, {unixNames, "a+b^c"}, {unixNames, "a@dom.test"},
		{unixNames, "a+...."}, {unixNames, `a\b`}, {unixNames, "a\x7f"},
		{netnews, "a.b"}, {netnews, "a+b..c"}, {netnews, "a+.b"}, {netnews, "a+b/c"},
		{virtual, "a@"}, {virtual, "@dom.test"}, {virtual, "a@b@c"}, {virtual, "a@../x"}, {virtual, "a@.x"}, {virtual, "a@x..y"},
		{virtual, "a@x/y"}, {virtual, "a@x!y"}, {virtual, "a@b c"},
	} {
		if n, err := c.names.ParseLogin(c.login); !errors.Is(err, imapdconf.ErrName) {
			t.Errorf("%.40q became %q, %v", c.login, n, err)
		}
	}
	for _, s := range []string{"", "user", "user.", ".a", "a..b", "~a", "$RACL", "!user.a", "user.a/b", "d/e!user.a", "user.anyone"} {
		if n, err := imapdconf.ParseIntname(s); !errors.Is(err, imapdconf.ErrName) {
			t.Errorf("%q became %q, %v", s, n, err)
		}
	}
}

func TestFamilyOfNames(t *testing.T) {
	t.Parallel()
	n, err := imapdconf.ParseIntname("dom.test!user.a^b.c.d")
	if err != nil {
		t.Fatal(err)
	}
	parent, ok := n.Parent()
	if !ok || parent.Intname() != "dom.test!user.a^b.c" || n.Inbox().Intname() != "dom.test!user.a^b" || n.IsInbox() {
		t.Errorf("%v, %v", parent, n.Inbox())
	}
	if _, ok := n.Inbox().Parent(); ok || !n.Inbox().IsInbox() {
		t.Error("an INBOX has a parent")
	}
	shared, err := imapdconf.ParseIntname("shared.lists")
	if err != nil || shared.IsUser() || shared.Userid() != "" {
		t.Errorf("%v, %v", shared, err)
	}
}

// FuzzLogin wants that no login name leads out of the tree or to another
// user's mailboxes.
func FuzzLogin(f *testing.F) {
	for _, s := range []string{"alice", "a.b+c/d@e.f", "../..", "a&AOk-", "~x", "a+..@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, login string) {
		for _, names := range []imapdconf.Names{unixNames, netnews, virtual} {
			n, err := names.ParseLogin(login)
			if err != nil {
				continue
			}
			c := imapdconf.Defaults()
			c.Dir, c.Names, c.Layout.Hash = "/c", names, true
			c.Layout.Partitions["p"] = imapdconf.Partition{Root: "/spool"}
			if err := c.Complete(); err != nil {
				t.Fatal(err)
			}
			m := imapdconf.Mailbox{Name: n, Partition: "p", Legacy: true}
			dir, err := c.Directory(m, imapdconf.IndexFile)
			if err != nil || filepath.Clean(dir) != dir || !strings.HasPrefix(dir, "/spool/") {
				t.Errorf("%q leads to %q, %v", login, dir, err)
			}
			lock, err := c.NamespaceLock(n)
			if err != nil || filepath.Clean(lock) != lock || !strings.HasPrefix(lock, "/c/lock/") {
				t.Errorf("%q is locked by %q, %v", login, lock, err)
			}
			if again, err := imapdconf.ParseIntname(n.Intname()); err != nil || !again.Equal(n) {
				t.Errorf("%q: %q reads as %q, %v", login, n.Intname(), again, err)
			}
			if user, _, _ := strings.Cut(login, "+"); !strings.HasPrefix(n.Userid(), strings.SplitN(user, "@", 2)[0]) {
				t.Errorf("%q opens %q", login, n.Userid())
			}
		}
	})
}

// TestLogin is ParseLogin the other way.
func TestLogin(t *testing.T) {
	t.Parallel()
	names := imapdconf.Names{UnixHierarchySep: true, VirtDomains: imapdconf.VirtDomainsUserid}
	for _, login := range []string{"alice", "first.last", "alice+Sent", "alice+Lists/go.dev", "eve@dom.test", "eve+Sent/2026@dom.test"} {
		name, err := names.ParseLogin(login)
		if got := names.Login(name); err != nil || got != login {
			t.Errorf("%s: %q, %v", login, got, err)
		}
	}
	if shared, err := imapdconf.ParseIntname("shared.news"); err != nil || names.Login(shared) != "" {
		t.Errorf("%v, %v", shared, err)
	}
}
