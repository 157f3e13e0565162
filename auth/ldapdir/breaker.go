package ldapdir

import (
	"sync"
	"time"
)

// How long a server rests after failing, doubled each time.
const (
	shortRest = time.Second
	longRest  = 30 * time.Second
	tolerated = 2 // failures in a row before it rests
)

// A breaker keeps a failing server from being asked for a while. When its rest
// is over one caller may try; the others go on without.
type breaker struct {
	mu       sync.Mutex
	failures int
	until    time.Time
}

// allow says whether the server may be tried now.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < tolerated {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.until = now.Add(shortRest) // the one that tries; the next may a second later
	return true
}

func (b *breaker) succeed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
}

func (b *breaker) fail(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	if b.failures >= tolerated {
		b.until = now.Add(min(shortRest<<min(b.failures-tolerated, 10), longRest))
	}
}

// failing counts the failures in a row.
func (b *breaker) failing() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures
}

// resting says whether the server is left alone now.
func (b *breaker) resting(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= tolerated && now.Before(b.until)
}
