package doctor

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kpopd/kpopd/auth/rules"
)

// ldap asks each server, with TLS and bind as kpopd does, and then for one
// user.
func (s *Site) ldap(ctx context.Context, r *Report) {
	if s.LDAP == nil {
		return
	}
	out, answer := r.section("ldap"), 0
	if s.LDAP.Error != nil {
		out.wrong("mend [ldap] in "+s.ConfigFile, "%v", s.LDAP.Error)
		return
	}
	for _, server := range s.LDAP.Ping(ctx) {
		if server.Err != nil {
			out.warn(ldapRemedy(server.Err.Error()), "%s: %v", server.URL, server.Err)
			continue
		}
		answer++
		out.ok("%s: connected, bound and looked at the search base in %s", server.URL, server.Took.Round(100*time.Microsecond))
	}
	if answer == 0 {
		out.wrong("see the lines above", "no LDAP server can be used: nobody can log in but whom kpopd remembers")
		return
	}
	user := cmp.Or(s.Spool.Mailbox, "kpop-doctor")
	_, err := s.LDAP.Find(ctx, rules.Query{User: user, Principal: user + "@" + s.realm(), Realm: s.realm()}, nil)
	var refusal *rules.Refusal
	switch {
	case err == nil:
		out.ok("%s has an entry", user)
	case errors.As(err, &refusal) && s.Spool.Mailbox == "":
		out.ok("a search below the base works")
	case errors.As(err, &refusal):
		out.warn("ldapsearch with ldap.filter and ldap.base shows why", "%s: %v", user, err)
	default:
		out.wrong("check ldap.base, ldap.filter and what the bound name may read", "a search does not work: %v", err)
	}
}

// ldapRemedy goes by the error's words, since go-ldap wraps what TLS says.
func ldapRemedy(err string) string {
	for _, r := range []struct{ word, remedy string }{
		{"x509", "set ldap.ca to the CA of the server's certificate, and use the name that stands in it"},
		{"tls:", "the server speaks no TLS here: ldaps:// is port 636, start_tls is for ldap://"},
		{"StartTLS refused", "give the server a certificate (olcTLSCertificateFile), or use ldaps://"},
		{"password file", "mend ldap.password_file"},
		{"Invalid Credentials", "mend ldap.bind_dn and ldap.password_file; ldapwhoami -x -D DN -y FILE tries them"},
		{"search base", "check ldap.base, and what the bound name may read there"},
		{"connection refused", "start slapd, or mend the port in ldap.servers"},
		{"no such host", "mend the name in ldap.servers"},
		{"Confidentiality", "set start_tls = true, or use ldaps://"},
	} {
		if strings.Contains(err, r.word) {
			return r.remedy
		}
	}
	return "ldapsearch -H URL from this machine says more"
}
