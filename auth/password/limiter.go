package password

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// A Limiter slows whoever guesses: by address prefix, and by user from that
// prefix, never by user alone, so that nobody can lock out a user at another
// address. It works for any proof, tickets as well as passwords, and is safe
// for concurrent use.
//
// Each attempt costs one when it begins and is given back when it was no wrong
// guess; otherwise it fades. Beyond what is free, an attempt waits, twice as long
// for each further one, and beyond MaxWait it is refused unseen.
type Limiter struct {
	options LimiterOptions
	seed    maphash.Seed

	mu         sync.Mutex
	young, old map[limitKey]debt
}

// LimiterOptions are for NewLimiter. Zero fields take the default.
type LimiterOptions struct {
	IPv4Bits, IPv6Bits int // of an address that make a prefix; 32 and 64

	FreePrefix int           // wrong guesses of a prefix before it waits; 20, since many users may share it
	FreeUser   int           // wrong guesses of a prefix for one user before they wait; 3
	Fade       time.Duration // in which one wrong guess is forgotten; 1 minute
	FirstWait  time.Duration // 1 second
	MaxWait    time.Duration // longer waits are refusals; 16 seconds

	// Entries bounds the memory, some 100 octets each; 65536. When there are
	// more, those that rested longest are forgotten.
	Entries int

	Now func() time.Time // nil: time.Now
}

// A limitKey is a prefix, or a user from it. Users are told by a hash: names
// come from outside and would make the memory theirs.
type limitKey struct {
	prefix netip.Prefix
	user   uint64 // 0: all
}

// A debt is what was guessed wrong, as of a time.
type debt struct {
	amount float64
	at     time.Time
}

// NewLimiter makes a Limiter.
func NewLimiter(o LimiterOptions) *Limiter {
	o.IPv4Bits = or(o.IPv4Bits, 32)
	o.IPv6Bits = or(o.IPv6Bits, 64)
	o.FreePrefix = or(o.FreePrefix, 20)
	o.FreeUser = or(o.FreeUser, 3)
	o.Fade = or(o.Fade, time.Minute)
	o.FirstWait = or(o.FirstWait, time.Second)
	o.MaxWait = or(o.MaxWait, 16*time.Second)
	o.Entries = or(o.Entries, 1<<16)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Limiter{options: o, seed: maphash.MakeSeed(), young: map[limitKey]debt{}}
}

func or[T ~int | ~int64](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Take charges an attempt as a wrong guess. wait is how long it must be held
// back before it is looked at; ok is false when it must not be looked at.
// Give Back follows if it was no wrong guess. user may be empty.
func (l *Limiter) Take(remote net.Addr, user string) (wait time.Duration, ok bool) {
	all, one := l.keys(remote, user)
	l.mu.Lock()
	defer l.mu.Unlock()
	waitAll, okAll := l.hold(all, l.options.FreePrefix)
	waitOne, okOne := l.hold(one, l.options.FreeUser)
	if one == all {
		waitOne, okOne = 0, true
	}
	if !okAll || !okOne {
		return 0, false // and not charged: a ban ends, however often it is tried
	}
	l.add(all, 1)
	if one != all {
		l.add(one, 1)
	}
	return max(waitAll, waitOne), true
}

// Wait is how long an attempt from remote, by whatever user, would be held back
// now; at most MaxWait.
func (l *Limiter) Wait(remote net.Addr) time.Duration {
	all, _ := l.keys(remote, "")
	l.mu.Lock()
	defer l.mu.Unlock()
	wait, ok := l.hold(all, l.options.FreePrefix)
	if !ok {
		return l.options.MaxWait
	}
	return wait
}

// GiveBack undoes one Take: the attempt was right, or could not be judged.
// Wrong ones before it stay: a guesser with an account of his own gains nothing.
func (l *Limiter) GiveBack(remote net.Addr, user string) {
	all, one := l.keys(remote, user)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(all, -1)
	if one != all {
		l.add(one, -1)
	}
}

// Guard puts the limiter before a check. Attempts refused unseen are temporary
// refusals: a client must not forget a right password over them.
func (l *Limiter) Guard(check auth.PasswordCheck) auth.PasswordCheck {
	return func(ctx context.Context, peer auth.Peer, user, password string) (*auth.Identity, error) {
		return l.guard(ctx, peer, user, func() (*auth.Identity, error) { return check(ctx, peer, user, password) })
	}
}

// guard holds back, checks and counts.
func (l *Limiter) guard(ctx context.Context, peer auth.Peer, user string, check func() (*auth.Identity, error)) (*auth.Identity, error) {
	hold, ok := l.Take(peer.Remote, user)
	if !ok {
		return nil, fmt.Errorf("password: too many wrong guesses from here: %w", auth.ErrTemporary)
	}
	if hold > 0 && !wait(ctx, hold) {
		return nil, fmt.Errorf("password: gave up while held back for earlier guesses: %w", auth.ErrTemporary)
	}
	id, err := check()
	if !isRefusal(err) {
		l.GiveBack(peer.Remote, user)
	}
	return id, err
}

// A LimitedAPOP is an APOP behind a Limiter.
type LimitedAPOP struct {
	*APOP
	limiter *Limiter
}

// GuardAPOP is Guard for digests.
func (l *Limiter) GuardAPOP(a *APOP) *LimitedAPOP { return &LimitedAPOP{APOP: a, limiter: l} }

// Check is APOP.Check, held back like any other guess.
func (a *LimitedAPOP) Check(ctx context.Context, peer auth.Peer, user, digest, stamp string) (*auth.Identity, error) {
	bare, _ := a.bare(user) // a malformed name is a guess too
	return a.limiter.guard(ctx, peer, bare, func() (*auth.Identity, error) { return a.APOP.Check(ctx, peer, user, digest, stamp) })
}

// hold says how long the next attempt under key waits. The caller holds mu.
func (l *Limiter) hold(key limitKey, free int) (wait time.Duration, ok bool) {
	for over := int(math.Ceil(l.find(key).amount)) - free; over >= 0; over-- {
		if wait = max(l.options.FirstWait, 2*wait); wait > l.options.MaxWait {
			return 0, false
		}
	}
	return wait, true
}

// add changes key's debt. The caller holds mu.
func (l *Limiter) add(key limitKey, by float64) {
	d := l.find(key)
	if d.amount == 0 && by < 0 {
		return
	}
	d.amount = max(0, d.amount+by)
	l.store(key, d)
}

// find gives key's debt of now. The caller holds mu.
func (l *Limiter) find(key limitKey) debt {
	d, ok := l.young[key]
	if !ok {
		d = l.old[key]
	}
	now := l.options.Now()
	if d.amount > 0 {
		d.amount = max(0, d.amount-float64(now.Sub(d.at))/float64(l.options.Fade))
	}
	d.at = now
	return d
}

// store keeps a debt. The table has two halves; when the young one is full, it
// becomes the old one, whose entries are dropped. The caller holds mu.
func (l *Limiter) store(key limitKey, d debt) {
	if _, known := l.young[key]; !known && len(l.young) >= max(1, l.options.Entries/2) {
		l.old, l.young = l.young, map[limitKey]debt{}
	}
	delete(l.old, key)
	l.young[key] = d
}

// Len is how many debts are held.
func (l *Limiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.young) + len(l.old)
}

func (l *Limiter) keys(remote net.Addr, user string) (all, one limitKey) {
	all.prefix = l.prefix(remote)
	one = all
	if user != "" {
		// Active Directory does not tell names apart by case: nor do guesses.
		one.user = max(1, maphash.String(l.seed, strings.ToLower(user)))
	}
	return all, one
}

// prefix gives the address's prefix; the zero one is for all that have none.
func (l *Limiter) prefix(remote net.Addr) netip.Prefix {
	var address netip.Addr
	switch a := remote.(type) {
	case *net.TCPAddr:
		address = a.AddrPort().Addr()
	case nil:
	default:
		if p, err := netip.ParseAddrPort(a.String()); err == nil {
			address = p.Addr()
		}
	}
	address = address.Unmap().WithZone("")
	bits := l.options.IPv6Bits
	if address.Is4() {
		bits = l.options.IPv4Bits
	}
	p, err := address.Prefix(min(bits, address.BitLen()))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
