package cyrusdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The twoskip format: a header, then records that are never moved, linked in
// key order on up to 31 levels. All numbers are big endian.
const (
	tsHeaderSize = 64
	tsVersion    = 1
	tsMaxLevel   = 31
	tsDummy      = tsHeaderSize // the first record: no key, all levels
	tsDummySize  = 8 + 8*(tsMaxLevel+1) + 8
	tsEmptySize  = tsDummy + tsDummySize

	tsDirty = 1 << 0 // header flag: a transaction is, or was, under way
)

// Types of record.
const (
	recDummy  = '='
	recPut    = '+'
	recDelete = '-'
	recCommit = '$'
)

// tsBlank fills space so that a record's head lies within one disk block.
const tsBlank = "\x20BLANK\x07\xa0"

// maxKey is far above any key of Cyrus's, whose longest hold a mailbox name.
const maxKey = 1 << 16

// maxValue bounds what a damaged length can make us allocate.
const maxValue = 64 << 20

// A tsHeader is the file's first 64 octets.
type tsHeader struct {
	generation uint64
	records    uint64
	repackSize uint64
	size       uint64 // current_size: the end of the last committed transaction
	flags      uint32
}

func parseTSHeader(b []byte) (tsHeader, error) {
	var h tsHeader
	if len(b) < tsHeaderSize || string(b[:magicSize]) != twoskipMagic {
		return h, fmt.Errorf("%w: twoskip header", ErrCorrupt)
	}
	if sum := binary.BigEndian.Uint32(b[60:]); sum != crc32.ChecksumIEEE(b[:60]) {
		return h, fmt.Errorf("%w: twoskip header: its checksum is wrong", ErrCorrupt)
	}
	if v := binary.BigEndian.Uint32(b[20:]); v != tsVersion {
		return h, fmt.Errorf("%w: twoskip version %d", ErrFormat, v)
	}
	h.generation = binary.BigEndian.Uint64(b[24:])
	h.records = binary.BigEndian.Uint64(b[32:])
	h.repackSize = binary.BigEndian.Uint64(b[40:])
	h.size = binary.BigEndian.Uint64(b[48:])
	h.flags = binary.BigEndian.Uint32(b[56:])
	return h, nil
}

func (h *tsHeader) encode() []byte {
	b := make([]byte, 0, tsHeaderSize)
	b = append(b, twoskipMagic...)
	b = binary.BigEndian.AppendUint32(b, tsVersion)
	b = binary.BigEndian.AppendUint64(b, h.generation)
	b = binary.BigEndian.AppendUint64(b, h.records)
	b = binary.BigEndian.AppendUint64(b, h.repackSize)
	b = binary.BigEndian.AppendUint64(b, h.size)
	b = binary.BigEndian.AppendUint32(b, h.flags)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// A tsNode is one record: its head decoded, its key and value where they lie
// in buf or, when they are long, read on demand.
type tsNode struct {
	offset   uint64
	kind     byte
	level    int
	keyLen   uint64
	valueLen uint64
	// next[0] and next[1] are two alternatives for the next record on level
	// 1; next[i] is the next on level i.
	next    [tsMaxLevel + 1]uint64
	headLen int // up to and with the two checksums
	tailSum uint32
	buf     []byte
}

// size is the record's whole length in the file.
func (n *tsNode) size() uint64 {
	return uint64(n.headLen) + pad8(n.keyLen+n.valueLen)
}

func pad8(n uint64) uint64 { return (n + 7) &^ 7 }

// headSize is the length of a head with that level and those lengths.
func headSize(level int, keyLen, valueLen uint64) int {
	n := 8 + 8*(level+1) + 8
	if keyLen >= 0xffff {
		n += 8
	}
	if valueLen >= 0xffffffff {
		n += 8
	}
	return n
}

// parseHead decodes a record's head from b, its first octets.
func (n *tsNode) parseHead(b []byte) error {
	if len(b) < 24 {
		return errTorn
	}
	n.kind, n.level = b[0], int(b[1])
	n.keyLen = uint64(binary.BigEndian.Uint16(b[2:]))
	n.valueLen = uint64(binary.BigEndian.Uint32(b[4:]))
	if n.level > tsMaxLevel {
		return fmt.Errorf("%w: level %d", ErrCorrupt, n.level)
	}
	n.headLen = headSize(n.level, n.keyLen, n.valueLen)
	if len(b) < n.headLen {
		return errTorn
	}
	at := 8
	if n.keyLen == 0xffff {
		n.keyLen = binary.BigEndian.Uint64(b[at:])
		at += 8
	}
	if n.valueLen == 0xffffffff {
		n.valueLen = binary.BigEndian.Uint64(b[at:])
		at += 8
	}
	for i := range n.level + 1 {
		n.next[i] = binary.BigEndian.Uint64(b[at:])
		at += 8
	}
	if binary.BigEndian.Uint32(b[at:]) != crc32.ChecksumIEEE(b[:at]) {
		return fmt.Errorf("%w: the checksum of a record's head is wrong", ErrCorrupt)
	}
	n.tailSum = binary.BigEndian.Uint32(b[at+4:])
	if n.keyLen > maxKey || n.valueLen > maxValue {
		return fmt.Errorf("%w: a record of %d and %d octets", ErrCorrupt, n.keyLen, n.valueLen)
	}
	return nil
}

var errTorn = fmt.Errorf("%w: a record is cut short", ErrCorrupt)

// appendHead encodes the head with its checksums.
func (n *tsNode) appendHead(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, n.kind, byte(n.level))
	dst = binary.BigEndian.AppendUint16(dst, uint16(min(n.keyLen, 0xffff)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(min(n.valueLen, 0xffffffff)))
	if n.keyLen >= 0xffff {
		dst = binary.BigEndian.AppendUint64(dst, n.keyLen)
	}
	if n.valueLen >= 0xffffffff {
		dst = binary.BigEndian.AppendUint64(dst, n.valueLen)
	}
	for _, p := range n.next[:n.level+1] {
		dst = binary.BigEndian.AppendUint64(dst, p)
	}
	dst = binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[start:]))
	return binary.BigEndian.AppendUint32(dst, n.tailSum)
}

// successor is the next record on a level; 0 ends it. On level 1 the newer of
// the two alternatives holds, and one beyond end belongs to a transaction
// that never was.
func (n *tsNode) successor(level int, end uint64) uint64 {
	if level > 1 {
		return n.next[level]
	}
	if n.level == 0 || n.next[1] >= end {
		return n.next[0]
	}
	if n.next[0] >= end {
		return n.next[1]
	}
	return max(n.next[0], n.next[1])
}

// setSuccessor sets the next record on a level. On level 1 it must not lose
// what was committed: it overwrites the alternative that is of this
// transaction already, or else the older one.
func (n *tsNode) setSuccessor(level int, offset, committed uint64) {
	switch {
	case level > 1:
		n.next[level] = offset
	case n.next[0] >= committed:
		n.next[0] = offset
	case n.next[1] >= committed, n.next[1] < n.next[0]:
		n.next[1] = offset
	default:
		n.next[0] = offset
	}
}

// firstRead is enough for most heads with their keys, and for a mailbox entry.
const firstRead = 512

// A tsFile reads records.
type tsFile struct {
	f     io.ReaderAt
	end   uint64 // records lie before it
	steps uint64 // how many more records may be visited: a damaged list may be a ring
}

// read decodes the record at offset into n.
func (t *tsFile) read(offset uint64, n *tsNode) error {
	if t.steps == 0 {
		return fmt.Errorf("%w: records are linked in a ring", ErrCorrupt)
	}
	t.steps--
	if offset < tsDummy || offset%8 != 0 || offset+24 > t.end || offset+24 < offset {
		return fmt.Errorf("%w: pointer to %d, outside the records", ErrCorrupt, offset)
	}
	n.offset = offset
	if err := t.fill(n, firstRead); err != nil {
		return err
	}
	err := n.parseHead(n.buf)
	if errors.Is(err, errTorn) && len(n.buf) >= 24 && n.headLen > len(n.buf) {
		if err = t.fill(n, n.headLen); err == nil {
			err = n.parseHead(n.buf)
		}
	}
	if err == nil && n.size() > t.end-offset {
		err = errTorn
	}
	if err != nil {
		return fmt.Errorf("record at %d: %w", offset, err)
	}
	return nil
}

// fill makes n.buf hold the record's first length octets, or what the file
// has of them.
func (t *tsFile) fill(n *tsNode, length int) error {
	length = int(min(uint64(length), t.end-n.offset))
	if cap(n.buf) < length {
		n.buf = make([]byte, length)
	}
	n.buf = n.buf[:length]
	if _, err := t.f.ReadAt(n.buf, int64(n.offset)); err != nil {
		if errors.Is(err, io.EOF) {
			return errTorn
		}
		return fmt.Errorf("cyrusdb: %w", err)
	}
	return nil
}

// key is the record's key; its checksum is looked at with the value's.
func (t *tsFile) key(n *tsNode) ([]byte, error) {
	if err := t.need(n, n.keyLen); err != nil {
		return nil, err
	}
	return n.buf[n.headLen : n.headLen+int(n.keyLen)], nil
}

// value is the record's value, checked.
func (t *tsFile) value(n *tsNode) ([]byte, error) {
	tail := n.size() - uint64(n.headLen)
	if err := t.need(n, tail); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(n.buf[n.headLen:n.headLen+int(tail)]) != n.tailSum {
		return nil, fmt.Errorf("%w: record at %d: the checksum of key and value is wrong", ErrCorrupt, n.offset)
	}
	return n.buf[n.headLen+int(n.keyLen):][:n.valueLen], nil
}

// need makes n.buf hold the head and that much after it.
func (t *tsFile) need(n *tsNode, tail uint64) error {
	want := n.headLen + int(tail)
	if len(n.buf) >= want {
		return nil
	}
	return t.fill(n, want)
}
