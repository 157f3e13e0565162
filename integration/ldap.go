package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/ldapdir/ldaptest"
	"github.com/kpopd/kpopd/integration/spool"
)

// ldapTOML is the realm's directory in kpopd's configuration. What it learns it
// remembers for a moment only: whoever changes an entry wants to see it. Guesses
// are free, since everybody comes from 127.0.0.1.
const ldapTOML = `[guesses]
free_per_user = 1000000000
free_per_address = 1000000000

[identity]
directory = "ldap"

[ldap]
servers = ["%[2]s"]
start_tls = true
ca = "%[1]s/ca.pem"
bind = "simple"
bind_dn = "cn=kpopd,%[3]s"
password_file = "%[1]s/ldap/kpopd.pw"
base = "%[3]s"
filter = "(&(objectClass=inetOrgPerson)(uid={user}))"
principal_filter = "(krbPrincipalName={principal})"

[ldap.cache]
found = "1s"
not_found = "1ms"

[ldap.attributes]
user = "uid"
mailbox = "kpopMailbox"
aliases = "kpopAlias"
locked = "kpopLocked"
home = "mailHost"
protocols = "kpopProtocol"
acts_for = "kpopActsFor"
uid_style = "kpopUIDStyle"
retention = "kpopRetention"
`

// startLDAP starts a slapd of the realm's own with the realm's people in it.
func (r *Realm) startLDAP(ctx context.Context) error {
	if err := os.MkdirAll(r.path("ldap"), 0o700); err != nil {
		return err
	}
	s, err := ldaptest.Prepare(r.path("ldap"), ldaptest.Options{
		Port: r.Ports.LDAP, NoSocket: true, Certificate: r.path("server.pem"), Key: r.path("server.key"), CA: r.path("ca.pem"),
	})
	if err != nil {
		return err
	}
	if err := r.runLDAP(ctx, s); err != nil {
		return err
	}
	password := newPassword()
	if err := os.WriteFile(r.path("ldap", "kpopd.pw"), []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.AddBase(); err != nil {
		return err
	}
	if _, err := s.AddService("kpopd", password); err != nil {
		return err
	}
	for _, user := range Users {
		if err := s.Add(entryOf(user)); err != nil {
			return err
		}
	}
	return nil
}

// LDAP is the realm's directory, to change.
func (r *Realm) LDAP() *ldaptest.Server { return ldaptest.Open(r.path("ldap"), r.Ports.LDAP) }

// ldapVariables are the directory's part of DIR/env.
func (r *Realm) ldapVariables() [][2]string {
	s, pid := r.LDAP(), 0
	pid, _ = r.pid("slapd")
	return [][2]string{
		{"LDAP_URI", s.URI}, {"LDAP_BASE", ldaptest.Base}, {"LDAP_PORT", strconv.Itoa(s.Port)},
		{"LDAP_ADMIN_DN", s.AdminDN}, {"LDAP_ADMIN_PASSWORD_FILE", s.PasswordFile}, {"SLAPD_PID", strconv.Itoa(pid)},
	}
}

func entryOf(user string) ldaptest.User {
	return ldaptest.User{Name: user, Mailbox: user, More: map[string][]string{"krbPrincipalName": {user + "@" + RealmName}}}
}

// AddUser makes users: a principal with its password in DIR/NAME.pw and its key
// in DIR/NAME.keytab, an entry in the directory, and an empty maildrop. What is
// there already stays as it is.
func (r *Realm) AddUser(ctx context.Context, users ...string) error {
	var missing []string
	for _, user := range users {
		if err := auth.CheckUser(user); err != nil {
			return fmt.Errorf("integration: %w", err)
		}
		if _, err := os.Stat(r.path(user + ".keytab")); errors.Is(err, os.ErrNotExist) {
			missing = append(missing, user)
		}
	}
	if err := r.addPrincipals(ctx, missing...); err != nil {
		return err
	}
	return r.account(ctx, users...)
}

// AddAccounts is AddUser without the principals, for a crowd that somebody else's
// ticket acts for.
func (r *Realm) AddAccounts(ctx context.Context, users ...string) error {
	return r.account(ctx, users...)
}

// account makes users' entries and maildrops where there are none.
func (r *Realm) account(ctx context.Context, users ...string) error {
	directory := r.LDAP()
	for _, user := range users {
		if err := enter(directory, user); err != nil {
			return err
		}
	}
	for _, user := range users {
		if err := r.Change(ctx, SpoolChange{Do: "create", User: user}); err != nil {
			return err
		}
	}
	return nil
}

// enter makes a user's entry, unless it is there or another process is faster.
func enter(directory *ldaptest.Server, user string) error {
	known, err := directory.Has(user)
	if err != nil || known {
		return err
	}
	if err = directory.Add(entryOf(user)); err == nil {
		return nil
	}
	if known, hasErr := directory.Has(user); hasErr == nil && known {
		return nil
	}
	return err
}

// known makes an account for a user whom nobody knows. A maildrop that is there
// can be filled whatever state the directory is in.
func (r *Realm) known(ctx context.Context, user string) error {
	var exists bool
	err := r.onSpool(func(s *spool.Spool) (err error) {
		exists, err = s.Has(ctx, user)
		return err
	})
	name, _, _ := strings.Cut(user, "+")
	if err != nil || exists && slices.Contains(Users, name) {
		return err
	}
	if err := r.account(ctx, name); err != nil && !exists {
		return err
	}
	return nil
}

// StopSlapd ends the directory.
func (r *Realm) StopSlapd() error { return r.stop("slapd") }

// StartSlapd starts slapd again over the database that is there.
func (r *Realm) StartSlapd(ctx context.Context) error { return r.runLDAP(ctx, r.LDAP()) }

func (r *Realm) runLDAP(ctx context.Context, s *ldaptest.Server) error {
	command := s.Command()
	if err := r.daemon("slapd", command[0], command[1:]...); err != nil {
		return err
	}
	if err := s.Await(ctx); err != nil {
		return fmt.Errorf("%w; see %s", err, r.path("slapd.log"))
	}
	return nil
}
