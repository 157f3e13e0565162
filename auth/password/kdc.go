package password

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/kdc"
)

// A KDC checks passwords by asking for a ticket with them. The fields down to
// Log are required.
type KDC struct {
	Realm   *kdc.Realm
	Service string // our own principal without realm, pop/HOST: its ticket proves the KDC
	Keys    func() *keytab.Keytab
	Timeout time.Duration // for one check, in all
	Slots   chan struct{} // capacity: checks at once
	Log     *slog.Logger

	// Enctype names an enctype for the log; nil: by its number.
	Enctype func(id int32) string

	// Observe is told of each exchange with the KDC, for metrics; nil: nobody.
	// err is nil when the password was right.
	Observe func(took time.Duration, err error)

	// Panicked is told of each fault over a KDC's answer that was caught, with the
	// stack; the login it met was refused. nil: nobody is.
	Panicked func(value any, stack []byte)
}

// maxPassword bounds a password, in octets.
const maxPassword = 1024

// Check is an auth.PasswordCheck. A KDC that answers proves nothing by itself:
// whoever can spoof it may have chosen the password. Only a ticket for our own
// service that our keytab opens does.
func (k *KDC) Check(ctx context.Context, _ auth.Peer, user, password string) (*auth.Identity, error) {
	if !plainName(user) || !plainPassword(password) {
		return nil, fmt.Errorf("password: empty or malformed user name or password: %w", auth.ErrDenied)
	}
	ctx, cancel := context.WithTimeout(ctx, k.Timeout)
	defer cancel()
	select {
	case k.Slots <- struct{}{}:
		defer func() { <-k.Slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("password: too many checks at once: %w", auth.ErrTemporary)
	}
	began := time.Now()
	detail, err := k.ask(ctx, user, password)
	if k.Observe != nil {
		k.Observe(time.Since(began), err)
	}
	if err != nil {
		return nil, err
	}
	return &auth.Identity{Mechanism: "USER", Authcid: user + "@" + k.Realm.Name, Realm: k.Realm.Name, Detail: detail}, nil
}

// plainName keeps out instances, other realms, and what could be mistaken for
// either.
func plainName(user string) bool {
	return user != "" && len(user) <= maxField && utf8.ValidString(user) &&
		!strings.ContainsAny(user, `/@\ `) && strings.IndexFunc(user, unicode.IsControl) < 0
}

// plainPassword refuses the empty password, which other backends take for an
// anonymous login, and what SASLprep prohibits (RFC 4013 section 2.3).
func plainPassword(password string) bool {
	return password != "" && len(password) <= maxPassword && utf8.ValidString(password) &&
		strings.IndexFunc(password, unicode.IsControl) < 0
}

// ask runs the AS exchange, the TGS exchange and the proof. gokrb5 parses what
// the network sends: a panic is an answer that cannot be trusted.
func (k *KDC) ask(ctx context.Context, user, password string) (detail []slog.Attr, err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			k.Log.Error("panic", "in", "password: reading a KDC's answer", "value", panicText(p), "stack", string(stack))
			if k.Panicked != nil {
				k.Panicked(panicText(p), stack)
			}
			err = fmt.Errorf("password: malformed answer from the KDC: %w", auth.ErrTemporary)
		}
	}()
	e := k.Realm.Begin(types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, user))
	tgt, err := e.Initial(ctx, kdc.Password(password))
	if err != nil {
		return nil, meant(err, clientRefusal)
	}
	service, err := e.Service(ctx, tgt, k.Service, k.Realm.Name)
	if err != nil {
		return nil, meant(err, refusal)
	}
	if err := e.Prove(service, k.Service, k.Keys()); err != nil {
		k.Log.Error("a KDC answered that could not prove itself", "audit", true, "kdc", e.Answered(), "error", err)
		return nil, meant(err, refusal)
	}
	return []slog.Attr{
		slog.String("kdc", e.Answered()),
		slog.Int("kvno", service.Ticket.EncPart.KVNO),
		slog.String("enctype", k.enctype(service.Ticket.EncPart.EType)),
	}, nil
}

func (k *KDC) enctype(id int32) string {
	if k.Enctype == nil {
		return strconv.Itoa(int(id))
	}
	return k.Enctype(id)
}

// panicText leaves out values of the library, which may hold anything.
func panicText(p any) string {
	if e, ok := p.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("%T", p)
}

// isRefusal says whether err counts as ErrDenied, as any error does that is
// none of the others (auth.Exchange).
func isRefusal(err error) bool {
	return err != nil && !errors.Is(err, auth.ErrTemporary) && !errors.Is(err, auth.ErrPermanent) && !errors.Is(err, auth.ErrProtocol)
}

// wait sleeps, and says whether it was let.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
