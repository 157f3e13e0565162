package kdc

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Prove opens a ticket for a service of the realm with the service's own key: only a KDC
// of the realm can have made it, and only for the client who is named inside.
func (e *Exchange) Prove(g *Grant, service string, keys *keytab.Keytab) error {
	t := &g.Ticket
	name := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, service)
	if t.Realm != e.realm.Name || !t.SName.Equal(name) {
		return fmt.Errorf("kdc: the KDC's ticket is not for %s", service)
	}
	key, _, err := keys.GetEncryptionKey(name, e.realm.Name, t.EncPart.KVNO, t.EncPart.EType)
	if err != nil {
		return fmt.Errorf("kdc: our keytab has no key of %s with kvno %d and enctype %d, for which the KDC made a ticket",
			service, t.EncPart.KVNO, t.EncPart.EType)
	}
	plain, err := Open(t.EncPart, key, keyusage.KDC_REP_TICKET)
	if err != nil {
		return fmt.Errorf("kdc: the KDC's ticket for %s does not open with our keytab: the KDC is not ours, or the keytab is old", service)
	}
	var part messages.EncTicketPart
	if part.Unmarshal(plain) != nil {
		return malformed("ticket")
	}
	if part.CRealm != e.realm.Name || !part.CName.Equal(e.client) ||
		part.Key.KeyType != g.Session.KeyType || subtle.ConstantTimeCompare(part.Key.KeyValue, g.Session.KeyValue) != 1 {
		return errors.New("kdc: the KDC's ticket is for somebody else")
	}
	now := time.Now()
	begin := part.StartTime
	if begin.IsZero() {
		begin = part.AuthTime
	}
	if now.Before(begin.Add(-skew)) || now.After(part.EndTime.Add(skew)) || types.IsFlagSet(&part.Flags, flags.Invalid) {
		return errors.New("kdc: the KDC's ticket is not valid now")
	}
	return nil
}
