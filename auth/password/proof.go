package password

import (
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/kdc"
)

// skew is what may be between our clock and the KDC's.
const skew = 5 * time.Minute

// prove opens the ticket with our own key: only a KDC of our realm can have
// made it, and only for who is named inside.
func (k *KDC) prove(g *kdc.Grant, user string) error {
	t := &g.Ticket
	name := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, k.Service)
	if t.Realm != k.Realm.Name || !t.SName.Equal(name) {
		return fmt.Errorf("password: the KDC's ticket is not for %s: %w", k.Service, auth.ErrTemporary)
	}
	key, _, err := k.Keys().GetEncryptionKey(name, k.Realm.Name, t.EncPart.KVNO, t.EncPart.EType)
	if err != nil {
		return fmt.Errorf("password: our keytab has no key of %s with kvno %d and enctype %d, for which the KDC made a ticket: %w",
			k.Service, t.EncPart.KVNO, t.EncPart.EType, auth.ErrTemporary)
	}
	plain, err := kdc.Open(t.EncPart, key, keyusage.KDC_REP_TICKET)
	if err != nil {
		return fmt.Errorf("password: the KDC's ticket for %s does not open with our keytab: the KDC is not ours, or the keytab is old: %w", k.Service, auth.ErrTemporary)
	}
	var part messages.EncTicketPart
	if part.Unmarshal(plain) != nil {
		return fmt.Errorf("password: the KDC's ticket is malformed: %w", auth.ErrTemporary)
	}
	if part.CRealm != k.Realm.Name || len(part.CName.NameString) != 1 || part.CName.NameString[0] != user ||
		part.Key.KeyType != g.Session.KeyType || subtle.ConstantTimeCompare(part.Key.KeyValue, g.Session.KeyValue) != 1 {
		return fmt.Errorf("password: the KDC's ticket is for somebody else: %w", auth.ErrTemporary)
	}
	now := time.Now()
	begin := part.StartTime
	if begin.IsZero() {
		begin = part.AuthTime
	}
	if now.Before(begin.Add(-skew)) || now.After(part.EndTime.Add(skew)) || types.IsFlagSet(&part.Flags, flags.Invalid) {
		return fmt.Errorf("password: the KDC's ticket is not valid now: %w", auth.ErrTemporary)
	}
	return nil
}
