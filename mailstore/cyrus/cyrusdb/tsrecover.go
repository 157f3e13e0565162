package cyrusdb

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// recover undoes what an unfinished transaction left: its records are cut
// off, and the pointers of the others made to lead past it. Level 1 tells
// what was committed; the levels above are laid anew from it.
func (t *tsTx) recover() error {
	h := t.header
	h.size, h.flags = t.committed, h.flags|tsDirty
	if err := t.writeHeader(&h); err != nil {
		return err
	}
	t.end = t.committed
	if err := t.read(tsDummy, &t.dummy); err != nil {
		return err
	}
	chain, err := t.chain()
	if err != nil {
		return err
	}
	records, err := t.relay(chain)
	if err != nil {
		return err
	}
	if err := t.file.Truncate(int64(t.committed)); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	h.records, h.flags = records, h.flags&^tsDirty
	if err := t.writeHeader(&h); err != nil {
		return err
	}
	t.header, t.dirty, t.began = h, false, false
	return nil
}

// chain lists the offsets of level 1 in order, from the dummy on. Deletes are
// left out.
func (t *tsTx) chain() ([]uint64, error) {
	t.resetSteps()
	offsets := []uint64{tsDummy}
	var n tsNode
	next := t.dummy.successor(1, t.end)
	for {
		ok, err := t.live(next, &n)
		if !ok || err != nil {
			return offsets, err
		}
		offsets = append(offsets, n.offset)
		next = n.successor(1, t.end)
	}
}

// relay links the levels, from the last record to the first. It counts the
// records.
func (t *tsTx) relay(chain []uint64) (records uint64, err error) {
	var following [tsMaxLevel + 1]uint64 // the next record of each level
	var n tsNode
	t.resetSteps()
	for i := len(chain) - 1; i >= 0; i-- {
		if err := t.read(chain[i], &n); err != nil {
			return 0, err
		}
		changed := false
		for slot := range min(2, n.level+1) {
			if n.next[slot] >= t.committed {
				n.next[slot], changed = 0, true
			}
		}
		for level := 2; level <= n.level; level++ {
			if n.next[level] != following[level] {
				n.next[level], changed = following[level], true
			}
			following[level] = n.offset
		}
		if changed {
			if err := t.rewriteHead(&n); err != nil {
				return 0, err
			}
		}
	}
	return uint64(len(chain) - 1), nil
}

// checkpointSize is below which Cyrus does not think of a checkpoint.
const checkpointSize = 16834

// Checkpoint writes a twoskip database anew, without what later
// transactions have replaced, when it has grown to twice its size since the
// last time. Cyrus does so when it writes; without Cyrus somebody must.
func Checkpoint(ctx context.Context, db imapdconf.Database) error {
	f, info, err := openLocked(ctx, db.Path, true)
	if err != nil {
		return err
	}
	defer f.Close()
	return at(db.Path, checkpoint(f, &info, db))
}

func checkpoint(f *ofd.File, info *ofd.Info, db imapdconf.Database) error {
	format, err := detect(f, db.Backend)
	if err != nil || format != "twoskip" || info.Size == 0 {
		return err
	}
	old, err := beginTwoskip(f, info.Size)
	if err != nil {
		return err
	}
	if old.header.size <= checkpointSize || old.header.size <= 2*old.header.repackSize {
		return nil
	}
	// The old file's lock keeps every other writer from the new one too.
	path := db.Path + ".NEW"
	fresh, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, info.Perm)
	if err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	defer fresh.Close()
	err = fresh.Chmod(info.Perm)
	if err == nil {
		err = old.copyTo(fresh)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if err := os.Rename(path, db.Path); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	return syncDir(filepath.Dir(db.Path))
}

// copyTo writes the live records as a new database of the next generation.
func (t *tsTx) copyTo(fresh storage) error {
	if err := writeEmpty(fresh, t.header.generation+1); err != nil {
		return err
	}
	to, err := newTSTx(fresh, tsEmptySize)
	if err != nil {
		return err
	}
	if err := t.Range(nil, to.Put); err != nil {
		return err
	}
	if err := to.commit(); err != nil {
		return err
	}
	h := to.header
	h.repackSize = h.size
	return to.writeHeader(&h)
}
