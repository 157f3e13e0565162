package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

const krb5Conf = `# Made for this realm only.
[libdefaults]
  default_realm = %[1]s
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  forwardable = true
%[3]s
[realms]
  %[1]s = {
    kdc = 127.0.0.1:%[2]d
  }
[domain_realm]
  localhost = %[1]s
`

const kdcConf = `[kdcdefaults]
  kdc_listen = 127.0.0.1:%[2]d
  kdc_tcp_listen = 127.0.0.1:%[2]d
[realms]
  %[1]s = {
    database_name = %[3]s/kdc/principal
    key_stash_file = %[3]s/kdc/stash
    acl_file = %[3]s/kdc/acl
    max_life = 12h
    max_renewable_life = 7d
    supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal aes256-cts-hmac-sha384-192:normal aes128-cts-hmac-sha256-128:normal
  }
[logging]
  kdc = FILE:%[3]s/krb5kdc.log
  default = FILE:%[3]s/krb5kdc.log
`

func (r *Realm) writeKerberos(extra string) error {
	if err := os.MkdirAll(r.path("kdc"), 0o700); err != nil {
		return err
	}
	files := map[string]string{
		"krb5.conf": fmt.Sprintf(krb5Conf, RealmName, r.Ports.KDC, extra),
		"kdc.conf":  fmt.Sprintf(kdcConf, RealmName, r.Ports.KDC, r.Dir),
		"kdc/acl":   "",
	}
	for name, text := range files {
		if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Services are the principals of the machine, all in its one keytab, as on any
// machine. kpopd must take tickets for the first two only.
var Services = []string{"pop", "pop3", "imap", "host"}

// startKDC makes the database with its principals and starts krb5kdc.
func (r *Realm) startKDC(ctx context.Context) error {
	t := Tool{Env: r.environment(), Dir: r.Dir}
	if _, err := t.Run(ctx, "/usr/sbin/kdb5_util", "create", "-r", RealmName, "-s", "-P", newPassword()); err != nil {
		return err
	}
	if err := r.addPrincipals(ctx, append(Users, "alice/admin")...); err != nil {
		return err
	}
	var script strings.Builder
	for _, service := range Services {
		fmt.Fprintf(&script, "addprinc -randkey %s/%s\n", service, Host)
		fmt.Fprintf(&script, "ktadd -k %s %s/%s\n", r.path("server.keytab"), service, Host)
	}
	if _, err := r.Kadmin(ctx, script.String()); err != nil {
		return err
	}
	return r.StartKDC()
}

// addPrincipals makes users' principals, each with a password and a keytab. Keys
// of passwords take their time: kadmin.local is given some names at once.
func (r *Realm) addPrincipals(ctx context.Context, users ...string) error {
	const atOnce = 20
	for some := range slices.Chunk(users, atOnce) {
		if err := r.addSomePrincipals(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (r *Realm) addSomePrincipals(ctx context.Context, users []string) error {
	var script strings.Builder
	for _, user := range users {
		name, password := fileName(user), newPassword()
		if err := os.WriteFile(r.path(name+".pw"), []byte(password+"\n"), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(&script, "addprinc -pw %s %s\n", password, user)
		fmt.Fprintf(&script, "ktadd -norandkey -k %s %s\n", r.path(name+".keytab"), user)
	}
	_, err := r.Kadmin(ctx, script.String())
	return err
}

// fileName makes a principal's name fit for a file: alice/admin is alice-admin.
func fileName(principal string) string { return strings.ReplaceAll(principal, "/", "-") }

// Kadmin runs kadmin.local's commands, one a line. kadmin.local exits 0 whatever
// happens, so that its words decide.
func (r *Realm) Kadmin(ctx context.Context, commands string) (string, error) {
	t := Tool{Env: r.environment(), Dir: r.Dir}
	out, err := t.Input(ctx, commands, "/usr/sbin/kadmin.local", "-r", RealmName)
	if err == nil && (strings.Contains(out, "while ") || strings.Contains(out, "Usage:")) {
		err = fmt.Errorf("integration: kadmin.local: %s", out)
	}
	return out, err
}

// Kinit gets user a ticket into cache.
func (r *Realm) Kinit(ctx context.Context, user, cache string, args ...string) error {
	args = append(args, "-k", "-t", r.path(fileName(user)+".keytab"), user)
	_, err := r.Tool(cache).Run(ctx, "kinit", args...)
	return err
}

// Password is a user's.
func (r *Realm) Password(user string) (string, error) {
	b, err := os.ReadFile(r.path(fileName(user) + ".pw"))
	return strings.TrimSpace(string(b)), err
}
