package cyrusdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// tsBlock is the unit within which a rewritten head must lie, so that a crash
// leaves it old or new.
const tsBlock = 512

// storage is what a transaction needs of its file.
type storage interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Truncate(size int64) error
}

// A tsTx is a transaction on a twoskip database, under its write lock.
//
// Records are only appended. What may not survive a crash is told apart by
// its offset: everything from committed on belongs to this transaction.
type tsTx struct {
	tsReader
	file      storage
	committed uint64
	began     bool // the header says DIRTY on our account
}

func beginTwoskip(f *ofd.File, size int64) (*tsTx, error) {
	return newTSTx(f, uint64(size))
}

func newTSTx(file storage, size uint64) (*tsTx, error) {
	if size == 0 {
		if err := writeEmpty(file, 1); err != nil {
			return nil, err
		}
		size = tsEmptySize
	}
	r, err := newTSReader(file, size)
	if err != nil {
		return nil, err
	}
	t := &tsTx{tsReader: *r, file: file, committed: r.header.size}
	if t.dirty {
		return t, t.recover()
	}
	return t, nil
}

// writeEmpty makes a database without keys, in one write of less than a disk
// block: a file with half a header could not be told from another format.
func writeEmpty(file storage, generation uint64) error {
	h := tsHeader{generation: generation, repackSize: tsEmptySize, size: tsEmptySize}
	dummy := tsNode{kind: recDummy, level: tsMaxLevel}
	_, err := file.WriteAt(dummy.appendHead(h.encode()), 0)
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	return nil
}

// writeHeader puts the header on disk.
func (t *tsTx) writeHeader(h *tsHeader) error {
	_, err := t.file.WriteAt(h.encode(), 0)
	if err == nil {
		err = t.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	return nil
}

// begin marks the file before its first change: who finds the mark recovers.
func (t *tsTx) begin() error {
	if t.began {
		return nil
	}
	t.header.flags |= tsDirty
	t.began = true
	return t.writeHeader(&t.header)
}

// Put implements Tx.
func (t *tsTx) Put(key, value []byte) error {
	if len(key) == 0 || len(key) > maxKey || len(value) > maxValue {
		return fmt.Errorf("%w: a key of %d and a value of %d octets", errors.ErrUnsupported, len(key), len(value))
	}
	if err := t.begin(); err != nil {
		return err
	}
	var path tsPath
	oldLevel, err := t.locate(key, &path)
	if err != nil {
		return err
	}
	n := tsNode{
		kind: recPut, level: randomLevel(),
		keyLen: uint64(len(key)), valueLen: uint64(len(value)),
	}
	for level := 1; level <= n.level; level++ {
		n.next[level] = path.forward[level]
	}
	if err := t.append(&n, key, value); err != nil {
		return err
	}
	for level := 1; level <= n.level; level++ {
		path.forward[level] = n.offset
	}
	if oldLevel == 0 {
		t.header.records++
	}
	return t.relink(&path, max(n.level, oldLevel))
}

// Delete implements Tx.
func (t *tsTx) Delete(key []byte) error {
	var path tsPath
	oldLevel, err := t.locate(key, &path)
	if err != nil || oldLevel == 0 {
		return err
	}
	if err := t.begin(); err != nil {
		return err
	}
	// On level 1 a record stands for the deletion: without it nothing would
	// tell, after a crash, which of the two pointers is the older one.
	n := tsNode{kind: recDelete}
	n.next[0] = path.forward[1]
	if err := t.append(&n, nil, nil); err != nil {
		return err
	}
	path.forward[1] = n.offset
	t.header.records--
	return t.relink(&path, oldLevel)
}

// locate finds the key's place. When the key is there, level is its record's
// and path.forward leads past it.
func (t *tsTx) locate(key []byte, path *tsPath) (level int, err error) {
	hit, err := t.exact(key, path)
	if hit == nil || err != nil {
		return 0, err
	}
	level = hit.level
	for i := 2; i <= level; i++ {
		path.forward[i] = hit.successor(i, t.end)
	}
	path.forward[1] = 0
	var following tsNode
	ok, err := t.live(hit.successor(1, t.end), &following)
	if ok {
		path.forward[1] = following.offset
	}
	return level, err
}

// randomLevel is 1, and one more with probability ½ each.
func randomLevel() int {
	level := 1
	for level < tsMaxLevel && rand.Uint32()&1 == 1 {
		level++
	}
	return level
}

// append writes a record at the end and leaves its offset in n.
func (t *tsTx) append(n *tsNode, key, value []byte) error {
	n.headLen = headSize(n.level, n.keyLen, n.valueLen)
	var out []byte
	out = appendBlanks(out, t.end, n.headLen)
	n.offset = t.end + uint64(len(out))

	tail := make([]byte, pad8(uint64(len(key)+len(value))))
	copy(tail[copy(tail, key):], value)
	n.tailSum = checksum(tail)
	out = append(n.appendHead(out), tail...)
	if _, err := t.file.WriteAt(out, int64(t.end)); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	t.end += uint64(len(out))
	return nil
}

// appendBlanks fills up to where a head does not straddle two disk blocks.
func appendBlanks(out []byte, end uint64, headLen int) []byte {
	if headLen > tsBlock-8 {
		return out
	}
	for (end+8)%tsBlock > (end-8+uint64(headLen))%tsBlock {
		out = append(out, tsBlank...)
		end += uint64(len(tsBlank))
	}
	return out
}

// relink makes the records before the key lead where path.forward says, on
// the levels up to top.
func (t *tsTx) relink(path *tsPath, top int) error {
	var n tsNode
	for level := 1; level <= top; {
		offset := path.back[level]
		t.resetSteps()
		if err := t.read(offset, &n); err != nil {
			return err
		}
		for ; level <= top && path.back[level] == offset; level++ {
			if n.level < level {
				return fmt.Errorf("%w: record at %d is not on level %d", ErrCorrupt, offset, level)
			}
			n.setSuccessor(level, path.forward[level], t.committed)
		}
		if err := t.rewriteHead(&n); err != nil {
			return err
		}
	}
	return nil
}

// rewriteHead writes a record's pointers anew. Its tail stays as it is.
func (t *tsTx) rewriteHead(n *tsNode) error {
	if _, err := t.file.WriteAt(n.appendHead(nil), int64(n.offset)); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	if n.offset == tsDummy {
		t.dummy = *n
		t.dummy.buf = bytes.Clone(n.buf)
	}
	return nil
}

// commit makes the transaction last: the records are on disk before the
// header says that they count.
func (t *tsTx) commit() error {
	if !t.began {
		return nil
	}
	n := tsNode{kind: recCommit}
	n.next[0] = t.committed
	if err := t.append(&n, nil, nil); err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	h := t.header
	h.size, h.flags = t.end, h.flags&^tsDirty
	if err := t.writeHeader(&h); err != nil {
		return err
	}
	t.header, t.committed, t.began = h, t.end, false
	return nil
}

// abort takes the transaction back. Should that fail too, the mark in the
// header stays, and whoever opens the file next recovers.
func (t *tsTx) abort() error {
	if !t.began {
		return nil
	}
	t.end = t.committed
	return t.recover()
}
