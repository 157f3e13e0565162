package password

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth"
)

// A KDC checks passwords by asking for a ticket with them. All fields are
// required.
type KDC struct {
	Realm   string
	Service string // our own principal without realm, pop/HOST: its ticket proves the KDC
	Config  func() *config.Config
	Keys    func() *keytab.Keytab
	Timeout time.Duration // for one check, in all
	Slots   chan struct{} // capacity: checks at once
	Log     *slog.Logger
}

// Check is an auth.PasswordCheck. A KDC that answers proves nothing by itself:
// whoever can spoof it may have chosen the password. Only a ticket for our own
// service that our keytab opens does.
func (k *KDC) Check(ctx context.Context, peer auth.Peer, user, password string) (*auth.Identity, error) {
	if password == "" || !plainName(user) {
		return nil, fmt.Errorf("password: empty password or malformed user name: %w", auth.ErrDenied)
	}
	ctx, cancel := context.WithTimeout(ctx, k.Timeout)
	defer cancel()
	select {
	case k.Slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("password: too many checks at once: %w", auth.ErrTemporary)
	}
	result := make(chan error, 1)
	go func() {
		defer func() { <-k.Slots }() // the slot stays taken for as long as gokrb5 works
		result <- k.ask(user, password)
	}()
	select {
	case err := <-result:
		if err != nil {
			return nil, err
		}
		return &auth.Identity{Mechanism: "USER", Authcid: user + "@" + k.Realm, Realm: k.Realm}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("password: no answer from a KDC of %s within %s: %w", k.Realm, k.Timeout, auth.ErrTemporary)
	}
}

// plainName keeps out instances, other realms, and what could be mistaken for
// either.
func plainName(user string) bool {
	return user != "" && len(user) <= 255 &&
		strings.IndexFunc(user, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == '@' || r == '\\' }) < 0
}

// ask runs the AS exchange and the proof. gokrb5 parses what the network sends:
// a panic is an answer that cannot be trusted.
func (k *KDC) ask(user, password string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			k.Log.Error("panic while reading a KDC's answer", "panic", fmt.Sprint(p))
			err = fmt.Errorf("password: malformed answer from the KDC: %w", auth.ErrTemporary)
		}
	}()
	c := client.NewWithPassword(user, k.Realm, password, k.Config(), client.DisablePAFXFAST(true))
	defer c.Destroy()
	if err := c.Login(); err != nil {
		return explain(err)
	}
	ticket, session, err := c.GetServiceTicket(k.Service)
	if err != nil {
		return explain(err)
	}
	return k.prove(&ticket, session, user)
}

// prove decrypts the ticket with our own key: only a KDC of our realm can have
// made it.
func (k *KDC) prove(t *messages.Ticket, session types.EncryptionKey, user string) error {
	name, _ := types.ParseSPNString(k.Service)
	if err := t.DecryptEncPart(k.Keys(), &name); err != nil {
		return fmt.Errorf("password: the KDC's ticket for %s does not open with our keytab: the KDC is not ours, or the keytab is old: %w", k.Service, auth.ErrTemporary)
	}
	part := &t.DecryptedEncPart
	if part.CRealm != k.Realm || part.CName.PrincipalNameString() != user || string(part.Key.KeyValue) != string(session.KeyValue) {
		return fmt.Errorf("password: the KDC's ticket is for somebody else: %w", auth.ErrTemporary)
	}
	return nil
}

// kdcCode finds the KRB-ERROR code, which gokrb5 puts into its texts only.
var kdcCode = regexp.MustCompile(`KRB Error: \((\d+)\)`)

// errWrongKey is gokrb5's word for an AS reply that does not decrypt: a wrong
// password where no preauthentication is asked for.
const errWrongKey = "integrity verification failed"

// explain tells what the KDC said apart. Texts from the library stay out of the
// error: it goes to the log, but nobody has checked them for secrets.
func explain(err error) error {
	code := ""
	if m := kdcCode.FindStringSubmatch(err.Error()); m != nil {
		code = m[1]
	}
	for _, a := range answers {
		if a.code == code {
			return fmt.Errorf("password: %s (KDC error %s): %w", a.meaning, code, a.err)
		}
	}
	if strings.Contains(err.Error(), errWrongKey) {
		return fmt.Errorf("password: wrong password: %w", auth.ErrDenied)
	}
	if code != "" {
		return fmt.Errorf("password: KDC error %s: %w", code, auth.ErrTemporary)
	}
	return errors.Join(fmt.Errorf("password: no KDC answered: %w", auth.ErrTemporary))
}

// answers are the KDC's errors (RFC 4120 section 7.5.9) and what they are for
// the client. A user whose password has expired is told so before the password
// is looked at, so that it proves nothing.
var answers = []struct {
	code    string
	meaning string
	err     error
}{
	{"24", "wrong password", auth.ErrDenied},
	{"6", "unknown principal", auth.ErrDenied},
	{"18", "account is locked", auth.ErrDenied},
	{"1", "account has expired", auth.ErrDenied},
	{"12", "KDC policy forbids it", auth.ErrDenied},
	{"23", "password has expired or must be changed", auth.ErrDenied},
	{"25", "user needs preauthentication that passwords cannot do", auth.ErrPermanent},
	{"14", "no enctype in common with the KDC", auth.ErrPermanent},
	{"7", "our own service is unknown to the KDC", auth.ErrPermanent},
	{"37", "clocks of KDC and this machine differ", auth.ErrTemporary},
}
