package krb5

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// A Replay remembers authenticators (RFC 4120 section 3.2.3). Add is atomic:
// of any number of calls with one key, before the expiry of the first, exactly
// one is told that it is fresh. An error means that nobody knows, and refuses
// the login. Several servers behind one service key need one Replay.
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
	if f, ok := a.Replay.(floored); ok && c.auth.ctime.Before(f.Floor()) && c.Skew >= -a.skew() {
		return refuse(idAfterBoot, slog.Time("floor", f.Floor()))
	}
	fresh, err := a.Replay.Add(ctx, replayKey(cipher), a.replayExpiry(c))
	switch {
	case err != nil:
		return refuseFor(idReplayStore, err)
	case !fresh:
		return refuse(idReplay)
	}
	return nil
}

// replayExpiry is one skew after the last moment at which the authenticator
// could be accepted, for clocks that are set back. A time far off, which the
// clock check refuses later, must not stay for ever.
func (a *Acceptor) replayExpiry(c *Context) time.Time {
	skew := a.skew()
	ctime, now := c.auth.ctime, a.now()
	if ctime.After(now.Add(skew)) {
		ctime = now.Add(skew)
	} else if ctime.Before(now.Add(-skew)) {
		ctime = now.Add(-skew)
	}
	return ctime.Add(2 * skew)
}

// DefaultReplayLimit is how many authenticators are remembered at most: some
// 3000 logins a second for a window of ten minutes, about 200 MiB when full.
const DefaultReplayLimit = 2 << 20

// ErrReplayFull is what a full ReplayCache answers: it refuses rather than
// forgets.
var ErrReplayFull = errors.New("krb5: replay cache is full")

// A ReplayCache is a Replay in memory, with a journal on disk when it was
// opened by OpenReplayJournal.
type ReplayCache struct {
	now   func() time.Time
	limit int
	floor time.Time

	mu      sync.Mutex
	seen    map[[32]byte]int64
	slots   map[int64][][32]byte // keys by the minute in which they expire
	first   int64                // no slot is earlier
	journal *journal
}

const slotSeconds = 60

// NewReplayCache makes a cache in memory of at most limit entries (zero:
// DefaultReplayLimit). It forgets all at the end of the process, so it serves
// tests and services whose service key is new at each start.
func NewReplayCache(limit int) *ReplayCache {
	if limit <= 0 {
		limit = DefaultReplayLimit
	}
	return &ReplayCache{
		now: time.Now, limit: limit,
		seen: map[[32]byte]int64{}, slots: map[int64][][32]byte{},
	}
}

// Floor is the moment before which the cache knows nothing though it should.
func (r *ReplayCache) Floor() time.Time { return r.floor }

// Len gives the number of entries held.
func (r *ReplayCache) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// Add implements Replay.
func (r *ReplayCache) Add(_ context.Context, key [32]byte, expire time.Time) (bool, error) {
	now := r.now().Unix()
	end := expire.Unix() + 1
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	if until, ok := r.seen[key]; ok && until >= now {
		return false, nil
	}
	if len(r.seen) >= r.limit {
		return false, ErrReplayFull
	}
	// In memory first: when the journal fails this one login is refused,
	// and so is its repetition.
	r.remember(key, end)
	if r.journal == nil {
		return true, nil
	}
	if err := r.journal.append(key, end); err != nil {
		return false, err
	}
	if r.journal.records > 4*len(r.seen)+compactAbove {
		if err := r.journal.rewrite(r.seen); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *ReplayCache) remember(key [32]byte, end int64) {
	r.seen[key] = end
	slot := end / slotSeconds
	r.slots[slot] = append(r.slots[slot], key)
	if r.first == 0 || slot < r.first {
		r.first = slot
	}
}

// sweep drops the slots that are wholly past. Each entry is dropped once, so
// a login pays for one other login's entry.
func (r *ReplayCache) sweep(now int64) {
	for len(r.slots) > 0 && r.first < now/slotSeconds {
		for _, k := range r.slots[r.first] {
			if r.seen[k] < now {
				delete(r.seen, k)
			}
		}
		delete(r.slots, r.first)
		r.first = r.nextSlot(now / slotSeconds)
	}
	if len(r.slots) == 0 {
		r.first = 0
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
