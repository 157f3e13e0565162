package ldapdir

import (
	"container/list"
	"sync"
	"time"

	"github.com/kpopd/kpopd/auth/rules"
)

// A cache remembers answers, the ones used last. Its key is the filters
// as they are sent, which hold everything that an answer depends on.
type cache struct {
	limits CacheLimits

	mu    sync.Mutex
	items map[string]*list.Element
	order list.List // of *answer, the one used last in front
}

// An answer is an entry, or the refusal that there is none.
type answer struct {
	key     string
	entry   rules.Entry
	refusal *rules.Refusal
	at      time.Time
}

func newCache(l CacheLimits) *cache { return &cache{limits: l, items: map[string]*list.Element{}} }

// fresh gives an answer that may be taken without asking.
func (c *cache) fresh(key string, now time.Time) (*answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return nil, false
	}
	a := e.Value.(*answer)
	lifetime := c.limits.Found
	if a.refusal != nil {
		lifetime = c.limits.NotFound
	}
	if now.Sub(a.at) >= lifetime {
		return nil, false
	}
	c.order.MoveToFront(e)
	return a, true
}

// lastKnownGood gives an entry to use while no server answers. A refusal is
// none: it could be out of date, and "try later" is the better answer.
func (c *cache) lastKnownGood(key string, now time.Time) (*answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return nil, false
	}
	a := e.Value.(*answer)
	return a, a.refusal == nil && now.Sub(a.at) < c.limits.Stale
}

// put remembers an answer and forgets the one that was not used for longest.
func (c *cache) put(a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[a.key]; ok {
		e.Value = a
		c.order.MoveToFront(e)
		return
	}
	c.items[a.key] = c.order.PushFront(a)
	for len(c.items) > c.limits.Entries {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.items, last.Value.(*answer).key)
	}
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.items)
}
