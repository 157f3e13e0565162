package krb5

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Replay remembers authenticators (RFC 4120 section 3.2.3). Add is atomic:
// of any number of calls with one key, before the expiry of the first, exactly
// one is told that it is fresh. A zero expire is for an authenticator that is
// refused for its time whatever Add says. An error means that nobody knows, and
// refuses the login. Several servers behind one service key need one Replay.
type Replay interface {
	Add(ctx context.Context, key [32]byte, expire time.Time) (fresh bool, err error)
}

// A floored Replay does not know what came before some moment: authenticators
// from before it are refused.
type floored interface{ Floor() time.Time }

// replayKey names an authenticator. Only its ciphertext counts: the name of
// the service in the ticket's clear part can be rewritten by anybody, and the
// ciphertext cannot be changed without the session key.
func replayKey(cipher []byte) [32]byte { return sha256.Sum256(cipher) }

func (a *Acceptor) checkReplay(ctx context.Context, c *Context, cipher []byte) *Refusal {
	if f, ok := a.Replay.(floored); ok && c.auth.ctime.Before(f.Floor()) && c.apart >= -a.skew() {
		return refuse(idAfterBoot, slog.Time("floor", f.Floor()))
	}
	fresh, err := a.Replay.Add(ctx, replayKey(cipher), a.replayExpiry(c))
	switch {
	case errors.Is(err, ErrReplayForgotten):
		return refuseFor(idForgotten, err)
	case err != nil:
		return refuseFor(idReplayStore, err)
	case !fresh:
		return refuse(idReplay)
	}
	return nil
}

// replayExpiry is one skew after the last moment at which the authenticator can
// be accepted, and no sooner than the largest skew of all would let it in: the
// skew may be raised by a reload. None for a time far off, which the clock check
// refuses later.
func (a *Acceptor) replayExpiry(c *Context) time.Time {
	if skew := a.skew(); c.inTime(skew) {
		return c.auth.ctime.Add(max(2*skew, maxSkew+time.Second))
	}
	return time.Time{}
}

// DefaultReplayLimit is how many authenticators are remembered at most: some
// 3000 logins a second for a window of ten minutes, about 250 MiB when full.
const DefaultReplayLimit = 2 << 20

// ErrReplayFull is what a full ReplayCache answers: it refuses rather than
// forgets.
var ErrReplayFull = errors.New("krb5: replay cache is full")

// ErrReplayForgotten is the answer for an authenticator of a time whose others
// were accepted and are no longer known: the clock has been set back.
var ErrReplayForgotten = errors.New("krb5: the clock was set back to a time that was served before")

// A clock tells the time of day, which may jump, and the time since the
// machine's start, which may not.
type clock struct {
	now     func() time.Time
	elapsed func() time.Duration
}

// systemClock counts the time of suspension too: tickets age meanwhile.
var systemClock = clock{time.Now, func() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // fails for unknown clocks only
	return time.Duration(t.Nano())
}}

// A ReplayCache is a Replay in memory, with a journal on disk when it was
// opened by OpenReplayJournal.
//
// It drops an entry when both clocks agree that its time is over: the time of
// day alone would drop all at a jump forward, and take them for new after the
// jump back. Of what it has dropped it keeps the span of times, one for each
// epoch between two jumps: an authenticator in such a span can only come when the
// clock was set back, and may be one of those.
type ReplayCache struct {
	clock
	limit int

	floored bool          // what came before it was opened is not known
	opened  time.Duration // by elapsed

	mu      sync.Mutex
	seen    map[[32]byte]seenEntry
	slots   map[int64][][32]byte // keys by the minute, of elapsed, in which they are due
	first   int64                // no slot is earlier
	epoch   uint32
	offset  int64 // seconds from elapsed to now, when last looked at
	spans   []span
	journal *journal
}

// A seenEntry says when one may be dropped.
type seenEntry struct {
	end   int64 // second of the day's clock; noEnd: it never was to be accepted
	due   int64 // second of elapsed
	epoch uint32
}

// A span is what an epoch has dropped, by the seconds of their ends.
type span struct {
	epoch  uint32
	lo, hi int64
}

const (
	slotSeconds = 60
	noEnd       = math.MinInt64

	// keepRefused is how long an authenticator of a time far off is known, so
	// that it is called a replay the second time, as MIT does.
	keepRefused = 600

	// jumpSeconds is what the clocks may drift apart between two logins.
	jumpSeconds = 30

	// maxSpans bounds the spans: one more for each jump and each restart.
	maxSpans = 64
)

// NewReplayCache makes a cache in memory of at most limit entries (zero:
// DefaultReplayLimit). It forgets all at the end of the process, so it serves
// tests and services whose service key is new at each start.
func NewReplayCache(limit int) *ReplayCache { return newReplayCache(limit, systemClock) }

func newReplayCache(limit int, c clock) *ReplayCache {
	if limit <= 0 {
		limit = DefaultReplayLimit
	}
	r := &ReplayCache{clock: c, limit: limit, seen: map[[32]byte]seenEntry{}, slots: map[int64][][32]byte{}}
	wall, up := r.times()
	r.opened, r.offset = c.elapsed(), wall-up
	return r
}

func (r *ReplayCache) times() (wall, up int64) {
	return r.now().Unix(), int64(r.elapsed() / time.Second)
}

// Floor is the moment before which the cache knows nothing though it should; zero
// when there is none. It is when the cache was opened, by today's clock.
func (r *ReplayCache) Floor() time.Time {
	if !r.floored {
		return time.Time{}
	}
	return r.now().Add(r.opened - r.elapsed())
}

// Len gives the number of entries held.
func (r *ReplayCache) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// Add implements Replay.
func (r *ReplayCache) Add(_ context.Context, key [32]byte, expire time.Time) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wall, up := r.times()
	r.watchClock(wall - up)
	r.sweep(wall, up)
	if _, ok := r.seen[key]; ok {
		return false, nil
	}
	e := r.entry(expire, wall, up)
	switch {
	case r.forgotten(e.end):
		return false, ErrReplayForgotten
	case len(r.seen) >= r.limit:
		return false, ErrReplayFull
	}
	// In memory first: when the journal fails this one login is refused,
	// and so is its repetition.
	r.remember(key, e)
	if r.journal == nil {
		return true, nil
	}
	if err := r.journal.append(key, e); err != nil {
		return false, err
	}
	if r.journal.records > 4*len(r.seen)+compactAbove {
		if err := r.journal.rewrite(r); err != nil {
			return false, err
		}
	}
	return true, nil
}

// watchClock begins a new epoch when the day's clock has jumped.
func (r *ReplayCache) watchClock(offset int64) {
	if d := offset - r.offset; d > jumpSeconds || d < -jumpSeconds {
		r.epoch++
	}
	r.offset = offset
}

func (r *ReplayCache) entry(expire time.Time, wall, up int64) seenEntry {
	if expire.IsZero() {
		return seenEntry{noEnd, up + keepRefused, r.epoch}
	}
	e := seenEntry{expire.Unix() + 1, 0, r.epoch}
	if e.due = up + e.end - wall; e.due < up {
		e.end = noEnd
	}
	return e
}

// forgotten says whether an entry of that end may have been dropped.
func (r *ReplayCache) forgotten(end int64) bool {
	return end != noEnd && slices.ContainsFunc(r.spans, func(s span) bool { return s.lo <= end && end <= s.hi })
}

func (r *ReplayCache) remember(key [32]byte, e seenEntry) {
	r.seen[key] = e
	slot := e.due / slotSeconds
	r.slots[slot] = append(r.slots[slot], key)
	if len(r.slots) == 1 || slot < r.first {
		r.first = slot
	}
}

// sweep looks at the slots that are wholly past. Each entry is dropped once, so
// a login pays for one other login's entry.
func (r *ReplayCache) sweep(wall, up int64) {
	for len(r.slots) > 0 && r.first < up/slotSeconds {
		keys := r.slots[r.first]
		delete(r.slots, r.first)
		for _, k := range keys {
			e := r.seen[k]
			if e.end >= wall { // the clock was set back: its time comes again
				e.due = up + min(e.end-wall, maxRedue)
				r.remember(k, e)
				continue
			}
			r.drop(k, e)
		}
		r.first = r.nextSlot(up / slotSeconds)
	}
}

// maxRedue bounds the time until an entry is looked at again.
const maxRedue = 3600

func (r *ReplayCache) drop(k [32]byte, e seenEntry) {
	delete(r.seen, k)
	if e.end != noEnd {
		r.cover(e.epoch, e.end, e.end)
	}
}

// cover adds what was dropped to the span of its epoch.
func (r *ReplayCache) cover(epoch uint32, lo, hi int64) {
	for i := range r.spans {
		if s := &r.spans[i]; s.epoch == epoch {
			s.lo, s.hi = min(s.lo, lo), max(s.hi, hi)
			return
		}
	}
	r.spans = append(r.spans, span{epoch, lo, hi})
	if len(r.spans) > maxSpans { // the longest past goes
		oldest := slices.MinFunc(r.spans, func(a, b span) int { return cmp.Compare(a.hi, b.hi) })
		r.spans = slices.DeleteFunc(r.spans, func(s span) bool { return s == oldest })
	}
}

// nextSlot finds the earliest slot; there are some ten or twenty.
func (r *ReplayCache) nextSlot(otherwise int64) int64 {
	next, found := otherwise, false
	for s := range r.slots {
		if !found || s < next {
			next, found = s, true
		}
	}
	return next
}

// Close closes the journal. Nothing is fresh afterwards.
func (r *ReplayCache) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.journal == nil {
		return nil
	}
	return r.journal.close()
}
