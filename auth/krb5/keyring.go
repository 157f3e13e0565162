package krb5

import (
	"slices"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/types"
)

// A keyring is a keytab made ready: the entries of the allowed services with
// their ticket keys derived. It is made once for each keytab and shared.
type keyring struct {
	source *keytab.Keytab
	keys   []serviceKey
	weak   []serviceKey // entries of an enctype that is refused
}

type serviceKey struct {
	service string // first component
	host    string // second component
	realm   string
	kvno    int
	enctype int32
	ticket  usageKeys // key usage 2 (RFC 4120 section 7.5.1)
}

// newKeyring takes the entries whose first component is in services and which
// have two components: pop/host is a service, pop is a user.
func newKeyring(kt *keytab.Keytab, services []string) *keyring {
	r := &keyring{source: kt}
	for i := range kt.Entries {
		e := &kt.Entries[i]
		c := e.Principal.Components
		if len(c) != 2 || !slices.Contains(services, c[0]) {
			continue
		}
		k := serviceKey{service: c[0], host: c[1], realm: e.Principal.Realm, kvno: int(e.KVNO), enctype: e.Key.KeyType}
		protocol, ok := newKey(e.Key)
		if !ok {
			r.weak = append(r.weak, k)
			continue
		}
		k.ticket = protocol.forUsage(usageTicket)
		r.keys = append(r.keys, k)
	}
	return r
}

// candidates gives the keys to try for a ticket, best first: those of exactly
// the named principal and kvno, then every other one of the same enctype. The
// name and the kvno of a ticket are outside its encryption, only labels: an
// alias, another case or a drifted kvno must not lock anyone out, and a key of
// a service that is not allowed is never tried.
func (r *keyring) candidates(sname types.PrincipalName, realm string, part types.EncryptedData) []*serviceKey {
	var exact, other []*serviceKey
	for i := range r.keys {
		k := &r.keys[i]
		switch {
		case k.enctype != part.EType:
		case k.names(sname, realm) && k.kvno == part.KVNO:
			exact = append(exact, k)
		default:
			other = append(other, k)
		}
	}
	return append(exact, other...)
}

func (k *serviceKey) names(sname types.PrincipalName, realm string) bool {
	return len(sname.NameString) == 2 && sname.NameString[0] == k.service &&
		sname.NameString[1] == k.host && realm == k.realm
}

// serves tells whether any key is for this principal, whatever its kvno and
// enctype, and describes for the log what is held for it.
func (r *keyring) serves(sname types.PrincipalName, realm string) (held []string) {
	for _, keys := range [][]serviceKey{r.keys, r.weak} {
		for i := range keys {
			if keys[i].names(sname, realm) {
				held = append(held, keys[i].label())
			}
		}
	}
	return held
}

func (r *keyring) realms() []string {
	var out []string
	for i := range r.keys {
		if !slices.Contains(out, r.keys[i].realm) {
			out = append(out, r.keys[i].realm)
		}
	}
	return out
}
