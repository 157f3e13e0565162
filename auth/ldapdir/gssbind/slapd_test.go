//go:build integration

package gssbind_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/kdc"
	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/ldapdir/gssbind"
	"github.com/kpopd/kpopd/auth/ldapdir/ldaptest"
	"github.com/kpopd/kpopd/auth/rules"
)

const realm = "REALM.TEST"

// A kdcServer is a private MIT KDC.
type kdcServer struct {
	t    *testing.T
	dir  string
	addr string
	cmd  *exec.Cmd
}

func startKDC(t *testing.T) *kdcServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &kdcServer{t: t, dir: t.TempDir(), addr: l.Addr().String()}
	l.Close()
	_, port, _ := net.SplitHostPort(k.addr)
	k.write("krb5.conf", "[libdefaults]\ndefault_realm = %s\ndns_lookup_kdc = false\nrdns = false\ndns_canonicalize_hostname = false\n"+
		"[realms]\n%s = {\nkdc = %s\n}\n[domain_realm]\nlocalhost = %s\n", realm, realm, k.addr, realm)
	k.write("kdc.conf", "[realms]\n%s = {\ndatabase_name = %s\nkey_stash_file = %s\nacl_file = %s\nkdc_listen = 127.0.0.1:%s\nkdc_tcp_listen = 127.0.0.1:%s\n"+
		"supported_enctypes = aes256-sha1:normal aes128-sha1:normal aes256-sha2:normal aes128-sha2:normal\n}\n",
		realm, k.path("db"), k.path("stash"), k.path("acl"), port, port)
	k.run("kdb5_util", "create", "-s", "-P", "master", "-r", realm)
	k.cmd = k.command("krb5kdc", "-n", "-r", realm, "-P", k.path("pid"))
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.cmd.Process.Kill()
		k.cmd.Wait()
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		c, err := net.Dial("tcp", k.addr)
		if err == nil {
			c.Close()
			return k
		}
		if time.Now().After(deadline) {
			t.Fatal("the KDC does not answer")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (k *kdcServer) path(name string) string { return filepath.Join(k.dir, name) }

func (k *kdcServer) write(name, format string, args ...any) {
	k.t.Helper()
	if err := os.WriteFile(k.path(name), fmt.Appendf(nil, format, args...), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kdcServer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/usr/sbin/"+name, args...)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+k.path("krb5.conf"), "KRB5_KDC_PROFILE="+k.path("kdc.conf"))
	return cmd
}

func (k *kdcServer) run(name string, args ...string) {
	k.t.Helper()
	if out, err := k.command(name, args...).CombinedOutput(); err != nil {
		k.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (k *kdcServer) admin(query string) {
	k.t.Helper()
	k.run("kadmin.local", "-r", realm, "-q", query)
}

// rekey gives a principal a new key, and a keytab with nothing else.
func (k *kdcServer) rekey(principal, enctype string) string {
	k.t.Helper()
	path := k.path(strings.ReplaceAll(principal, "/", "_") + ".keytab")
	os.Remove(path)
	k.admin("ktadd -e " + enctype + ":normal -k " + path + " " + principal)
	return path
}

func (k *kdcServer) config() *config.Config {
	text, err := os.ReadFile(k.path("krb5.conf"))
	if err != nil {
		k.t.Fatal(err)
	}
	c, err := config.NewFromString(string(text))
	if err != nil {
		k.t.Fatal(err)
	}
	c.LibDefaults.UDPPreferenceLimit = 1
	c.LibDefaults.DefaultTktEnctypeIDs = []int32{20, 19, 18, 17}
	c.LibDefaults.DefaultTGSEnctypeIDs = []int32{20, 19, 18, 17}
	return c
}

func (k *kdcServer) realm() *kdc.Realm { return &kdc.Realm{Name: realm, Config: k.config} }

func load(t *testing.T, path string) func() *keytab.Keytab {
	t.Helper()
	kt, err := keytab.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return func() *keytab.Keytab { return kt }
}

// setup is a realm with a directory that only users may read.
func setup(t *testing.T) (*kdcServer, *ldaptest.Server) {
	t.Helper()
	k := startKDC(t)
	k.admin("addprinc -randkey ldap/localhost")
	k.admin("addprinc -randkey pop/localhost")
	dir, err := os.MkdirTemp("", "slapd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := ldaptest.Start(t.Context(), dir, ldaptest.Options{
		Host: "localhost", Realm: realm, Keytab: k.rekey("ldap/localhost", "aes256-cts"), Krb5Conf: k.path("krb5.conf"), OnlyUsers: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if err := s.Add(ldaptest.User{Name: "alice", Mailbox: "alice"}); err != nil {
		t.Fatal(err)
	}
	return k, s
}

func directory(t *testing.T, s *ldaptest.Server, bind ldapdir.Bind) *ldapdir.Directory {
	t.Helper()
	d, err := ldapdir.New(ldapdir.Options{
		Connect:    ldapdir.Connect{Servers: []string{fmt.Sprintf("ldap://localhost:%d", s.Port)}, Bind: bind},
		Search:     ldapdir.Search{Base: ldaptest.Base, Filter: "(uid={user})"},
		Attributes: ldapdir.Attributes{Mailbox: "kpopMailbox"},
		Limits:     ldapdir.Limits{MaxAge: time.Nanosecond}, // each lookup binds
		Cache:      ldapdir.CacheLimits{Found: time.Nanosecond, Stale: -1},
		Log:        slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestSlapdGSSAPI(t *testing.T) {
	t.Parallel()
	k, s := setup(t)
	own := load(t, k.rekey("pop/localhost", "aes256-cts"))
	var configs atomic.Int32
	options := gssbind.Options{Principal: "pop/localhost", Keytab: own, Realm: &kdc.Realm{Name: realm, Config: func() *config.Config {
		configs.Add(1)
		return k.config()
	}}}
	binder := gssbind.New(options)
	var who string
	d := directory(t, s, func(ctx context.Context, c *ldap.Conn, host string) error {
		err := binder.Bind(ctx, c, host)
		if err == nil {
			result, err := c.WhoAmI(nil)
			if err != nil {
				return err
			}
			who = result.AuthzID
		}
		return err
	})
	find := func() error {
		e, err := d.Find(t.Context(), rules.Query{User: "alice"}, nil)
		if err == nil && e.Mailbox != "alice" {
			return fmt.Errorf("found %+v", e)
		}
		return err
	}
	for range 3 {
		if err := find(); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(strings.ToLower(who), "dn:uid=pop/localhost,cn=realm.test,cn=gssapi,cn=auth") {
		t.Errorf("bound as %q", who)
	}
	if n := configs.Load(); n != 1 {
		t.Errorf("the KDC was asked for %d tickets, want 1", n)
	}
	// The server's key changes under the ticket that is kept, through all enctypes.
	for _, enctype := range []string{"aes128-cts", "aes128-sha2", "aes256-sha2", "aes256-cts"} {
		k.rekey("ldap/localhost", enctype)
		if err := find(); err != nil {
			t.Errorf("after a new %s key: %v", enctype, err)
		}
	}
	if n := configs.Load(); n != 5 {
		t.Errorf("the KDC was asked for %d tickets, want 5", n)
	}
	options.Renew = time.Nanosecond
	// The KDC wants a proof, and has several keys of ours.
	k.admin("modprinc +requires_preauth pop/localhost")
	for _, enctypes := range []string{"aes128-sha2", "aes256-cts:normal,aes128-cts", "aes128-cts:normal,aes256-sha2"} {
		several := options
		several.Keytab = load(t, k.rekey("pop/localhost", enctypes))
		if _, err := directory(t, s, gssbind.New(several).Bind).Find(t.Context(), rules.Query{User: "alice"}, nil); err != nil {
			t.Errorf("with keys of %s: %v", enctypes, err)
		}
	}
	options.Keytab = load(t, k.rekey("pop/localhost", "aes256-cts"))
	configs.Store(5)
	short := directory(t, s, gssbind.New(options).Bind)
	for range 2 {
		if _, err := short.Find(t.Context(), rules.Query{User: "alice"}, nil); err != nil {
			t.Error(err)
		}
	}
	if n := configs.Load(); n != 7 {
		t.Errorf("tickets are not renewed: %d", n)
	}
}

func TestSlapdGSSAPIFailures(t *testing.T) {
	t.Parallel()
	k, s := setup(t)
	old := load(t, k.rekey("pop/localhost", "aes256-cts"))
	current := load(t, k.rekey("pop/localhost", "aes256-cts"))
	for name, o := range map[string]gssbind.Options{
		"old key":           {Principal: "pop/localhost", Keytab: old},
		"not in the keytab": {Principal: "pop/nobody", Keytab: current},
		"unknown service":   {Principal: "pop/localhost", Keytab: current, Service: "directory"},
		"no keytab":         {Principal: "pop/localhost", Keytab: func() *keytab.Keytab { return nil }},
		"no realm":          {Principal: "pop/localhost", Keytab: current, Realm: &kdc.Realm{Name: realm, Config: config.New}},
		"another's authzid": {Principal: "pop/localhost", Keytab: current, AuthzID: "dn:" + ldaptest.UserDN("alice")},
	} {
		if o.Realm == nil {
			o.Realm = k.realm()
		}
		_, err := directory(t, s, gssbind.New(o).Bind).Find(t.Context(), rules.Query{User: "alice"}, nil)
		if !errors.Is(err, auth.ErrTemporary) || errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.cmd.Process.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	o := gssbind.Options{Principal: "pop/localhost", Realm: k.realm(), Keytab: current}
	if _, err := directory(t, s, gssbind.New(o).Bind).Find(ctx, rules.Query{User: "alice"}, nil); !errors.Is(err, auth.ErrTemporary) {
		t.Errorf("without a KDC: %v", err)
	}
}
