package gssbind

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"golang.org/x/sync/singleflight"
)

// Options say as whom to bind.
type Options struct {
	Principal string // in the keytab, without its realm: pop/host.example
	Realm     string
	Keytab    func() *keytab.Keytab // the current one
	Config    func() *config.Config // a fresh one at each call: gokrb5 shuffles it

	Service string        // of the LDAP server; empty: ldap
	AuthzID string        // u:name or dn:..., when it is not the principal's own
	Renew   time.Duration // a ticket is used no longer; zero: one hour

	Log *slog.Logger // nil: slog.Default()

	// Panicked is told of each fault over a KDC's answer that was caught, with
	// the stack; the bind it met has failed. nil: nobody is.
	Panicked func(value any, stack []byte)
}

// A Binder binds connections; its Bind is an ldapdir.Bind.
type Binder struct {
	options Options
	flight  singleflight.Group

	mu      sync.Mutex
	tickets map[string]*ticket // by server principal
}

// A ticket is what the KDC gave for one server.
type ticket struct {
	ticket messages.Ticket
	key    types.EncryptionKey
	until  time.Time
}

// New makes a Binder. It asks no KDC yet.
func New(o Options) *Binder {
	if o.Service == "" {
		o.Service = "ldap"
	}
	if o.Renew == 0 {
		o.Renew = time.Hour
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Binder{options: o, tickets: map[string]*ticket{}}
}

// Bind authenticates a connection to host. When a ticket that was kept does not
// do any more (its end, a new key of the server), a new one is tried.
func (b *Binder) Bind(ctx context.Context, c *ldap.Conn, host string) error {
	target := b.options.Service + "/" + host
	t, kept, err := b.ticket(ctx, target)
	if err != nil {
		return err
	}
	err = b.bind(c, t)
	if err == nil || !kept || c.IsClosing() {
		return err
	}
	b.forget(target, t)
	if t, _, err = b.ticket(ctx, target); err != nil {
		return err
	}
	return b.bind(c, t)
}

func (b *Binder) bind(c *ldap.Conn, t *ticket) error {
	i := &initiator{ticket: t, realm: b.options.Realm, name: types.NewPrincipalName(1, b.options.Principal)}
	return c.GSSAPIBind(i, "", b.options.AuthzID)
}

// ticket gives a kept ticket or asks the KDC for one, once for all who wait.
func (b *Binder) ticket(ctx context.Context, target string) (t *ticket, kept bool, err error) {
	b.mu.Lock()
	t = b.tickets[target]
	b.mu.Unlock()
	if t != nil && time.Now().Before(t.until) {
		return t, true, nil
	}
	// gokrb5 knows no contexts; what it began goes on and serves the next bind.
	result := b.flight.DoChan(target, func() (any, error) { return b.obtain(target) })
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, false, r.Err
		}
		return r.Val.(*ticket), false, nil
	case <-ctx.Done():
		return nil, false, fmt.Errorf("gssbind: no ticket for %s in time: %w", target, ctx.Err())
	}
}

// obtain logs in by the keytab and gets a ticket.
func (b *Binder) obtain(target string) (t *ticket, err error) {
	defer func() {
		if p := recover(); p != nil {
			b.panicked(p, debug.Stack())
			t, err = nil, fmt.Errorf("gssbind: %s: panic: %v", target, p)
		}
	}()
	kt := b.options.Keytab()
	if kt == nil {
		return nil, fmt.Errorf("gssbind: no keytab")
	}
	cl := client.NewWithKeytab(b.options.Principal, b.options.Realm, kt, b.options.Config(), client.DisablePAFXFAST(true))
	defer cl.Destroy()
	if err := cl.Login(); err != nil {
		return nil, fmt.Errorf("gssbind: %s@%s: %w", b.options.Principal, b.options.Realm, err)
	}
	t = &ticket{until: time.Now().Add(b.options.Renew)}
	if t.ticket, t.key, err = cl.GetServiceTicket(target); err != nil {
		return nil, fmt.Errorf("gssbind: ticket for %s: %w", target, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tickets[target] = t
	return t, nil
}

func (b *Binder) panicked(value any, stack []byte) {
	b.options.Log.Error("panic", "in", "gssbind: reading a KDC's answer", "value", fmt.Sprint(value), "stack", string(stack))
	if b.options.Panicked != nil {
		b.options.Panicked(value, stack)
	}
}

// forget drops a ticket unless it was replaced already.
func (b *Binder) forget(target string, t *ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tickets[target] == t {
		delete(b.tickets, target)
	}
}
