//go:build integration

package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/ldapdir/ldaptest"
	"github.com/kpopd/kpopd/cmd/kpop/doctor"
	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
	"github.com/kpopd/kpopd/krb5conf"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// realm is one for all tests; what they break of it they mend, or is a copy.
var realm *integration.Realm

func TestMain(m *testing.M) { os.Exit(player.Main(m, &realm, nil)) }

// site is the realm as it is configured.
func site(t *testing.T) *doctor.Site {
	t.Helper()
	conf, err := imapdconf.Read(realm.Path("imapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	s := &doctor.Site{
		Hostname: integration.Host, StateDir: realm.Path("state"),
		Kerberos: doctor.Kerberos{
			Profile: profile(t, realm.Path("krb5.conf")), Keytab: realm.Path("server.keytab"),
			Services: []string{"pop", "pop3"}, Skew: 5 * time.Minute,
		},
		Ports: []doctor.Port{
			{Name: "kpop", Address: local(realm.Ports.KPOP), Protocol: "kpop"},
			{Name: "pop3", Address: local(realm.Ports.POP3), Protocol: "pop3"},
			{Name: "pop3s", Address: local(realm.Ports.POP3S), Protocol: "pop3s"},
		},
		Certificate: doctor.Certificate{File: realm.Path("server.pem"), Key: realm.Path("server.key"), CA: realm.Path("ca.pem")},
		LDAP:        directory(t, func(*ldapdir.Options) {}),
		Spool:       doctor.Spool{Config: conf, Check: checker(t, conf), Mailbox: "alice"},
		Machine:     doctor.Machine{Root: t.TempDir(), Run: nothing},
	}
	return s
}

func nothing(context.Context, string, ...string) (string, error) { return "", nil }

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func profile(t *testing.T, path string) *krb5conf.Profile {
	t.Helper()
	p, err := krb5conf.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// parsed is a profile with a text of its own.
func parsed(t *testing.T, text string) *krb5conf.Profile {
	t.Helper()
	p, err := krb5conf.Parse("krb5.conf", text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func checker(t *testing.T, conf *imapdconf.Config) func(context.Context, string) ([]string, error) {
	t.Helper()
	store, err := cyrus.Open(cyrus.Options{Config: conf, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return func(ctx context.Context, mailbox string) ([]string, error) {
		faults, err := store.Check(ctx, mailbox)
		out := make([]string, len(faults))
		for i := range faults {
			out[i] = faults[i].Error()
		}
		return out, err
	}
}

// directory is the realm's, with something changed.
func directory(t *testing.T, change func(*ldapdir.Options)) *doctor.LDAP {
	t.Helper()
	pem, err := os.ReadFile(realm.Path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	o := ldapdir.Options{
		Connect: ldapdir.Connect{
			Servers: []string{realm.LDAP().URI}, StartTLS: true, RootCAs: roots,
			Bind: ldapdir.Simple("cn=kpopd,"+ldaptest.Base, realm.Path("ldap/kpopd.pw")),
		},
		Search:     ldapdir.Search{Base: ldaptest.Base, Filter: "(uid={user})"},
		Attributes: ldapdir.Attributes{Mailbox: "kpopMailbox"},
	}
	change(&o)
	d, err := ldapdir.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return &doctor.LDAP{Ping: d.Ping, Find: d.Find}
}

func server(t *testing.T, s *doctor.Site) *doctor.Report {
	t.Helper()
	r := doctor.Server(t.Context(), s)
	remedied(t, r)
	return r
}

func TestSoundServer(t *testing.T) {
	r := server(t, site(t))
	if r.Worst() != doctor.OK {
		t.Errorf("the realm is sound, and yet:\n%s", text(t, r))
	}
	expect(t, r, "keytab", doctor.OK, "holds pop/localhost@REALM.TEST", "aes256")
	expect(t, r, "keytab", doctor.OK, "the KDC makes tickets for pop/localhost with kvno 2", "opens them")
	expect(t, r, "krb5.conf", doctor.OK, "default realm is REALM.TEST")
	expect(t, r, "dns", doctor.OK, "fetchmail", "pop/localhost@REALM.TEST")
	expect(t, r, "kdc", doctor.OK, "answers by tcp")
	expect(t, r, "kdc", doctor.OK, "answers by udp")
	expect(t, r, "clock", doctor.OK, "allowed")
	expect(t, r, "ldap", doctor.OK, "bound")
	expect(t, r, "ldap", doctor.OK, "alice has an entry")
	expect(t, r, "spool", doctor.OK, "alice", "sound")
	expect(t, r, "ports", doctor.OK, "kpop")
	expect(t, r, "tls", doctor.OK, "good for")
	expect(t, r, "denials", doctor.OK, "no denial")
}

func TestBrokenKeytab(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks func(t *testing.T, s *doctor.Site)
		check  string
		words  []string
	}{
		{"missing", func(_ *testing.T, s *doctor.Site) { s.Kerberos.Keytab = "/nonexistent/keytab" }, "keytab", []string{"no such file"}},
		{"open to all", func(t *testing.T, s *doctor.Site) {
			s.Kerberos.Keytab = copied(t, s.Kerberos.Keytab)
			chmod(t, s.Kerberos.Keytab, 0o644)
		}, "keytab", []string{"0644", "others can read"}},
		{"another's", func(_ *testing.T, s *doctor.Site) { s.User = "nobody" }, "keytab", []string{"user nobody cannot read", "0700"}},
		{"other services only", func(_ *testing.T, s *doctor.Site) { s.Kerberos.Services = []string{"smtp"} }, "keytab", []string{"no principal of the services smtp"}},
		{"cut short", func(t *testing.T, s *doctor.Site) {
			s.Kerberos.Keytab = copied(t, s.Kerberos.Keytab)
			if err := os.Truncate(s.Kerberos.Keytab, 100); err != nil {
				t.Fatal(err)
			}
		}, "keytab", []string{"cut short"}},
		{"host name not in it", func(_ *testing.T, s *doctor.Site) { s.Hostname = "ip6-localhost" }, "dns", []string{"pop/ip6-localhost@REALM.TEST", "not in the keytab"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site(t)
			c.breaks(t, s)
			expect(t, server(t, s), c.check, doctor.Wrong, c.words...)
		})
	}
}

// The KDC's key of a principal of its own is changed in the ways that happen.
func TestKeytabAndKDCDisagree(t *testing.T) {
	const principal = "pop/disagree.test"
	fresh := func(t *testing.T) *doctor.Site {
		s := site(t)
		s.Kerberos.Keytab = filepath.Join(t.TempDir(), "keytab")
		kadmin(t, "addprinc -randkey %s\nktadd -k %s %s", principal, s.Kerberos.Keytab, principal)
		t.Cleanup(func() { kadmin(t, "delprinc -force %s", principal) })
		return s
	}
	for _, c := range []struct{ name, command, want string }{
		{"rekeyed without the keytab", "cpw -randkey " + principal, "with kvno 3, the keytab ends at 2"},
		{"deleted", "delprinc -force " + principal, "the KDC does not know"},
		{"another key of the same kvno", "delprinc -force " + principal + "\naddprinc -randkey " + principal + "\ncpw -randkey " + principal, "another key"},
		{"a KDC that lags behind", "delprinc -force " + principal + "\naddprinc -randkey " + principal, "with kvno 1, the keytab has 2 only"},
		{"preauthentication, rekeyed", "modprinc +requires_preauth " + principal + "\ncpw -randkey " + principal, "refuses the keytab's key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fresh(t)
			kadmin(t, "%s", c.command)
			expect(t, server(t, s), "keytab", doctor.Wrong, c.want)
			if c.name == "deleted" {
				kadmin(t, "addprinc -randkey %s", principal) // for the clean-up
			}
		})
	}
	t.Run("preauthentication, sound", func(t *testing.T) {
		s := fresh(t)
		kadmin(t, "modprinc +requires_preauth %s", principal)
		expect(t, server(t, s), "keytab", doctor.OK, "opens them", principal)
	})
	t.Run("locked", func(t *testing.T) {
		s := fresh(t)
		kadmin(t, "modprinc -allow_tix %s", principal)
		expect(t, server(t, s), "keytab", doctor.Warning, "gives no ticket")
	})
}

// A keytab and a KDC that have no enctype in common.
func TestEnctypesDisagree(t *testing.T) {
	const principal = "pop/enctypes.test"
	fresh := func(t *testing.T, salts string) *doctor.Site {
		s := site(t)
		s.Kerberos.Keytab = filepath.Join(t.TempDir(), "keytab")
		kadmin(t, "addprinc -randkey -e %s %s\nktadd -k %s -norandkey %s", salts, principal, s.Kerberos.Keytab, principal)
		t.Cleanup(func() { kadmin(t, "delprinc -force %s", principal) })
		return s
	}
	t.Run("one of two", func(t *testing.T) {
		s := fresh(t, "aes256-cts:normal,aes128-cts:normal")
		kt, err := keytab.Load(s.Kerberos.Keytab)
		if err != nil {
			t.Fatal(err)
		}
		kept := kt.Entries[:0]
		for _, e := range kt.Entries {
			if e.Key.KeyType != 18 {
				kept = append(kept, e)
			}
		}
		kt.Entries = kept
		b, err := kt.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.Kerberos.Keytab, b, 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, server(t, s), "keytab", doctor.Wrong, "with enctype 18, of which the keytab has no key of kvno 1")
	})
	t.Run("none that is strong", func(t *testing.T) {
		s := fresh(t, "arcfour-hmac:normal")
		r := server(t, s)
		expect(t, r, "keytab", doctor.Wrong, "has no AES key: kpopd refuses the others")
		expect(t, r, "keytab", doctor.Wrong, "the KDC has no AES key of "+principal)
	})
}

// A PTR record that says another name matters to libkrb5's default, and little
// where rdns is off.
func TestAnotherNameBackwards(t *testing.T) {
	const host = "node1.realm.test"
	s := site(t)
	s.Hostname, s.Kerberos.Keytab = host, filepath.Join(t.TempDir(), "keytab")
	s.Resolver = zone{a: map[string]string{host: "127.0.0.1"}, ptr: map[string]string{"1.0.0.127.in-addr.arpa": "dhcp17.realm.test"}}.serve(t)
	kadmin(t, "addprinc -randkey pop/%s\nktadd -k %s pop/%s", host, s.Kerberos.Keytab, host)
	t.Cleanup(func() { kadmin(t, "delprinc -force pop/%s", host) })
	expect(t, server(t, s), "dns", doctor.OK, "pop/node1.realm.test@REALM.TEST, which is in the keytab")
	expect(t, server(t, s), "dns", doctor.Warning, "would ask for", "rdns is off")
	s.Kerberos.Profile = parsed(t, fmt.Sprintf("[libdefaults]\ndefault_realm = REALM.TEST\n[realms]\nREALM.TEST = {\nkdc = %s\n}\n", local(realm.Ports.KDC)))
	expect(t, server(t, s), "dns", doctor.Wrong, "will ask for pop/", "not in the keytab")
}

func kadmin(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := realm.Kadmin(context.Background(), fmt.Sprintf(format, args...)+"\n"); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenProfile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		grade      doctor.Grade
		words      string
	}{
		{"no default realm", "[libdefaults]\ndns_lookup_kdc = false\n", doctor.Wrong, "no default_realm"},
		{"no KDC", "[libdefaults]\ndefault_realm = REALM.TEST\ndns_lookup_kdc = false\n", doctor.Wrong, "no kdc line"},
		{"misspelt", "[libdefaults]\ndefault_realm = REALM.TEST\ndns_lokup_kdc = false\n[realms]\nREALM.TEST = {\nkdc = 127.0.0.1:1\n}\n", doctor.Warning, "dns_lokup_kdc"},
		{"bad rule", "[libdefaults]\ndefault_realm = REALM.TEST\n[realms]\nREALM.TEST = {\nkdc = 127.0.0.1:1\nauth_to_local = RULE:[1:$1](\n}\n", doctor.Wrong, "auth_to_local"},
		{"weak", "[libdefaults]\ndefault_realm = REALM.TEST\nallow_weak_crypto = yes\n[realms]\nREALM.TEST = {\nkdc = 127.0.0.1:1\n}\n", doctor.Warning, "allow_weak_crypto"},
		{"skew", "[libdefaults]\ndefault_realm = REALM.TEST\nclockskew = 60\n[realms]\nREALM.TEST = {\nkdc = 127.0.0.1:1\n}\n", doctor.Warning, "clockskew is 1m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site(t)
			s.Kerberos.Profile = parsed(t, c.text)
			expect(t, server(t, s), "krb5.conf", c.grade, c.words)
		})
	}
	t.Run("none", func(t *testing.T) {
		s := site(t)
		s.Kerberos.Profile = nil
		expect(t, server(t, s), "krb5.conf", doctor.Wrong, "no krb5.conf")
	})
}

func TestBrokenKDC(t *testing.T) {
	const conf = "[libdefaults]\ndefault_realm = REALM.TEST\n[realms]\nREALM.TEST = {\nkdc = %s\n}\n"
	t.Run("down", func(t *testing.T) {
		s := site(t)
		s.Kerberos.Profile = parsed(t, fmt.Sprintf(conf, "127.0.0.1:1"))
		r := server(t, s)
		expect(t, r, "kdc", doctor.Warning, "by TCP", "refused")
		expect(t, r, "kdc", doctor.Warning, "by UDP")
		expect(t, r, "kdc", doctor.Wrong, "no KDC of REALM.TEST answers")
	})
	t.Run("not in DNS", func(t *testing.T) {
		s := site(t)
		s.Kerberos.Profile = parsed(t, "[libdefaults]\ndefault_realm = REALM.TEST\n")
		s.Resolver = zone{}.serve(t)
		expect(t, server(t, s), "kdc", doctor.Wrong, "no KDC of REALM.TEST is known")
	})
	t.Run("in DNS", func(t *testing.T) {
		s := site(t)
		s.Kerberos.Profile = parsed(t, "[libdefaults]\ndefault_realm = REALM.TEST\n")
		s.Resolver = zone{srv: map[string]uint16{"_kerberos._tcp.realm.test": uint16(realm.Ports.KDC)}}.serve(t)
		r := server(t, s)
		expect(t, r, "krb5.conf", doctor.OK, "looked up in DNS")
		expect(t, r, "kdc", doctor.OK, "answers by tcp")
	})
	for name, c := range map[string]struct {
		off   time.Duration
		grade doctor.Grade
		words string
	}{
		"clock far off":  {7 * time.Minute, doctor.Wrong, "behind"},
		"clock drifting": {-time.Minute, doctor.Warning, "ahead of"},
	} {
		t.Run(name, func(t *testing.T) {
			s := site(t)
			s.Kerberos.Profile = parsed(t, fmt.Sprintf(conf, wrongClock(t, c.off)))
			r := server(t, s)
			expect(t, r, "clock", c.grade, c.words)
			expect(t, r, "kdc", doctor.Warning, "by TCP") // it has UDP only
		})
	}
}

// wrongClock is a KDC by UDP that refuses everything at a time of its own: a
// real one cannot be set back here.
func wrongClock(t *testing.T, off time.Duration) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			_, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			now := time.Now().UTC().Add(off)
			e := messages.KRBError{PVNO: 5, MsgType: 30, STime: now, Susec: now.Nanosecond() / 1000, ErrorCode: 14,
				Realm: "REALM.TEST", SName: types.NewPrincipalName(2, "krbtgt/REALM.TEST")}
			if reply, err := e.Marshal(); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func TestBrokenDirectory(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(wrong, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*ldapdir.Options)
		words  string
	}{
		{"down", func(o *ldapdir.Options) { o.Connect.Servers = []string{"ldap://127.0.0.1:1"} }, "refused"},
		{"CA not known", func(o *ldapdir.Options) { o.Connect.RootCAs = x509.NewCertPool() }, "x509"},
		{"wrong password", func(o *ldapdir.Options) { o.Connect.Bind = ldapdir.Simple("cn=kpopd,"+ldaptest.Base, wrong) }, "Invalid Credentials"},
		{"wrong base", func(o *ldapdir.Options) { o.Search.Base = "dc=elsewhere" }, "search base"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site(t)
			s.LDAP = directory(t, c.change)
			r := server(t, s)
			expect(t, r, "ldap", doctor.Warning, c.words)
			expect(t, r, "ldap", doctor.Wrong, "no LDAP server can be used")
		})
	}
	t.Run("one of two", func(t *testing.T) {
		s := site(t)
		s.LDAP = directory(t, func(o *ldapdir.Options) { o.Connect.Servers = append(o.Connect.Servers, "ldap://127.0.0.1:1") })
		r := server(t, s)
		expect(t, r, "ldap", doctor.Warning, "refused")
		expect(t, r, "ldap", doctor.OK, "alice has an entry")
	})
	t.Run("too slow for a search", func(t *testing.T) {
		s := site(t)
		s.LDAP = directory(t, func(o *ldapdir.Options) { o.Limits.Lookup = time.Nanosecond })
		expect(t, server(t, s), "ldap", doctor.Wrong, "a search does not work")
	})
	t.Run("no entry", func(t *testing.T) {
		s := site(t)
		s.Spool.Mailbox = "nobody"
		expect(t, server(t, s), "ldap", doctor.Warning, "nobody")
	})
}

func TestBrokenSpool(t *testing.T) {
	t.Run("another's", func(t *testing.T) {
		s := site(t)
		s.User = "nobody"
		r := server(t, s)
		expect(t, r, "spool", doctor.Wrong, "user nobody cannot use state_dir")
		expect(t, r, "spool", doctor.Wrong, "user nobody cannot use partition-default")
	})
	t.Run("no such user", func(t *testing.T) {
		s := site(t)
		s.User = "kpop-doctor-nobody"
		expect(t, server(t, s), "config", doctor.Wrong, "kpop-doctor-nobody")
	})
	t.Run("no mailbox", func(t *testing.T) {
		s := site(t)
		s.Spool.Mailbox = "stranger"
		expect(t, server(t, s), "spool", doctor.Wrong, "stranger has no mailbox")
	})
	t.Run("first mailbox", func(t *testing.T) {
		s := site(t)
		s.Spool.Mailbox = ""
		expect(t, server(t, s), "spool", doctor.OK, "the mailbox of alice")
	})
	t.Run("no database", func(t *testing.T) {
		s := site(t)
		conf := *s.Spool.Config
		conf.Databases.Mailboxes.Path = filepath.Join(t.TempDir(), "mailboxes.db")
		s.Spool.Config, s.Spool.Mailbox = &conf, ""
		expect(t, server(t, s), "spool", doctor.Warning, "no user's mailbox")
	})
	t.Run("database damaged", func(t *testing.T) {
		s := site(t)
		conf := *s.Spool.Config
		conf.Databases.Mailboxes.Path = filepath.Join(t.TempDir(), "mailboxes.db")
		if err := os.WriteFile(conf.Databases.Mailboxes.Path, []byte("no database at all, but long enough to be looked at"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Spool.Config, s.Spool.Mailbox = &conf, ""
		expect(t, server(t, s), "spool", doctor.Wrong, "mailboxes.db cannot be read")
	})
	t.Run("option that cannot be served", func(t *testing.T) {
		s := site(t)
		conf := *s.Spool.Config
		conf.Names.VirtDomains = imapdconf.VirtDomainsOn
		s.Spool.Config = &conf
		expect(t, server(t, s), "spool", doctor.Warning, "virtdomains")
	})
	t.Run("damaged", func(t *testing.T) {
		s := site(t)
		index := mailboxFile(t, "carol", "cyrus.index")
		whole, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(index, whole[:20], 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(index, whole, 0o600); err != nil {
				t.Error(err)
			}
		})
		s.Spool.Mailbox = "carol"
		expect(t, server(t, s), "spool", doctor.Wrong, "carol", "fault")
	})
	t.Run("locks that cannot be made", func(t *testing.T) {
		s := site(t)
		conf := *s.Spool.Config
		conf.Layout.LockPath = filepath.Join(mailboxFile(t, "alice", "cyrus.index"), "lock")
		s.Spool.Config, s.Spool.Check = &conf, checker(t, &conf)
		expect(t, server(t, s), "spool", doctor.Wrong, "the mailbox of alice cannot be opened", "not a directory")
	})
	t.Run("locked", func(t *testing.T) {
		s := site(t)
		f, err := os.OpenFile(mailboxFile(t, "bob", "cyrus.index"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if ok, err := ofd.TryLock(f, true); !ok || err != nil {
			t.Fatal(ok, err)
		}
		s.Spool.Mailbox = "bob"
		expect(t, server(t, s), "spool", doctor.Wrong, "bob is locked")
	})
}

// mailboxFile finds a file of a user's mailbox.
func mailboxFile(t *testing.T, user, name string) string {
	t.Helper()
	conf, err := imapdconf.Read(realm.Path("imapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := cyrus.Open(cyrus.Options{Config: conf, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	d, err := store.Dump(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(d.Directory, name)
}

func TestBrokenPorts(t *testing.T) {
	other := listen(t, "+OK Dovecot ready.\r\n")
	web := listen(t, "HTTP/1.0 400 no\r\n")
	for _, c := range []struct {
		name  string
		port  doctor.Port
		grade doctor.Grade
		words string
	}{
		{"nobody", doctor.Port{Name: "pop3", Address: free(t), Protocol: "pop3"}, doctor.Warning, "nobody listens"},
		{"cannot be opened", doctor.Port{Name: "pop3", Address: bound(t), Protocol: "pop3"}, doctor.Wrong, "cannot be opened"},
		{"another server", doctor.Port{Name: "pop3", Address: other, Protocol: "pop3"}, doctor.Warning, "Dovecot"},
		{"no TLS", doctor.Port{Name: "pop3s", Address: web, Protocol: "pop3s"}, doctor.Wrong, "not as pop3s does"},
		{"no KPOP", doctor.Port{Name: "kpop", Address: web, Protocol: "kpop"}, doctor.Wrong, "sendauth is refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site(t)
			s.Ports = []doctor.Port{c.port}
			expect(t, server(t, s), "ports", c.grade, c.words)
		})
	}
}

// bound is an address that refuses to be connected to and to be opened: a socket
// has it that does not listen.
func bound(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return local(name.(*unix.SockaddrInet4).Port)
}

func listen(t *testing.T, greeting string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(greeting))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestBrokenCertificate(t *testing.T) {
	good, caFile := authority(t)
	for _, c := range []struct {
		name  string
		leaf  x509.Certificate
		ca    string
		grade doctor.Grade
		words string
	}{
		{"another name", x509.Certificate{DNSNames: []string{"other.test"}, NotAfter: in(100)}, caFile, doctor.Wrong, "not for localhost"},
		{"over", x509.Certificate{DNSNames: []string{"localhost"}, NotAfter: in(-1)}, caFile, doctor.Wrong, "ended on"},
		{"nearly over", x509.Certificate{DNSNames: []string{"localhost"}, NotAfter: in(10)}, caFile, doctor.Warning, "ends in 9 days"},
		{"not yet", x509.Certificate{DNSNames: []string{"localhost"}, NotBefore: in(2), NotAfter: in(100)}, caFile, doctor.Wrong, "begins on"},
		{"CA not known", x509.Certificate{DNSNames: []string{"localhost"}, NotAfter: in(100)}, realm.Path("ca.pem"), doctor.Warning, "no chain leads"},
		{"a client's", x509.Certificate{DNSNames: []string{"localhost"}, NotAfter: in(100), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, caFile, doctor.Wrong, "is no server's"},
		{"no CA file", x509.Certificate{DNSNames: []string{"localhost"}, NotAfter: in(100)}, "/dev/null", doctor.Wrong, "holds no CA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := site(t)
			s.Certificate.File, s.Certificate.Key = good.sign(t, c.leaf)
			s.Certificate.CA = c.ca
			expect(t, server(t, s), "tls", c.grade, c.words)
		})
	}
	for name, c := range map[string]struct {
		breaks func(*doctor.Certificate)
		grade  doctor.Grade
		words  string
	}{
		"none":          {func(c *doctor.Certificate) { *c = doctor.Certificate{} }, doctor.Warning, "there is no certificate"},
		"another's key": {func(c *doctor.Certificate) { _, c.Key = good.sign(t, x509.Certificate{NotAfter: in(1)}) }, doctor.Wrong, "private key does not match"},
		"no file":       {func(c *doctor.Certificate) { c.File = "/nonexistent" }, doctor.Wrong, "no such file"},
		"key open to all": {func(c *doctor.Certificate) {
			c.Key = copied(t, c.Key)
			chmod(t, c.Key, 0o644)
		}, doctor.Warning, "read by everybody"},
	} {
		t.Run(name, func(t *testing.T) {
			s := site(t)
			c.breaks(&s.Certificate)
			expect(t, server(t, s), "tls", c.grade, c.words)
		})
	}
}

func in(days int) time.Time { return time.Now().AddDate(0, 0, days) }

// A signer is a CA made for a test.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func authority(t *testing.T) (signer, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: in(-10), NotAfter: in(1000), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer{c, key}, pemFile(t, "CERTIFICATE", der)
}

func (s signer) sign(t *testing.T, leaf x509.Certificate) (certificate, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf.SerialNumber = big.NewInt(2)
	if leaf.ExtKeyUsage == nil {
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if leaf.NotBefore.IsZero() {
		leaf.NotBefore = in(-5)
	}
	der, err := x509.CreateCertificate(rand.Reader, &leaf, s.cert, &k.PublicKey, s.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pemFile(t, "CERTIFICATE", der), pemFile(t, "PRIVATE KEY", keyDER)
}

func pemFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func copied(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(out, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// A client's machine: the realm's krb5.conf and a ticket of alice's.
func target(t *testing.T, cache string) *doctor.Target {
	t.Helper()
	return &doctor.Target{
		Host: integration.Host, Cache: cache, CA: realm.Path("ca.pem"), Profile: profile(t, realm.Path("krb5.conf")),
		Ports: map[string]string{"kpop": strconv.Itoa(realm.Ports.KPOP), "pop3": strconv.Itoa(realm.Ports.POP3), "pop3s": strconv.Itoa(realm.Ports.POP3S)},
	}
}

func kinit(t *testing.T, args ...string) string {
	t.Helper()
	cache := filepath.Join(t.TempDir(), "cc")
	if err := realm.Kinit(t.Context(), "alice", cache, args...); err != nil {
		t.Fatal(err)
	}
	return cache
}

func client(t *testing.T, target *doctor.Target) *doctor.Report {
	t.Helper()
	r := doctor.Client(t.Context(), target)
	remedied(t, r)
	return r
}

func TestSoundClient(t *testing.T) {
	r := client(t, target(t, kinit(t)))
	if r.Worst() != doctor.OK {
		t.Errorf("all is sound, and yet:\n%s", text(t, r))
	}
	expect(t, r, "ticket", doctor.OK, "alice@REALM.TEST")
	expect(t, r, "ticket", doctor.OK, "pop/localhost was given, kvno 2")
	expect(t, r, "ports", doctor.OK, "kpop")
	expect(t, r, "tls", doctor.OK, "trusted")
}

func TestBrokenClient(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks func(t *testing.T, target *doctor.Target)
		check  string
		grade  doctor.Grade
		words  string
	}{
		{"no ticket", func(_ *testing.T, target *doctor.Target) { target.Cache = "/nonexistent" }, "ticket", doctor.Wrong, "no ticket cache"},
		{"damaged cache", func(t *testing.T, target *doctor.Target) {
			if err := os.WriteFile(target.Cache, []byte("\x05\x04\x00\x0c\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "ticket", doctor.Wrong, "damaged"},
		{"a name without a ticket", func(_ *testing.T, target *doctor.Target) { target.Host = "ip6-localhost" }, "ticket", doctor.Wrong, "no ticket for pop/ip6-localhost"},
		{"an address", func(_ *testing.T, target *doctor.Target) { target.Host = "127.0.0.1" }, "dns", doctor.Wrong, "an address and not a name"},
		{"no such name", func(t *testing.T, target *doctor.Target) {
			target.Host, target.Resolver = "mail.realm.test", zone{}.serve(t)
		}, "dns", doctor.Wrong, "has no address"},
		{"server down", func(t *testing.T, target *doctor.Target) {
			_, port, _ := net.SplitHostPort(free(t))
			target.Ports = map[string]string{"kpop": port}
		}, "ports", doctor.Wrong, "no port of localhost answers"},
		{"CA not known", func(t *testing.T, target *doctor.Target) { _, target.CA = authority(t) }, "tls", doctor.Wrong, "not trusted"},
		{"no CA file", func(_ *testing.T, target *doctor.Target) { target.CA = "/dev/null" }, "tls", doctor.Wrong, "holds no CA"},
		{"another name backwards", func(t *testing.T, target *doctor.Target) {
			target.Host = "node9.realm.test"
			target.Resolver = zone{a: map[string]string{target.Host: "192.0.2.1"}, ptr: map[string]string{"1.2.0.192.in-addr.arpa": "dhcp17.realm.test"}}.serve(t)
		}, "ticket", doctor.Warning, "there would be no ticket for pop/dhcp17.realm.test; rdns is off here"},
		{"no krb5.conf", func(_ *testing.T, target *doctor.Target) { target.Profile = nil }, "krb5.conf", doctor.Wrong, "no krb5.conf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := target(t, kinit(t))
			c.breaks(t, target)
			expect(t, client(t, target), c.check, c.grade, c.words)
		})
	}
	t.Run("ticket over", func(t *testing.T) {
		target := target(t, kinit(t, "-l", "1s"))
		time.Sleep(1100 * time.Millisecond) // a ticket's life cannot be shorter
		expect(t, client(t, target), "ticket", doctor.Wrong, "ended")
	})
}

// The command makes a site of the configuration, and fails when it is not sound.
func TestCommand(t *testing.T) {
	kpop, err := filepath.Abs("../../../bin/kpop")
	if err != nil {
		t.Fatal(err)
	}
	tool := realm.Tool(kinit(t))
	good := realm.Path("kpopd.toml")
	toml, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	bad := func(old, replacement string) string {
		path := filepath.Join(t.TempDir(), "kpopd.toml")
		text := strings.Replace(string(toml), old, replacement, 1)
		if text == string(toml) {
			t.Fatalf("no %q in the configuration", old)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name string
		args []string
		good bool
		want string
	}{
		{"sound", []string{"--config", good, "--ca", realm.Path("ca.pem"), "--strict"}, true, "0 wrong"},
		{"sound, as JSON", []string{"--config", good, "--ca", realm.Path("ca.pem"), "--json"}, true, `"grade": "ok"`},
		{"CA not known", []string{"--config", good}, true, "warning  tls"},
		{"CA not known, strict", []string{"--config", good, "--strict"}, false, "warning  tls"},
		{"unknown key", []string{"--config", bad("[log]", "[lag]")}, false, "wrong    config"},
		{"value out of bounds", []string{"--config", bad(`level = "info"`, `level = "loud"`)}, false, "log.level"},
		{"no keytab", []string{"--config", bad("/server.keytab", "/nothing.keytab")}, false, "wrong    keytab"},
		{"no krb5.conf", []string{"--config", bad("/krb5.conf", "/nothing.conf")}, false, "wrong    krb5.conf"},
		{"no imapd.conf that can be read", []string{"--config", bad("/imapd.conf", "/kpopd.toml")}, false, "wrong    spool"},
		{"no LDAP password", []string{"--config", bad("/ldap/kpopd.pw", "/ldap/nothing.pw")}, false, "wrong    ldap"},
		{"a client", []string{"--client", "localhost", "--ca", realm.Path("ca.pem"), "--ports", fmt.Sprintf("kpop=%d,pop3s=%d", realm.Ports.KPOP, realm.Ports.POP3S)}, true, "0 wrong"},
		{"a client of nothing", []string{"--client", "localhost", "--ports", "kpop=1"}, false, "no port of localhost answers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := tool.Run(t.Context(), kpop, append([]string{"doctor"}, c.args...)...)
			if (err == nil) != c.good || !strings.Contains(out, c.want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
