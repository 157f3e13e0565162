package cyrus

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// held is a set of locked files, given back in reverse order.
type held []*os.File

func (h *held) release() {
	for i := len(*h) - 1; i >= 0; i-- {
		_ = (*h)[i].Close() // closing gives the lock back
	}
	*h = nil
}

// lockPath locks a file of Cyrus's lock tree, made when it is missing: on a
// tmpfs the tree vanishes at boot.
func (h *held) lockPath(ctx context.Context, path string, exclusive bool) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("cyrus: lock tree: %w: %w", mailstore.ErrTemporary, err)
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cyrus: lock: %w: %w", mailstore.ErrTemporary, err)
	}
	return h.lock(ctx, f, exclusive)
}

func (h *held) lock(ctx context.Context, f *os.File, exclusive bool) error {
	if err := ofd.Lock(ctx, f, exclusive); err != nil {
		return errors.Join(fmt.Errorf("cyrus: lock %s is held by another program: %w: %w", f.Name(), mailstore.ErrTemporary, err), f.Close())
	}
	*h = append(*h, f)
	return nil
}

// shards is over how many files the sessions' locks are spread: one descriptor
// each for the whole process, instead of one for each session.
const shards = 64

// exclusion keeps a maildrop to one session (RFC 1939 section 8): within the
// process by a table, between processes by a range lock on a file of our own,
// outside Cyrus's lock tree.
type exclusion struct {
	dir     string
	mu      sync.Mutex
	files   [shards]*os.File
	holders map[string]mailstore.Holder
}

func place(id string) (shard int, offset int64) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	sum := h.Sum64()
	return int(sum % shards), int64(sum>>2&(1<<61-1)) | 1 //nolint:gosec // G115: masked
}

func (e *exclusion) acquire(id string, h mailstore.Holder) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if other, ok := e.holders[id]; ok {
		return &mailstore.InUseError{Holder: other}
	}
	shard, offset := place(id)
	if err := e.open(shard); err != nil {
		return err
	}
	ok, err := ofd.TryLockRange(e.files[shard], true, offset, 1)
	if err != nil {
		return fmt.Errorf("cyrus: session lock: %w: %w", mailstore.ErrTemporary, err)
	}
	if !ok {
		return fmt.Errorf("cyrus: maildrop is held by another process: %w", mailstore.ErrInUse)
	}
	if e.holders == nil {
		e.holders = make(map[string]mailstore.Holder)
	}
	e.holders[id] = h
	return nil
}

func (e *exclusion) open(shard int) error {
	if e.files[shard] != nil {
		return nil
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return fmt.Errorf("cyrus: session locks: %w: %w", mailstore.ErrTemporary, err)
	}
	f, err := os.OpenFile(filepath.Join(e.dir, fmt.Sprintf("%02x", shard)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cyrus: session locks: %w: %w", mailstore.ErrTemporary, err)
	}
	e.files[shard] = f
	return nil
}

func (e *exclusion) release(id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.holders, id)
	shard, offset := place(id)
	return ofd.UnlockRange(e.files[shard], offset, 1)
}
