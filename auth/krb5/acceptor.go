package krb5

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth"
)

// Key usages of RFC 4120 section 7.5.1 and RFC 4121 section 2.
const (
	usageTicket        = 2
	usageAuthenticator = 11
	usageAPRep         = 12
	usageAcceptorSeal  = 22
	usageInitiatorSeal = 24
)

// MaxAPReq is the longest AP-REQ that is read, in octets: a ticket with a large
// PAC has 64 KiB.
const MaxAPReq = 128 << 10

// Ticket flags (RFC 4120 section 5.3) and AP options (section 5.5.1), as bit
// numbers.
const (
	flagInvalid         = 7
	flagTransitedPolicy = 12
	optionUseSessionKey = 1
	optionMutual        = 2
)

// A Replay remembers authenticators. It is shared by everything that accepts
// tickets for the same keys.
type Replay interface {
	// Add records seen until expire. fresh is false when it was there
	// already. An error means that it cannot be known: the caller refuses.
	Add(ctx context.Context, seen [sha256.Size]byte, expire time.Time) (fresh bool, err error)
}

// An Acceptor verifies AP-REQs. Keys and Replay are required; the zero value
// of the rest is the usual. It is safe for concurrent use.
type Acceptor struct {
	Keys     func() *keytab.Keytab // the keytab of now; its retired keys still in it
	Replay   Replay
	Services []string      // first components of our names; default pop and pop3
	Realms   []string      // client realms let in; default the keytab's own
	Skew     time.Duration // clock difference tolerated; default 5 minutes

	// CheckAddresses refuses a ticket that is bound to other addresses than
	// the client's. Off, as behind NAT or a proxy it only hurts.
	CheckAddresses bool

	Now  func() time.Time // default time.Now
	Rand io.Reader        // required: crypto/rand.Reader but in tests
	Log  *slog.Logger     // required

	ring atomic.Pointer[keyring]
}

// Validate tells at start what would refuse every login later on.
func (a *Acceptor) Validate() error {
	kt := a.Keys()
	if kt == nil {
		return errors.New("krb5: there is no keytab")
	}
	r := newKeyring(kt, a.services())
	for i := range r.weak {
		a.Log.Warn("key of a refused enctype in the keytab; rekey it with AES", "key", r.weak[i].label())
	}
	if len(r.keys) == 0 {
		return fmt.Errorf("krb5: the keytab has no AES key for any of %s; add one: kadmin -q 'ktadd pop/HOST'",
			strings.Join(a.services(), "/HOST, ")+"/HOST")
	}
	return nil
}

// Accepted is an AP-REQ that has been verified.
type Accepted struct {
	Principal string // client, quoted text with realm
	Realm     string
	Service   string // key that opened the ticket, for the log
	Mutual    bool   // the client wants an AP-REP

	auth    types.Authenticator
	session key
	subkey  *key // initiator's, when it sent one
	kvno    int
	enctype int32
	skew    time.Duration
}

// Detail is what the session's log line says of the ticket.
func (c *Accepted) Detail() []slog.Attr {
	return []slog.Attr{
		slog.String("service", c.Service), slog.Int("kvno", c.kvno),
		slog.String("enctype", EnctypeName(c.enctype)), slog.Int64("skew_ms", c.skew.Milliseconds()),
	}
}

// Accept verifies one AP-REQ in the order of MIT's krb5_rd_req: decode, ticket,
// authenticator, names, address, transited, replay, times. purpose sees the
// authenticator's checksum after decryption and before the replay cache does.
// The error is a *Refusal.
func (a *Acceptor) Accept(ctx context.Context, b []byte, remote net.Addr, purpose func(types.Checksum) *Refusal) (acc *Accepted, err error) {
	// gokrb5 and its asn1 are no hardened parsers: a panic is a malformed message.
	defer func() {
		if p := recover(); p != nil {
			a.Log.Error("panic while reading an AP-REQ", "panic", fmt.Sprint(p))
			acc, err = nil, refuse("KP-102")
		}
	}()
	request, refusal := decodeAPReq(b)
	if refusal != nil {
		return nil, refusal
	}
	acc, refusal = a.verify(ctx, request, remote, purpose)
	if refusal != nil {
		if acc != nil {
			refusal.Identity = acc.Principal
		}
		return nil, refusal
	}
	return acc, nil
}

func (a *Acceptor) verify(ctx context.Context, request *messages.APReq, remote net.Addr, purpose func(types.Checksum) *Refusal) (*Accepted, *Refusal) {
	part, acc, refusal := a.openTicket(request)
	if refusal != nil {
		return nil, refusal
	}
	if refusal = acc.openAuthenticator(request); refusal != nil {
		return nil, refusal
	}
	if refusal = acc.takeName(part); refusal != nil {
		return nil, refusal
	}
	if a.CheckAddresses && !addressed(part.CAddr, remote) {
		return acc, refuse("KP-109")
	}
	if refusal = a.checkRealm(part); refusal != nil {
		return acc, refusal
	}
	if refusal = purpose(acc.auth.Cksum); refusal != nil {
		return acc, refusal
	}
	if refusal = a.checkReplay(ctx, request, acc); refusal != nil {
		return acc, refusal
	}
	return acc, a.checkTimes(part, acc)
}

// decodeAPReq reads the message's outside (RFC 4120 section 5.5.1).
func decodeAPReq(b []byte) (*messages.APReq, *Refusal) {
	if len(b) == 0 || b[0] != 0x6e && b[0] != 0x4e {
		return nil, refuse("KP-101")
	}
	if !wholeDER(b) {
		return nil, refuse("KP-102")
	}
	var request messages.APReq
	if err := request.Unmarshal(b); err != nil {
		return nil, refuse("KP-102")
	}
	switch {
	case request.PVNO != 5 || request.Ticket.TktVNO != 5:
		return nil, refuse("KP-103", slog.Int("pvno", request.PVNO))
	case request.APOptions.At(optionUseSessionKey) == 1:
		return nil, refuse("KP-121")
	}
	return &request, nil
}

// openTicket finds the key and decrypts the ticket with it.
func (a *Acceptor) openTicket(request *messages.APReq) (*messages.EncTicketPart, *Accepted, *Refusal) {
	t := request.Ticket
	came := []slog.Attr{
		slog.String("ticket_for", clip(strings.Join(t.SName.NameString, "/")+"@"+t.Realm)),
		slog.Int("kvno", t.EncPart.KVNO), slog.String("enctype", EnctypeName(t.EncPart.EType)),
	}
	ring := a.keyring()
	if ring == nil {
		return nil, nil, refuse("KP-105", came...)
	}
	if len(t.SName.NameString) != 2 || !slices.Contains(a.services(), t.SName.NameString[0]) {
		return nil, nil, refuse("KP-104", append(came, slog.Any("served", a.services()))...)
	}
	if enctypeByID(t.EncPart.EType) == nil {
		return nil, nil, refuse("KP-107", came...)
	}
	for _, k := range ring.candidates(t.SName, t.Realm, t.EncPart) {
		plain, err := k.ticket.open(t.EncPart.Cipher)
		if err != nil {
			continue
		}
		return openedTicket(plain, k, request, came)
	}
	return nil, nil, ring.unopened(t, came)
}

// unopened says why no key fits: not our name, not our kvno, or a bad key.
func (r *keyring) unopened(t messages.Ticket, came []slog.Attr) *Refusal {
	held := r.serves(t.SName, t.Realm)
	came = append(came, slog.Any("held", held))
	if len(held) == 0 {
		return refuse("KP-104", came...)
	}
	for _, k := range r.candidates(t.SName, t.Realm, t.EncPart) {
		if k.names(t.SName, t.Realm) && k.kvno == t.EncPart.KVNO {
			return refuse("KP-106", came...)
		}
	}
	return refuse("KP-105", came...)
}

func openedTicket(plain []byte, k *serviceKey, request *messages.APReq, came []slog.Attr) (*messages.EncTicketPart, *Accepted, *Refusal) {
	var part messages.EncTicketPart
	if err := part.Unmarshal(plain); err != nil {
		return nil, nil, refuse("KP-102", came...)
	}
	session, ok := newKey(part.Key)
	if !ok {
		return nil, nil, refuse("KP-107", append(came, slog.String("session_key", EnctypeName(part.Key.KeyType)))...)
	}
	return &part, &Accepted{
		Service: k.service + "/" + k.host + "@" + k.realm,
		Mutual:  request.APOptions.At(optionMutual) == 1,
		session: session, kvno: k.kvno, enctype: k.enctype,
	}, nil
}

// openAuthenticator decrypts the authenticator with the session key.
func (c *Accepted) openAuthenticator(request *messages.APReq) *Refusal {
	sealed := request.EncryptedAuthenticator
	if sealed.EType != c.session.enctype.id {
		return refuse("KP-106", slog.String("authenticator", EnctypeName(sealed.EType)))
	}
	plain, err := c.session.forUsage(usageAuthenticator).open(sealed.Cipher)
	if err != nil {
		return refuse("KP-106")
	}
	if err := c.auth.Unmarshal(plain); err != nil {
		return refuse("KP-102")
	}
	if c.auth.AVNO != 5 {
		return refuse("KP-103")
	}
	if c.auth.SubKey.KeyType == 0 && len(c.auth.SubKey.KeyValue) == 0 {
		return nil
	}
	subkey, ok := newKey(c.auth.SubKey)
	if !ok {
		return refuse("KP-107", slog.String("subkey", EnctypeName(c.auth.SubKey.KeyType)))
	}
	c.subkey = &subkey
	return nil
}

// takeName is where the identity comes from: the ticket's name and realm, which
// the authenticator must repeat exactly.
func (c *Accepted) takeName(part *messages.EncTicketPart) *Refusal {
	if !slices.Equal(part.CName.NameString, c.auth.CName.NameString) || part.CRealm != c.auth.CRealm {
		return refuse("KP-108")
	}
	text, ok := principalText(part.CName, part.CRealm)
	if !ok {
		return refuse("KP-120")
	}
	c.Principal, c.Realm = text, part.CRealm
	return nil
}

func (a *Acceptor) checkRealm(part *messages.EncTicketPart) *Refusal {
	if len(part.Transited.Contents) > 0 && part.Flags.At(flagTransitedPolicy) == 0 {
		return refuse("KP-110")
	}
	trusted := a.Realms
	if len(trusted) == 0 {
		trusted = a.keyring().realms()
	}
	if !slices.Contains(trusted, part.CRealm) {
		return refuse("KP-122", slog.String("realm", clip(part.CRealm)), slog.Any("trusted", trusted))
	}
	return nil
}

// checkReplay asks the cache once the authenticator is known to be genuine, so
// that nobody without a ticket can fill it. An entry lives for as long as the
// authenticator's time could pass checkTimes.
func (a *Acceptor) checkReplay(ctx context.Context, request *messages.APReq, acc *Accepted) *Refusal {
	h := sha256.New()
	h.Write([]byte(acc.Service))
	h.Write([]byte{0})
	h.Write(request.EncryptedAuthenticator.Cipher)
	fresh, err := a.Replay.Add(ctx, [sha256.Size]byte(h.Sum(nil)), acc.auth.CTime.Add(2*a.skew()))
	if err != nil {
		a.Log.Error("replay cache cannot be consulted; login refused", "error", err)
		r := refuse("KP-119")
		r.err = auth.ErrTemporary
		return r
	}
	if !fresh {
		return refuse("KP-111")
	}
	return nil
}

// checkTimes is MIT's order: authenticator's clock, ticket's life, INVALID.
func (a *Acceptor) checkTimes(part *messages.EncTicketPart, acc *Accepted) *Refusal {
	now, skew := a.now(), a.skew()
	clock := acc.auth.CTime.Add(time.Duration(acc.auth.Cusec) * time.Microsecond)
	acc.skew = clock.Sub(now)
	start := part.StartTime
	if start.IsZero() {
		start = part.AuthTime
	}
	switch {
	case start.Sub(now) > skew:
		return refuse("KP-112", slog.Time("starts", start), slog.Time("now", now))
	case now.Sub(part.EndTime) > skew:
		return refuse("KP-113", slog.Time("ended", part.EndTime), slog.Time("now", now))
	case acc.skew.Abs() > skew:
		return refuse("KP-114", slog.Float64("skew_s", acc.skew.Seconds()), slog.Float64("allowed_s", skew.Seconds()))
	case part.Flags.At(flagInvalid) == 1:
		return refuse("KP-115")
	}
	return nil
}

// addressed says whether remote is among the ticket's addresses; a ticket
// without any is for every address (RFC 4120 section 5.3, caddr).
func addressed(addresses types.HostAddresses, remote net.Addr) bool {
	if len(addresses) == 0 {
		return true
	}
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return false
	}
	return slices.ContainsFunc(addresses, func(h types.HostAddress) bool { return tcp.IP.Equal(net.IP(h.Address)) })
}

// keyring gives the keys of the keytab of now, made anew when it was reloaded.
func (a *Acceptor) keyring() *keyring {
	kt := a.Keys()
	if kt == nil {
		return nil
	}
	if r := a.ring.Load(); r != nil && r.source == kt {
		return r
	}
	r := newKeyring(kt, a.services())
	a.ring.Store(r)
	return r
}

func (a *Acceptor) services() []string {
	if len(a.Services) == 0 {
		return []string{"pop", "pop3"}
	}
	return a.Services
}

func (a *Acceptor) skew() time.Duration {
	if a.Skew == 0 {
		return 5 * time.Minute
	}
	return a.Skew
}

func (a *Acceptor) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// clip shortens a name from outside for the log.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
