package krb5

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/kpopd/kpopd/auth"
)

// MaxAPReq is the longest AP-REQ that is looked at. A ticket with a large PAC
// reaches 64 KiB.
const MaxAPReq = 128 << 10

const (
	defaultSkew = 5 * time.Minute
	maxSkew     = 10 * time.Minute
)

// An Acceptor verifies AP-REQs against the keytab, the clock and the replay
// cache. Its fields are set before first use; it is then safe for use by many
// goroutines and must not be copied. Every listener of one service shares one.
type Acceptor struct {
	// Keys gives the present keytab, for each ticket anew. A reloaded
	// keytab is another pointer; a keytab is never changed in place. Key
	// versions that are retired stay in it while tickets may live.
	Keys func() *keytab.Keytab

	Services []string // first components accepted; none: pop and pop3
	Hosts    []string // second components accepted; none: those of the keytab
	Realms   []string // client realms trusted; none: those of the keytab's services

	Skew   time.Duration // clock difference allowed; zero: 5 minutes
	Replay Replay

	// CheckAddresses refuses a ticket bound to addresses when the peer has
	// none of them. MIT's acceptors do not check; NAT makes it a nuisance.
	CheckAddresses bool

	Now  func() time.Time // nil: time.Now
	Rand io.Reader        // nil: crypto/rand
	Log  *slog.Logger     // nil: nothing is logged

	// Panicked is told of each fault of this package that was caught, with the
	// stack; the login it met was refused. For metrics; nil: nobody is.
	Panicked func(value any, stack []byte)

	ring atomic.Pointer[keyring]
}

var defaultServices = []string{"pop", "pop3"}

func (a *Acceptor) services() []string {
	if len(a.Services) == 0 {
		return defaultServices
	}
	return a.Services
}

func (a *Acceptor) skew() time.Duration {
	if a.Skew == 0 {
		return defaultSkew
	}
	return a.Skew
}

func (a *Acceptor) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

func (a *Acceptor) random() io.Reader {
	if a.Rand == nil {
		return rand.Reader
	}
	return a.Rand
}

func (a *Acceptor) log() *slog.Logger {
	if a.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Log
}

// caught makes a refusal of a panic p, which came while doing what doing says.
func (a *Acceptor) caught(doing string, p any) *Refusal {
	stack := debug.Stack()
	a.log().Error("panic", "in", "krb5: "+doing, "value", fmt.Sprint(p), "stack", string(stack))
	if a.Panicked != nil {
		a.Panicked(p, stack)
	}
	return refuse(idInternal)
}

// Validate says at start what would make every login fail, and warns of keys
// in the keytab that will not be used. The errors wrap auth.ErrPermanent.
func (a *Acceptor) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("krb5: "+format+": %w", append(args, auth.ErrPermanent)...))
	}
	if a.Replay == nil {
		fault("no replay cache")
	}
	if s := a.skew(); s < time.Second || s > maxSkew {
		fault("clock skew %s is not between 1s and %s", s, maxSkew)
	}
	for _, s := range a.services() {
		if s == "" || s == "host" || s == "krbtgt" {
			fault("service %q cannot be accepted: its tickets are for other programs", s)
		}
	}
	if a.Keys == nil {
		fault("no keytab")
		return errors.Join(faults...)
	}
	r := a.keys()
	for _, w := range r.weak {
		a.log().Warn("keytab entry not used: refused enctype; rekey the principal with AES", "entry", w)
	}
	if len(r.entries) == 0 {
		fault("the keytab has no AES key for a service of %q (hosts %q; not used: %q)", a.services(), a.Hosts, r.weak)
	}
	return errors.Join(faults...)
}

// A Use is the dialog an AP-REQ came by. Each takes only the authenticators
// made for it: KPOP proves nothing beyond the AP-REQ itself, so one caught
// from a GSSAPI login must be worth nothing there.
type Use int

// The uses of an AP-REQ.
const (
	UseKPOP Use = iota + 1
	UseGSS
)

// checksumGSS is the checksum type of GSSAPI authenticators (RFC 4121 section
// 4.1.1).
const checksumGSS = 0x8003

// A Context is what an accepted AP-REQ has proved, and the keys it leaves.
type Context struct {
	Client  []string // components of the client's name, from the ticket
	Realm   string   // its realm, from the ticket
	Service string   // the keytab's principal that opened the ticket
	Kvno    uint32
	Enctype int32         // of the ticket
	Skew    time.Duration // client's clock minus ours
	End     time.Time     // of the ticket
	Mutual  bool          // AP-OPTIONS mutual-required

	apart   time.Duration // Skew in whole seconds of both clocks, as MIT counts
	session key
	subkey  key // zero when the client sent none
	auth    authenticator
	random  io.Reader
}

// Principal gives the text of the client's principal.
func (c *Context) Principal() string { return PrincipalText(c.Client, c.Realm) }

// Accept verifies one AP-REQ in MIT's order of checks. Errors wrap a *Refusal.
// remote is used only when CheckAddresses is set.
func (a *Acceptor) Accept(ctx context.Context, message []byte, use Use, remote net.Addr) (c *Context, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, a.caught("verifying an AP-REQ", p)
		}
	}()
	req, err := parse(message)
	if err != nil {
		return nil, err
	}
	c, ticket, err := a.open(&req)
	if err != nil {
		return nil, err
	}
	if err := a.checkClient(c, &ticket, use, remote); err != nil {
		return nil, err.with(c.attrs(&req)...)
	}
	if err := a.checkReplay(ctx, c, req.authenticator.cipher); err != nil {
		return nil, err.with(c.attrs(&req)...)
	}
	if err := a.checkTimes(c, &ticket); err != nil {
		return nil, err.with(c.attrs(&req)...)
	}
	return c, nil
}

func (r *Refusal) with(attrs ...slog.Attr) *Refusal {
	r.Attrs = append(r.Attrs, attrs...)
	return r
}

func (c *Context) attrs(req *apReq) []slog.Attr {
	return append(req.attrs(), slog.String("client", clip(c.Principal())), slog.Int64("skew_s", int64(c.Skew/time.Second)))
}

func (r *apReq) attrs() []slog.Attr {
	kvno := "none"
	if r.ticket.hasKvno {
		kvno = utoa(r.ticket.kvno)
	}
	return []slog.Attr{
		slog.String("claimed_service", clip(PrincipalText(r.service, r.realm))),
		slog.String("kvno", kvno),
		slog.String("enctype", EnctypeName(r.ticket.etype)),
	}
}

// clip keeps what a stranger chose from filling the log.
func clip(s string) string {
	if len(s) > maxPrincipal {
		return s[:maxPrincipal] + "..."
	}
	return s
}

func utoa(v uint32) string { return strconv.FormatUint(uint64(v), 10) }

// parse decodes and makes the checks that need no key.
func parse(message []byte) (apReq, error) {
	switch {
	case len(message) == 0 || message[0] != 0x60|appAPReq:
		return apReq{}, refuse(idMsgType, slog.Int("octets", len(message)))
	case len(message) > MaxAPReq:
		return apReq{}, refuse(idTooLong, slog.Int("octets", len(message)))
	}
	req, ok := decodeAPReq(message)
	switch {
	case !ok:
		return req, refuse(idSyntax, slog.Int("octets", len(message)))
	case req.pvno != protocolVersion:
		return req, refuse(idVersion, slog.Int64("pvno", req.pvno))
	case req.msgType != msgAPReq:
		return req, refuse(idMsgType, slog.Int64("msg_type", req.msgType))
	case req.options&optionUseSessionKey != 0:
		return req, refuse(idUserToUser, req.attrs()...)
	}
	return req, nil
}

// open decrypts ticket and authenticator.
func (a *Acceptor) open(req *apReq) (*Context, ticketPart, error) {
	ring := a.keys()
	k, plain, err := a.openTicket(ring, req)
	if err != nil {
		return nil, ticketPart{}, err.with(req.attrs()...)
	}
	t, ok := decodeTicketPart(plain)
	if !ok {
		return nil, t, refuse(idSyntax, slog.String("part", "ticket")).with(req.attrs()...)
	}
	session, bad := newKey(t.key.etype, t.key.value)
	if bad != nil {
		return nil, t, refuse(idSessionEtype, slog.String("session_enctype", EnctypeName(t.key.etype)), slog.Any("accepted", enctypeNames())).with(req.attrs()...)
	}
	c := &Context{
		Client: t.name, Realm: t.realm, Service: PrincipalText(k.name, k.realm), Kvno: k.kvno, Enctype: k.et.id,
		End: t.end, Mutual: req.options&optionMutual != 0, session: session, random: a.random(),
	}
	if err := c.openAuthenticator(req); err != nil {
		return nil, t, err.with(req.attrs()...)
	}
	now := a.now()
	c.Skew = c.auth.ctime.Sub(now)
	// Sub ends at 292 years; a product of seconds would turn over and come near again.
	c.apart = c.auth.ctime.Truncate(time.Second).Sub(now.Truncate(time.Second))
	return c, t, nil
}

func (a *Acceptor) openTicket(ring *keyring, req *apReq) (*serviceKey, []byte, *Refusal) {
	switch {
	case !a.serves(req.service):
		return nil, nil, refuse(idNotUs, slog.Any("services", a.services()), slog.Any("hosts", a.Hosts))
	case enctypeOf(req.ticket.etype) == nil:
		return nil, nil, refuse(idTicketEtype, slog.Any("accepted", enctypeNames()))
	case len(ring.entries) == 0:
		return nil, nil, refuse(idNoKeys, slog.Any("weak", ring.weak))
	case req.realm != "" && !ring.hasRealm(req.realm):
		return nil, nil, refuse(idNotUs, slog.Any("held", ring.held("")))
	}
	keys, known, exact := ring.candidates(req)
	for _, k := range keys {
		if plain, err := k.ticket.open(req.ticket.cipher); err == nil {
			return k, plain, nil
		}
	}
	held := slog.Any("held", ring.held(req.realm))
	switch {
	case !known:
		return nil, nil, refuse(idNotUs, held)
	case !exact:
		return nil, nil, refuse(idNoKvno, held)
	}
	return nil, nil, refuse(idTicketKey, held)
}

func (c *Context) openAuthenticator(req *apReq) *Refusal {
	if req.authenticator.etype != c.session.et.id {
		return refuse(idAuthKey, slog.String("authenticator_enctype", EnctypeName(req.authenticator.etype)))
	}
	plain, err := c.session.sealer(usageAuthenticator).open(req.authenticator.cipher)
	if err != nil {
		return refuseFor(idAuthKey, err)
	}
	var ok bool
	if c.auth, ok = decodeAuthenticator(plain); !ok {
		return refuse(idSyntax, slog.String("part", "authenticator"))
	}
	if c.auth.version != protocolVersion {
		return refuse(idVersion, slog.Int64("authenticator_vno", c.auth.version))
	}
	return nil
}

// identity makes the Identity; names come from the ticket alone.
func (c *Context) identity(mechanism, authzid string) *auth.Identity {
	return &auth.Identity{
		Mechanism: mechanism,
		Authcid:   c.Principal(),
		Authzid:   authzid,
		Realm:     c.Realm,
		Detail: []slog.Attr{
			slog.Uint64("kvno", uint64(c.Kvno)),
			slog.String("enctype", EnctypeName(c.Enctype)),
			slog.Int64("skew_ms", c.Skew.Milliseconds()),
			slog.String("service", c.Service),
		},
	}
}
