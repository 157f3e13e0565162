package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth/kdc"
	"github.com/kpopd/kpopd/krb5conf"
)

// maxPrincipals are asked for at most.
const maxPrincipals = 8

// selfTickets asks the KDC for a ticket to each principal of the keytab, in its
// own name, and holds kvno, enctype and key against the keytab. That is what
// every client will send.
func (s *Site) selfTickets(ctx context.Context, r *Report, keys *krb5conf.KeytabFile) {
	if keys == nil {
		return
	}
	addresses, err := kdcAddresses(ctx, s.resolver(), s.Kerberos.Profile)
	if err != nil {
		return // told already
	}
	names := s.held(keys).names
	for _, full := range names[:min(len(names), maxPrincipals)] {
		name, realm, _ := strings.Cut(full, "@")
		if realm == s.realm() {
			s.selfTicket(ctx, r.section("keytab"), keys, addresses, name)
		}
	}
}

func (s *Site) selfTicket(ctx context.Context, out section, keys *krb5conf.KeytabFile, addresses []string, name string) {
	var a answer
	err := errors.New("no KDC")
	for _, address := range addresses {
		if a, err = ask(ctx, "tcp", address, s.Kerberos.Profile, name, name, strong); err == nil {
			break
		}
	}
	create := fmt.Sprintf("kadmin -q 'addprinc -randkey %s' and kadmin -q 'ktadd -k %s %s'", name, s.Kerberos.Keytab, name)
	switch {
	case err != nil:
		out.warn("see the kdc lines", "the kvno of %s cannot be asked for: %v", name, err)
	case a.reply != nil:
		s.compare(out, keys, name, a.reply.Ticket)
	case a.said.ErrorCode == errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN || a.said.ErrorCode == errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN:
		out.wrong(create+"; in Active Directory an SPN cannot ask for itself: compare by kvno "+name, "the KDC does not know %s", name)
	case a.said.ErrorCode == errorcode.KDC_ERR_ETYPE_NOSUPP:
		out.wrong("kadmin -q 'cpw -randkey "+name+"' with AES in supported_enctypes, and ktadd again", "the KDC has no AES key of %s", name)
	case a.said.ErrorCode == errorcode.KDC_ERR_PREAUTH_REQUIRED:
		s.preauthenticated(ctx, out, keys, name)
	default:
		out.warn("kadmin -q 'getprinc "+name+"' shows its attributes", "the KDC gives no ticket for %s: %s (%d)",
			name, errorcode.Lookup(a.said.ErrorCode), a.said.ErrorCode)
	}
}

// preauthenticated logs in with the keytab, as the KDC wants a proof before it
// makes a ticket.
func (s *Site) preauthenticated(ctx context.Context, out section, keys *krb5conf.KeytabFile, name string) {
	ticket, err := s.logIn(ctx, keys, name)
	if err == nil {
		s.compare(out, keys, name, ticket)
		return
	}
	remedy := fmt.Sprintf("kadmin -q 'ktadd -k %s %s'", s.Kerberos.Keytab, name)
	if refusal := (*kdc.Refusal)(nil); errors.As(err, &refusal) && refusal.Code == errorcode.KDC_ERR_PREAUTH_FAILED {
		out.wrong(remedy, "the KDC refuses the keytab's key of %s: the KDC has a newer one", name)
		return
	}
	out.warn("kinit -k -t "+s.Kerberos.Keytab+" "+name+" says more", "%s cannot get a ticket with its own key", name)
}

// logIn gets a ticket for name in its own name.
func (s *Site) logIn(ctx context.Context, keys *krb5conf.KeytabFile, name string) (t messages.Ticket, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("malformed answer")
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	p := s.Kerberos.Profile
	kdcs := &kdc.Realm{Name: s.realm(), Config: p.Client, UDPLimit: p.UDPLimit(), LookupSRV: s.resolver().LookupSRV}
	e := kdcs.Begin(types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, name))
	tgt, err := e.Initial(ctx, kdc.Keys{Keytab: keys.Current()})
	if err != nil {
		return t, err
	}
	g, err := e.Service(ctx, tgt, name, s.realm())
	if err != nil {
		return t, err
	}
	return g.Ticket, nil
}

// compare holds a ticket's kvno, enctype and key against the keytab.
func (s *Site) compare(out section, keys *krb5conf.KeytabFile, name string, t messages.Ticket) {
	full := name + "@" + s.realm()
	rekey := fmt.Sprintf("kadmin -q 'ktadd -k %s %s'; tickets made before it stay good as long as the old keys stay in the file", s.Kerberos.Keytab, name)
	newest, sameKVNO := 0, false
	for _, k := range keys.Keys() {
		if k.Principal != full {
			continue
		}
		newest = max(newest, k.KVNO)
		sameKVNO = sameKVNO || k.KVNO == t.EncPart.KVNO
		if k.KVNO == t.EncPart.KVNO && k.Enctype == t.EncPart.EType {
			if opens(keys, name, t) {
				out.ok("the KDC makes tickets for %s with kvno %d, and the keytab opens them", name, t.EncPart.KVNO)
			} else {
				out.wrong(rekey, "the KDC's ticket for %s has the keytab's kvno %d, but another key", name, t.EncPart.KVNO)
			}
			return
		}
	}
	switch {
	case sameKVNO:
		out.wrong(rekey, "the KDC makes tickets for %s with enctype %d, of which the keytab has no key of kvno %d", name, t.EncPart.EType, t.EncPart.KVNO)
	case newest < t.EncPart.KVNO:
		out.wrong(rekey, "the KDC makes tickets for %s with kvno %d, the keytab ends at %d: it was rekeyed without the keytab, and new tickets are refused (KP-108)", name, t.EncPart.KVNO, newest)
	default:
		out.wrong("wait for the KDC's replica, or "+rekey, "the KDC makes tickets for %s with kvno %d, the keytab has %d only: a KDC that lags behind, or one of another realm", name, t.EncPart.KVNO, newest)
	}
}

// opens says whether the keytab's key opens the ticket.
func opens(keys *krb5conf.KeytabFile, name string, t messages.Ticket) (ok bool) {
	defer func() { ok = recover() == nil && ok }()
	key, _, err := keys.Current().GetEncryptionKey(types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, name), t.Realm, t.EncPart.KVNO, t.EncPart.EType)
	if err != nil {
		return false
	}
	_, err = kdc.Open(t.EncPart, key, keyusage.KDC_REP_TICKET)
	return err == nil
}
