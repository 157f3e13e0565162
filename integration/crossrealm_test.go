//go:build integration

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth/kdc"
	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
	"github.com/kpopd/kpopd/krb5conf"
)

const other = "OTHER.TEST"

// A neighbour is a realm of its own with its own KDC, and keys in common with
// the realm of the tests.
type neighbour struct {
	t    *testing.T
	dir  string
	tool integration.Tool
}

// newNeighbour makes the realm with its people and starts its krb5kdc.
func newNeighbour(t *testing.T, people ...string) *neighbour {
	t.Helper()
	dir := t.TempDir()
	n := &neighbour{t: t, dir: dir, tool: integration.Tool{Dir: dir, Env: []string{
		"KRB5_CONFIG=" + filepath.Join(dir, "krb5.conf"), "KRB5_KDC_PROFILE=" + filepath.Join(dir, "kdc.conf"),
	}}}
	port := freePort(t)
	write(t, filepath.Join(dir, "krb5.conf"), fmt.Sprintf(`[libdefaults]
  default_realm = %[1]s
  dns_lookup_kdc = false
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  %[1]s = {
    kdc = 127.0.0.1:%[2]d
  }
  %[3]s = {
    kdc = 127.0.0.1:%[4]d
  }
[domain_realm]
  localhost = %[3]s
[capaths]
  %[1]s = {
    %[3]s = .
  }
`, other, port, integration.RealmName, realm.Ports.KDC))
	write(t, filepath.Join(dir, "kdc.conf"), fmt.Sprintf(`[kdcdefaults]
  kdc_listen = 127.0.0.1:%[2]d
  kdc_tcp_listen = 127.0.0.1:%[2]d
[realms]
  %[1]s = {
    database_name = %[3]s/principal
    key_stash_file = %[3]s/stash
    acl_file = %[3]s/acl
    supported_enctypes = aes256-cts-hmac-sha1-96:normal
  }
`, other, port, dir))
	n.run("/usr/sbin/kdb5_util", "create", "-r", other, "-s", "-P", "master-of-the-neighbour")
	script := fmt.Sprintf("addprinc -pw shared krbtgt/%s@%s\n", integration.RealmName, other)
	for _, name := range people {
		script += fmt.Sprintf("addprinc -randkey %[1]s\nktadd -k %[2]s/%[1]s.keytab %[1]s\n", name, dir)
	}
	if out, err := n.tool.Input(t.Context(), script, "/usr/sbin/kadmin.local", "-r", other); err != nil || strings.Contains(out, "while ") {
		t.Fatal(err, out)
	}
	// The same password and salt give the same keys on both sides.
	if _, err := realm.Kadmin(t.Context(), fmt.Sprintf("addprinc -e aes256-cts-hmac-sha1-96:normal -pw shared krbtgt/%s@%s\n", integration.RealmName, other)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = realm.Kadmin(context.Background(), "delprinc -force krbtgt/"+integration.RealmName+"@"+other+"\n")
	})
	n.start(port)
	return n
}

func (n *neighbour) run(name string, args ...string) {
	n.t.Helper()
	if _, err := n.tool.Run(n.t.Context(), name, args...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *neighbour) start(port int) {
	n.t.Helper()
	kdc := exec.Command("/usr/sbin/krb5kdc", "-n", "-r", other) //nolint:noctx // the cleanup ends it
	kdc.Env, kdc.Dir = append(os.Environ(), n.tool.Env...), n.dir
	if err := kdc.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = kdc.Process.Kill()
		_ = kdc.Wait()
	})
	player.Until(n.t, "the neighbour's KDC answers", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// stat logs one of the neighbour's people in with curl, by GSSAPI, and gives
// curl's dialogue.
func (n *neighbour) stat(name string) string {
	n.t.Helper()
	tool := n.tool
	tool.Env = append(tool.Env, "KRB5CCNAME=FILE:"+filepath.Join(n.dir, name+".cc"))
	if _, err := tool.Run(n.t.Context(), "kinit", "-k", "-t", filepath.Join(n.dir, name+".keytab"), name+"@"+other); err != nil {
		n.t.Fatal(err)
	}
	out, _ := tool.Run(n.t.Context(), "curl", "-sSv", "--cacert", realm.Path("ca.pem"), "--login-options", "AUTH=GSSAPI", "-u", ":",
		fmt.Sprintf("pop3s://%s:%d/", integration.Host, realm.Ports.POP3S))
	return out
}

// A ticket of another realm opens nothing, until that realm is listed; then
// its people are nobody here, until a line or an entry says who they are.
func TestCrossRealm(t *testing.T) {
	n := newNeighbour(t, "alice", "zoe", "yann")
	people(t, map[string]string{"foreign": ""})
	if err := realm.LDAP().Set("foreign", "krbPrincipalName", "foreign@"+integration.RealmName, "zoe@"+other); err != nil {
		t.Fatal(err)
	}
	const opened = "Maildrop is locked and ready"
	for _, name := range []string{"alice", "zoe", "yann"} {
		if out := n.stat(name); strings.Contains(out, opened) || !strings.Contains(out, "-ERR") {
			t.Errorf("%s of a realm that is not listed:\n%s", name, out)
		}
	}
	table := filepath.Join(t.TempDir(), "map")
	write(t, table, "yann@"+other+" foreign\n")
	reconfigure(t, "[kerberos]\n", "[kerberos]\ntrusted_realms = [\""+integration.RealmName+"\", \""+other+"\"]\n",
		"[ldap]\n", "map = \""+table+"\"\n\n[ldap]\n")
	for name, want := range map[string]string{"alice": "-ERR [AUTH]", "zoe": opened, "yann": opened} {
		if out := n.stat(name); !strings.Contains(out, want) {
			t.Errorf("%s of a realm that is listed: no %s in\n%s", name, want, out)
		}
	}
	logged(t, "login refused", "alice@"+other, "unmapped")
	if answer := login(t, "alice", "alice"); !strings.HasPrefix(answer, "+OK") {
		t.Errorf("alice of this realm: %s", answer)
	}
}

// fetchmail with SDPS: each host name of an account has a maildrop of its own,
// and a ticket opens them by the plus sign or the at sign.
func TestFetchmailSDPS(t *testing.T) {
	people(t, map[string]string{"alice-shop": ""})
	for attribute, value := range map[string]string{"kpopHost": "shop.test", "kpopAlias": "alice", "krbPrincipalName": "x@" + integration.RealmName} {
		if err := realm.LDAP().Set("alice-shop", attribute, value); err != nil {
			t.Fatal(err)
		}
	}
	reconfigure(t, "principal_filter =", `host_filter = "(|(&(kpopHost={host})(kpopAlias={user}))(&(mailHost={host})(uid={user})))"`+"\nprincipal_filter =")
	folder := t.TempDir()
	const message = "From: Postmaster <postmaster@realm.test>\nSubject: of the shop\n\nx\n"
	write(t, filepath.Join(folder, "1.eml"), strings.ReplaceAll(message, "\n", "\r\n"))
	if err := realm.Fill(t.Context(), "alice-shop", folder); err != nil {
		t.Fatal(err)
	}
	own := fill(t, "alice")
	cache := cacheOf(t, "alice")
	for name, want := range map[string][][]byte{"alice": own, "alice@shop.test": {[]byte(message)}, "alice+shop.test": {[]byte(message)}} {
		for way, setup := range map[string]integration.FetchmailSetup{"KPOP": integration.FetchSDPSKPOP, "GSSAPI": integration.FetchSTLS} {
			var log strings.Builder
			got, err := realm.Fetchmail(t.Context(), &log, cache, setup.As(name))
			if err != nil {
				t.Fatalf("%s by %s: %v %s", name, way, err, log.String())
			}
			if err := integration.SameMail(got, want); err != nil {
				t.Errorf("%s by %s: %v", name, way, err)
			}
		}
	}
}

// A keytab of one realm gets a ticket for a service of another that has a key in
// common with it, as for an LDAP server; of a realm that has none it gets none.
func TestTicketAbroad(t *testing.T) {
	n := newNeighbour(t, "alice")
	own, err := keytab.Load(filepath.Join(n.dir, "alice.keytab"))
	if err != nil {
		t.Fatal(err)
	}
	profile, err := krb5conf.Load(filepath.Join(n.dir, "krb5.conf"))
	if err != nil {
		t.Fatal(err)
	}
	kdcs := &kdc.Realm{Name: other, Config: profile.Client, UDPLimit: profile.UDPLimit()}
	e := kdcs.Begin(types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "alice"))
	tgt, err := e.Initial(t.Context(), kdc.Keys{Keytab: own})
	if err != nil {
		t.Fatal(err)
	}
	grant, err := e.Service(t.Context(), tgt, "pop/"+integration.Host, e.HostRealm(integration.Host))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := keytab.Load(realm.Path("server.keytab"))
	if err != nil {
		t.Fatal(err)
	}
	sealed := grant.Ticket.EncPart
	key, _, err := theirs.GetEncryptionKey(grant.Ticket.SName, integration.RealmName, sealed.KVNO, sealed.EType)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := kdc.Open(sealed, key, keyusage.KDC_REP_TICKET)
	if err != nil {
		t.Fatal(err)
	}
	var part messages.EncTicketPart
	if err := part.Unmarshal(plain); err != nil || part.CRealm != other || part.CName.PrincipalNameString() != "alice" {
		t.Errorf("the ticket is of %s@%s: %v", part.CName.PrincipalNameString(), part.CRealm, err)
	}
	var refusal *kdc.Refusal
	if _, err := e.Service(t.Context(), tgt, "ldap/far.test", "FAR.TEST"); !errors.As(err, &refusal) {
		t.Errorf("of a realm without a key: %v", err)
	}
}
