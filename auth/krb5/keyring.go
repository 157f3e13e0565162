package krb5

import (
	"slices"
	"strings"

	"github.com/jcmturner/gokrb5/v8/keytab"
)

// A keyring is what one keytab holds for the allowed services: entries whose
// ticket keys are derived once. A new keytab makes a new keyring, so derived
// keys live no longer than the keys they come from.
type keyring struct {
	from    *keytab.Keytab
	entries []*serviceKey
	weak    []string // entries of allowed services with a refused enctype
}

type serviceKey struct {
	name   []string
	realm  string
	kvno   uint32
	et     *enctype
	ticket *sealer
}

func (a *Acceptor) newKeyring(kt *keytab.Keytab) *keyring {
	r := &keyring{from: kt}
	if kt == nil {
		return r
	}
	for _, e := range kt.Entries {
		name := e.Principal.Components
		if !a.serves(name) {
			continue
		}
		k, err := newKey(e.Key.KeyType, e.Key.KeyValue)
		if err != nil {
			r.weak = append(r.weak, PrincipalText(name, e.Principal.Realm)+" "+EnctypeName(e.Key.KeyType))
			continue
		}
		kvno := e.KVNO
		if kvno == 0 { // files without the 32-bit field have the octet only
			kvno = uint32(e.KVNO8)
		}
		r.entries = append(r.entries, &serviceKey{slices.Clone(name), e.Principal.Realm, kvno, k.et, k.sealer(usageTicket)})
	}
	return r
}

// keys gives the keyring of the present keytab.
func (a *Acceptor) keys() *keyring {
	kt := a.Keys()
	if r := a.ring.Load(); r != nil && r.from == kt {
		return r
	}
	r := a.newKeyring(kt)
	a.ring.Store(r)
	return r
}

// serves reports whether a service principal is one of ours: two components,
// an allowed service, an allowed host.
func (a *Acceptor) serves(name []string) bool {
	if len(name) != 2 || !slices.Contains(a.services(), name[0]) {
		return false
	}
	return len(a.Hosts) == 0 || slices.ContainsFunc(a.Hosts, func(h string) bool { return strings.EqualFold(h, name[1]) })
}

func (r *keyring) hasRealm(realm string) bool {
	return slices.ContainsFunc(r.entries, func(k *serviceKey) bool { return k.realm == realm })
}

// held names versions and enctypes of a realm's keys (of all realms' for an
// empty one), for a refusal.
func (r *keyring) held(realm string) []string {
	var all []string
	for _, k := range r.entries {
		if realm == "" || k.realm == realm {
			all = append(all, PrincipalText(k.name, k.realm)+" kvno "+utoa(k.kvno)+" "+k.et.name)
		}
	}
	return all
}

// candidates gives the keys to try for a ticket, the exact one first (a ticket
// without kvno fits every version of its service's key). What the
// ticket says of its service is outside the encryption and only a label: an
// alias, another case or another kvno must not keep a good key from being
// tried, and no label makes a key of another service eligible.
// Client: Heimdal 7.8 leaves the realm empty when its cache has the ticket by the
// name that it asked for, which has none where no [domain_realm] names one.
func (r *keyring) candidates(req *apReq) (keys []*serviceKey, known, exact bool) {
	for _, k := range r.entries {
		if k.realm != req.realm && req.realm != "" {
			continue
		}
		same := sameName(k.name, req.service)
		known = known || same && k.realm == req.realm
		if k.et.id != req.ticket.etype {
			continue
		}
		if same && (!req.ticket.hasKvno || sameKvno(k.kvno, req.ticket.kvno)) {
			exact = true
			keys = slices.Insert(keys, 0, k)
			continue
		}
		keys = append(keys, k)
	}
	return keys, known, exact
}

// sameKvno compares as MIT does: files may hold only the low octet.
func sameKvno(have, want uint32) bool {
	return have == want || have < 256 && have == want&0xff
}
