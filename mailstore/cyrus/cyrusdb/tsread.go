package cyrusdb

import (
	"bytes"
	"fmt"
	"io"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A tsReader is a twoskip database open for reading.
type tsReader struct {
	tsFile
	file   ofd.ID
	header tsHeader
	// dirty: a crash left a transaction behind. The higher levels may lead
	// into it; level 1 still tells what was committed, and is walked.
	dirty bool
	dummy tsNode
	nodes [2]tsNode // the record a search stands on, and the one it looks at
}

func openTwoskip(f *ofd.File, info *ofd.Info) (*tsReader, error) {
	r, err := newTSReader(f, uint64(info.Size))
	if err == nil {
		r.file = info.ID
	}
	return r, err
}

func newTSReader(f io.ReaderAt, size uint64) (*tsReader, error) {
	var b [tsHeaderSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return nil, fmt.Errorf("%w: twoskip header: %w", ErrCorrupt, err)
	}
	h, err := parseTSHeader(b[:])
	if err != nil {
		return nil, err
	}
	if h.size < tsEmptySize || h.size > size {
		return nil, fmt.Errorf("%w: twoskip of %d octets holds %d", ErrCorrupt, h.size, size)
	}
	r := &tsReader{header: h, dirty: h.flags&tsDirty != 0 || h.size != size}
	r.f, r.end = f, h.size
	r.resetSteps()
	if err := r.read(tsDummy, &r.dummy); err != nil {
		return nil, err
	}
	if r.dummy.kind != recDummy || r.dummy.level != tsMaxLevel {
		return nil, fmt.Errorf("%w: the first record is not the dummy", ErrCorrupt)
	}
	return r, nil
}

// resetSteps allows one search or walk: no honest one visits more records
// than fit into the file, each once for every level at most.
func (r *tsReader) resetSteps() {
	r.steps = r.end / 24
	r.steps += 2*tsMaxLevel + 2
}

// live reads the record at offset into n; a delete stands for what follows it.
// ok is false at the end of the list.
func (r *tsReader) live(offset uint64, n *tsNode) (ok bool, err error) {
	for offset != 0 {
		if err := r.read(offset, n); err != nil {
			return false, err
		}
		switch n.kind {
		case recPut:
			return true, nil
		case recDelete:
			offset = n.next[0]
		default:
			return false, fmt.Errorf("%w: record at %d: type %q within the list", ErrCorrupt, offset, n.kind)
		}
	}
	return false, nil
}

// A tsPath is the way a search went: on each level the last record before the
// key and the first that is not.
type tsPath struct {
	back, forward [tsMaxLevel + 1]uint64
}

// seek finds the first record whose key is not before key; nil at the end. It
// fills path unless that is nil.
func (r *tsReader) seek(key []byte, path *tsPath) (hit *tsNode, err error) {
	r.resetSteps()
	level := tsMaxLevel
	if r.dirty {
		level = 1
	}
	before, peek, spare := &r.dummy, &r.nodes[0], &r.nodes[1]
	looked, ok := uint64(0), false // what peek was read from, and whether it is a record
	for ; level >= 1; level-- {
		for {
			next := before.successor(level, r.end)
			if next == looked {
				break // compared on the level above
			}
			looked = next
			if ok, err = r.live(next, peek); err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			after, err := r.notBefore(peek, key, level)
			if err != nil {
				return nil, err
			}
			if after {
				break
			}
			before, peek, spare = peek, spare, peek
			looked, ok = 0, false
		}
		if path != nil {
			path.back[level], path.forward[level] = before.offset, 0
			if ok {
				path.forward[level] = peek.offset
			}
		}
	}
	if !ok {
		return nil, nil
	}
	return peek, nil
}

// notBefore compares a record met on a level with the key.
func (r *tsReader) notBefore(n *tsNode, key []byte, level int) (bool, error) {
	if n.level < level {
		return false, fmt.Errorf("%w: record at %d of level %d is linked on level %d", ErrCorrupt, n.offset, n.level, level)
	}
	found, err := r.key(n)
	return bytes.Compare(found, key) >= 0, err
}

// exact is seek for a record with just this key.
func (r *tsReader) exact(key []byte, path *tsPath) (hit *tsNode, err error) {
	hit, err = r.seek(key, path)
	if hit == nil || err != nil {
		return nil, err
	}
	found, err := r.key(hit)
	if err != nil || !bytes.Equal(found, key) {
		return nil, err
	}
	return hit, nil
}

// Get implements Reader.
func (r *tsReader) Get(key []byte) (value []byte, found bool, err error) {
	hit, err := r.exact(key, nil)
	if hit == nil || err != nil {
		return nil, false, err
	}
	value, err = r.value(hit)
	return value, err == nil, err
}

// Range implements Reader. Its record is its own, so do may search.
func (r *tsReader) Range(prefix []byte, do func(key, value []byte) error) error {
	hit, err := r.seek(prefix, nil)
	if hit == nil || err != nil {
		return err
	}
	n := *hit
	hit.buf = nil
	r.resetSteps()
	for ok := true; ok && err == nil; ok, err = r.live(n.successor(1, r.end), &n) {
		value, err := r.value(&n)
		if err != nil {
			return err
		}
		key, err := r.key(&n)
		if err != nil || !bytes.HasPrefix(key, prefix) {
			return err
		}
		steps := r.steps
		if err := do(key, value); err != nil {
			return err
		}
		r.steps = steps
	}
	return err
}
