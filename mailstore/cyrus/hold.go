package cyrus

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// shards is the number of lock files: enough that a kernel list of locks
// stays short with ten thousand sessions, few enough to stay open.
const shards = 256

// holds keeps sessions apart (RFC 1939 section 4). Within the process a map
// tells who has what; between processes an octet of a lock file stands for a
// maildrop. A session costs no descriptor: there is one a shard.
//
// Cyrus's pop3d knows nothing of it, nor has an exclusive session of its own.
// That is harmless: nothing here depends on record numbers.
type holds struct {
	dir   string
	in    func(do func() error) error // see Store.inState
	mu    sync.Mutex
	files [shards]*ofd.File
	by    map[uint64]hold
}

// A hold is small: the map has room for twice as many. Its holder is the
// maildrop's own.
type hold struct {
	mailbox string // internal name
	holder  *mailstore.Holder
}

// Held is a maildrop that a session of this process has.
type Held struct {
	Mailbox string // internal name
	Holder  mailstore.Holder
}

// holdKey is the number of a maildrop's octet. Two maildrops with the same
// number would exclude each other, which is safe and will not happen.
func holdKey(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	return h.Sum64()
}

// place is the shard and the octet in it; a lock may not end beyond the
// greatest file offset.
func (h *holds) place(key uint64) (shard int, octet int64) {
	return int(key >> 56), min(int64(key&math.MaxInt64), math.MaxInt64-1)
}

func (h *holds) acquire(key uint64, mailbox string, holder *mailstore.Holder) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if by, taken := h.by[key]; taken {
		return &mailstore.InUseError{Holder: *by.holder}
	}
	shard, octet := h.place(key)
	f, err := h.file(shard)
	if err != nil {
		return err
	}
	ok, err := ofd.TryLockRange(f, true, octet, 1)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("cyrus: %w by another process", mailstore.ErrInUse)
	}
	h.by[key] = hold{mailbox, holder}
	return nil
}

func (h *holds) file(shard int) (*ofd.File, error) {
	if h.files[shard] == nil {
		path := filepath.Join(h.dir, fmt.Sprintf("%02x", shard))
		var f *ofd.File
		err := h.in(func() (err error) {
			f, err = ofd.Open(path, os.O_RDWR|os.O_CREATE, 0o600)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("cyrus: %w", err)
		}
		if err := adopt(path, h.dir); err != nil {
			f.Close()
			return nil, fmt.Errorf("cyrus: %w", err)
		}
		h.files[shard] = f
	}
	return h.files[shard], nil
}

func (h *holds) give(key uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.by, key)
	shard, octet := h.place(key)
	if h.files[shard] == nil {
		return nil
	}
	return ofd.UnlockRange(h.files[shard], octet, 1)
}

// close ends every hold.
func (h *holds) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, f := range h.files {
		if f != nil {
			f.Close()
			h.files[i] = nil
		}
	}
	clear(h.by)
}

func (h *holds) list() []Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Held, 0, len(h.by))
	for _, held := range h.by {
		list = append(list, Held{Mailbox: held.mailbox, Holder: *held.holder})
	}
	slices.SortFunc(list, func(a, b Held) int {
		return cmp.Or(a.Holder.Since.Compare(b.Holder.Since), cmp.Compare(a.Mailbox, b.Mailbox))
	})
	return list
}
