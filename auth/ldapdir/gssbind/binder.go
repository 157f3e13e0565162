package gssbind

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/types"
	"golang.org/x/sync/singleflight"

	"github.com/kpopd/kpopd/auth/kdc"
)

// Options say as whom to bind.
type Options struct {
	Principal string // in the keytab, without its realm: pop/host.example
	Realm     *kdc.Realm
	Keytab    func() *keytab.Keytab // the current one

	Service string        // of the LDAP server; empty: ldap
	AuthzID string        // u:name or dn:..., when it is not the principal's own
	Renew   time.Duration // a ticket is used no longer; zero: one hour

	Log *slog.Logger // nil: slog.Default()

	// Panicked is told of each fault over a KDC's answer that was caught, with
	// the stack; the bind it met has failed. nil: nobody is.
	Panicked func(value any, stack []byte)
}

// obtainWait is how long the KDCs are asked for a ticket, in all.
const obtainWait = 15 * time.Second

// A Binder binds connections; its Bind is an ldapdir.Bind.
type Binder struct {
	options Options
	flight  singleflight.Group

	mu      sync.Mutex
	tickets map[string]*ticket // by the server's host
}

// A ticket is what the KDC gave for one server.
type ticket struct {
	*kdc.Grant
	until time.Time
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
	t, kept, err := b.ticket(ctx, host)
	if err != nil {
		return err
	}
	err = b.bind(c, t)
	if err == nil || !kept || c.IsClosing() {
		return err
	}
	b.forget(host, t)
	if t, _, err = b.ticket(ctx, host); err != nil {
		return err
	}
	return b.bind(c, t)
}

func (b *Binder) bind(c *ldap.Conn, t *ticket) error {
	i := &initiator{ticket: t, realm: b.options.Realm.Name, name: types.NewPrincipalName(1, b.options.Principal)}
	return c.GSSAPIBind(i, "", b.options.AuthzID)
}

// ticket gives a kept ticket or asks the KDC for one, once for all who wait.
func (b *Binder) ticket(ctx context.Context, host string) (t *ticket, kept bool, err error) {
	b.mu.Lock()
	t = b.tickets[host]
	b.mu.Unlock()
	if t != nil && time.Now().Before(t.until) {
		return t, true, nil
	}
	// It is for all who ask meanwhile, so that the first one's end is not its end.
	result := b.flight.DoChan(host, func() (any, error) { return b.obtain(context.WithoutCancel(ctx), host) })
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, false, r.Err
		}
		return r.Val.(*ticket), false, nil
	case <-ctx.Done():
		return nil, false, fmt.Errorf("gssbind: no ticket for %s in time: %w", host, ctx.Err())
	}
}

// obtain logs in by the keytab and gets a ticket for host's directory.
func (b *Binder) obtain(ctx context.Context, host string) (t *ticket, err error) {
	ctx, cancel := context.WithTimeout(ctx, obtainWait)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			b.panicked(p, debug.Stack())
			t, err = nil, fmt.Errorf("gssbind: %s: panic: %v", host, p)
		}
	}()
	kt := b.options.Keytab()
	if kt == nil {
		return nil, fmt.Errorf("gssbind: no keytab")
	}
	e := b.options.Realm.Begin(types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, b.options.Principal))
	tgt, err := e.Initial(ctx, kdc.Keys{Keytab: kt})
	if err != nil {
		return nil, fmt.Errorf("gssbind: %s@%s: %w", b.options.Principal, b.options.Realm.Name, err)
	}
	target := b.options.Service + "/" + host
	g, err := e.Service(ctx, tgt, target, e.HostRealm(host))
	if err != nil {
		return nil, fmt.Errorf("gssbind: ticket for %s: %w", target, err)
	}
	t = &ticket{Grant: g, until: time.Now().Add(b.options.Renew)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tickets[host] = t
	return t, nil
}

func (b *Binder) panicked(value any, stack []byte) {
	b.options.Log.Error("panic", "in", "gssbind: reading a KDC's answer", "value", fmt.Sprint(value), "stack", string(stack))
	if b.options.Panicked != nil {
		b.options.Panicked(value, stack)
	}
}

// forget drops a ticket unless it was replaced already.
func (b *Binder) forget(host string, t *ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tickets[host] == t {
		delete(b.tickets, host)
	}
}
