package cyrusdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// The skiplist format: a header, records in key order, and a log of later
// changes that the records' pointers lead into. Big endian.
const (
	slHeaderSize = 48
	slDummy      = slHeaderSize
	slVersion    = 1
	slMaxLevel   = 20

	slInorder = 1
	slAdd     = 2
	slDelete  = 4
	slCommit  = 255
	slDummyID = 257

	slEnd = 0xffffffff // after a record's pointers
)

// maxSkiplist bounds what is read whole.
const maxSkiplist = 1 << 30

// An slReader is a skiplist database, read only.
type slReader struct {
	f        io.ReaderAt
	size     int64
	logStart uint32
	level    int
	steps    int64
	nodes    [2]slNode
}

// An slNode is one record.
type slNode struct {
	offset     uint32
	key, value []byte
	next       []uint32
	buf        []byte
}

func openSkiplist(f *ofd.File, size int64) (*slReader, error) {
	return newSLReader(f, size)
}

func newSLReader(f io.ReaderAt, size int64) (*slReader, error) {
	var b [slHeaderSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return nil, fmt.Errorf("%w: skiplist header: %w", ErrCorrupt, err)
	}
	if string(b[:magicSize]) != skiplistMagic || size > maxSkiplist {
		return nil, fmt.Errorf("%w: skiplist header", ErrCorrupt)
	}
	if v := binary.BigEndian.Uint32(b[20:]); v != slVersion {
		return nil, fmt.Errorf("%w: skiplist version %d", ErrFormat, v)
	}
	r := &slReader{f: f, size: size, logStart: binary.BigEndian.Uint32(b[40:])}
	level := binary.BigEndian.Uint32(b[32:])
	if level > slMaxLevel || int64(r.logStart) > size || r.logStart < slHeaderSize {
		return nil, fmt.Errorf("%w: skiplist header", ErrCorrupt)
	}
	r.level = int(max(level, 1))
	return r, r.checkLog()
}

// checkLog refuses a file whose last change was not committed: its pointers
// lead there already. Any Cyrus process that opens it repairs it.
func (r *slReader) checkLog() error {
	committed := true
	r.resetSteps()
	for at := r.logStart; int64(at) < r.size; {
		var b [8]byte
		if n, err := r.f.ReadAt(b[:], int64(at)); n < 4 {
			return fmt.Errorf("%w: skiplist log: %w", ErrCorrupt, err)
		}
		switch kind := binary.BigEndian.Uint32(b[:]); kind {
		case slCommit:
			committed = true
			at += 4
		case slDelete:
			committed = false
			at += 8
		case slAdd, slInorder:
			committed = false
			if err := r.read(at, &r.nodes[0]); err != nil {
				return err
			}
			at += r.nodes[0].length()
		default:
			return fmt.Errorf("%w: skiplist log: type %d at %d", ErrCorrupt, kind, at)
		}
	}
	if !committed {
		return fmt.Errorf("%w: skiplist: a transaction was cut off; let Cyrus open the database (ctl_cyrusdb -r)", ErrCorrupt)
	}
	return nil
}

func (r *slReader) resetSteps() { r.steps = r.size/12 + 2*slMaxLevel }

func pad4(n uint32) uint32 { return (n + 3) &^ 3 }

func (n *slNode) length() uint32 {
	return 12 + pad4(uint32(len(n.key))) + pad4(uint32(len(n.value))) + 4*uint32(len(n.next)+1)
}

// read decodes the record at offset.
func (r *slReader) read(offset uint32, n *slNode) error {
	bad := func(what string) error {
		return fmt.Errorf("%w: skiplist record at %d: %s", ErrCorrupt, offset, what)
	}
	if r.steps--; r.steps < 0 {
		return bad("records are linked in a ring")
	}
	if offset < slDummy || offset%4 != 0 || int64(offset)+12 > r.size {
		return bad("outside the file")
	}
	n.offset = offset
	if err := r.fill(n, firstRead); err != nil {
		return err
	}
	kind := binary.BigEndian.Uint32(n.buf)
	if kind != slInorder && kind != slAdd && kind != slDummyID {
		return bad("not a record")
	}
	keyLen := binary.BigEndian.Uint32(n.buf[4:])
	if keyLen > maxKey || int64(offset)+16+int64(pad4(keyLen)) > r.size {
		return bad("key too long")
	}
	if err := r.need(n, 12+int(pad4(keyLen))); err != nil {
		return err
	}
	valueLen := binary.BigEndian.Uint32(n.buf[8+pad4(keyLen):])
	if valueLen > maxValue {
		return bad("value too long")
	}
	start := int(12 + pad4(keyLen) + pad4(valueLen))
	if err := r.need(n, start+4*(slMaxLevel+1)); err != nil {
		return err
	}
	if len(n.buf) < start {
		return bad("cut short")
	}
	n.key, n.value = n.buf[8:8+keyLen], n.buf[12+pad4(keyLen):][:valueLen]
	n.next = n.next[:0]
	for at := start; ; at += 4 {
		if at+4 > len(n.buf) {
			return bad("its pointers have no end")
		}
		p := binary.BigEndian.Uint32(n.buf[at:])
		if p == slEnd {
			return nil
		}
		n.next = append(n.next, p)
	}
}

// need makes n.buf hold length octets of the record, or what the file has;
// the buffer holds some already.
func (r *slReader) need(n *slNode, length int) error {
	if len(n.buf) >= length {
		return nil
	}
	return r.fill(n, length)
}

func (r *slReader) fill(n *slNode, length int) error {
	length = int(min(int64(length), r.size-int64(n.offset)))
	if cap(n.buf) < length {
		n.buf = make([]byte, length)
	}
	n.buf = n.buf[:length]
	if _, err := r.f.ReadAt(n.buf, int64(n.offset)); err != nil {
		return fmt.Errorf("%w: skiplist record at %d: %w", ErrCorrupt, n.offset, err)
	}
	return nil
}

// successor is the record after n on a level; 0 ends it.
func (n *slNode) successor(level int) uint32 {
	if level >= len(n.next) {
		return 0
	}
	return n.next[level]
}

// seek finds the first record whose key is not before key; nil at the end.
func (r *slReader) seek(key []byte) (*slNode, error) {
	r.resetSteps()
	before, peek := &r.nodes[0], &r.nodes[1]
	if err := r.read(slDummy, before); err != nil {
		return nil, err
	}
	ok := false
	for level := r.level - 1; level >= 0; level-- {
		for {
			next := before.successor(level)
			if ok = next != 0; !ok {
				break
			}
			if err := r.read(next, peek); err != nil {
				return nil, err
			}
			if bytes.Compare(peek.key, key) >= 0 {
				break
			}
			before, peek = peek, before
		}
	}
	if !ok {
		return nil, nil
	}
	return peek, nil
}

// Get implements Reader.
func (r *slReader) Get(key []byte) (value []byte, found bool, err error) {
	n, err := r.seek(key)
	if n == nil || err != nil || !bytes.Equal(n.key, key) {
		return nil, false, err
	}
	return n.value, true, nil
}

// Range implements Reader. Its record is its own, so do may search.
func (r *slReader) Range(prefix []byte, do func(key, value []byte) error) error {
	hit, err := r.seek(prefix)
	if hit == nil || err != nil {
		return err
	}
	var n slNode
	r.resetSteps()
	for offset := hit.offset; offset != 0; offset = n.successor(0) {
		if err := r.read(offset, &n); err != nil {
			return err
		}
		if !bytes.HasPrefix(n.key, prefix) {
			return nil
		}
		steps := r.steps
		if err := do(n.key, n.value); err != nil {
			return err
		}
		r.steps = steps
	}
	return nil
}
