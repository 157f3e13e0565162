package doctor

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/krb5conf"
)

// strong are the enctypes that kpopd takes by default (RFC 3962, RFC 8009).
var strong = []int32{17, 18, 19, 20}

// keytab examines the file and gives what it holds; nil when it cannot be used.
func (s *Site) keytab(r *Report, who account) *krb5conf.KeytabFile {
	out := r.section("keytab")
	path := s.Kerberos.Keytab
	if handedOver(path) {
		out.wrong(toHandOver, "%s is not there", path)
		return nil
	}
	if why := who.refused(path, toRead); why != "" {
		out.wrong(fmt.Sprintf("chown %s %s && chmod 600 %s, or let systemd hand it over: LoadCredential=keytab:%s", who.name, path, path, path),
			"user %s cannot read %s: %s", who.name, path, why)
	}
	file, err := krb5conf.OpenKeytab(path, krb5conf.KeytabOptions{Log: slog.New(slog.DiscardHandler), Loose: s.Kerberos.Loose})
	if err != nil {
		out.wrong(fmt.Sprintf("kadmin -q 'ktadd -k %s %s'; then chmod 600", path, s.principal()), "%v", err)
		return nil
	}
	held := s.held(file)
	for _, principal := range held.names {
		out.ok("%s holds %s: %s", path, principal, strings.Join(held.keys[principal], ", "))
		if !held.strong[principal] {
			out.wrong(fmt.Sprintf("kadmin -q 'ktadd -k %s -e aes256-cts,aes128-cts %s'", path, principal), "%s has no AES key: kpopd refuses the others", principal)
		}
	}
	if len(held.names) == 0 {
		out.wrong(fmt.Sprintf("kadmin -q 'addprinc -randkey %s' and kadmin -q 'ktadd -k %s %s'", s.principal(), path, s.principal()),
			"%s holds no principal of the services %s", path, strings.Join(s.Kerberos.Services, ", "))
	}
	if held.others > 0 {
		out.ok("%s holds %d keys of other services, which kpopd does not use; a keytab of its own is safer", path, held.others)
	}
	return file
}

// principal is pop/HOSTNAME with its realm.
func (s *Site) principal() string {
	return "pop/" + s.Hostname + "@" + s.realm()
}

func (s *Site) realm() string {
	if s.Kerberos.Profile == nil {
		return ""
	}
	return s.Kerberos.Profile.DefaultRealm()
}

// holdings are a keytab's principals that kpopd takes tickets for.
type holdings struct {
	names  []string // in the file's order
	keys   map[string][]string
	strong map[string]bool
	others int // keys of other services
}

func (s *Site) held(file *krb5conf.KeytabFile) holdings {
	h := holdings{keys: map[string][]string{}, strong: map[string]bool{}}
	for _, k := range file.Keys() {
		p, err := krb5conf.ParsePrincipal(k.Principal, "")
		if err != nil || len(p.Components) != 2 || !slices.Contains(s.Kerberos.Services, p.Components[0]) {
			h.others++
			continue
		}
		if _, seen := h.keys[k.Principal]; !seen {
			h.names = append(h.names, k.Principal)
		}
		_, text, _ := strings.Cut(k.String(), " ")
		h.keys[k.Principal] = append(h.keys[k.Principal], text)
		h.strong[k.Principal] = h.strong[k.Principal] || slices.Contains(strong, k.Enctype)
	}
	return h
}
