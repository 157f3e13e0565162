package cyrus

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/kpopd/kpopd/mailstore"
)

// Offsets in the index header that all versions from 12 to 17 share, in octets.
const (
	hGeneration   = 0
	hVersion      = 8
	hStart        = 12
	hRecordSize   = 16
	hRecords      = 20
	hLastAppend   = 24
	hLastUID      = 28
	hQuotaUsed    = 32 // 8
	hPOP3Login    = 40
	hUIDValidity  = 44
	hDeleted      = 48
	hAnswered     = 52
	hFlagged      = 56
	hOptions      = 60
	hModSeq       = 68 // 8
	hExists       = 84
	hFirstExpunge = 88
	hHeaderCRC    = 96
	hSyncBasic    = 100
	hPOP3After    = 112
	hQuotaAnnot   = 116
	hSyncAnnot    = 120
	hUnseen       = 124
	hCreated      = 128 // 8
	hEpoch        = 136
)

// Offsets in a record that all versions from 12 to 17 share.
const (
	rUID         = 0
	rDate        = 4
	rSentDate    = 8
	rSize        = 12
	rHeaderSize  = 16
	rGMTime      = 20
	rCacheOffset = 24
	rUpdated     = 28
	rFlags       = 32
	rUserFlags   = 36 // 16
	rSaveDate    = 52
	rCacheVer    = 56
	rGUID        = 60 // 20
	rModSeq      = 80 // 8
	rCID         = 88 // 8, from 13
	rCreated     = 96 // 8, from 16
)

// Record flags.
const (
	flagAnswered = 1 << 0
	flagFlagged  = 1 << 1
	flagDeleted  = 1 << 2
	flagDraft    = 1 << 3
	flagSeen     = 1 << 4
	flagCleanup  = 1 << 28
	flagArchived = 1 << 29
	flagUnlinked = 1 << 30
	flagExpunged = 1 << 31
)

// Header options.
const (
	optionNewUIDL = 1 << 0
	optionUnlink  = 1 << 29
	optionRepack  = 1 << 30
	optionDeleted = 1 << 31
	optionsKept   = 1 | 1<<2 | 1<<3 | 1<<4 | 1<<29 | 1<<30 | 1<<31
)

// A layout is where one index version has what others have elsewhere.
type layout struct {
	version    uint32
	start      int
	record     int
	headerCRC  int // offset of the header's CRC
	cacheCRC   int
	recordCRC  int
	hasUnseen  bool
	hasCID     bool
	hasSave    bool // savedate counts in the annotation CRC
	hasCreated bool
}

var layouts = [...]layout{
	{12, 128, 96, 124, 88, 92, false, false, false, false},
	{13, 128, 104, 124, 96, 100, false, true, false, false},
	{14, 160, 104, 156, 96, 100, true, true, false, false},
	{15, 160, 104, 156, 96, 100, true, true, true, false},
	{16, 160, 112, 156, 104, 108, true, true, true, true},
	{17, 160, 112, 156, 104, 108, true, true, true, true},
}

// newVersion is what mailboxes that we make have.
const newVersion = 17

func layoutOf(version uint32) *layout {
	for i := range layouts {
		if layouts[i].version == version {
			return &layouts[i]
		}
	}
	return nil
}

// A header is the index header as it lies in the file.
type header struct {
	raw    []byte
	layout *layout
}

func (h header) u32(at int) uint32       { return binary.BigEndian.Uint32(h.raw[at:]) }
func (h header) u64(at int) uint64       { return binary.BigEndian.Uint64(h.raw[at:]) }
func (h header) put32(at int, v uint32)  { binary.BigEndian.PutUint32(h.raw[at:], v) }
func (h header) put64(at int, v uint64)  { binary.BigEndian.PutUint64(h.raw[at:], v) }
func (h header) add32(at int, delta int) { h.put32(at, uint32(max(0, int64(h.u32(at))+int64(delta)))) } //nolint:gosec // G115: counters stay far below 2^32

// modseq is the mailbox's highest; 0 counts as 1.
func (h header) modseq() uint64 { return max(h.u64(hModSeq), 1) }

// options has the rule for an empty mailbox applied: it gives new unique-ids
// whatever is on disk.
func (h header) options() uint32 {
	o := h.u32(hOptions)
	if h.u32(hExists) == 0 {
		o |= optionNewUIDL
	}
	return o
}

// seal writes the header's CRC.
func (h header) seal() { h.put32(h.layout.headerCRC, crc32.ChecksumIEEE(h.raw[:h.layout.headerCRC])) }

// parseIndex checks the header of an index of size octets.
func parseIndex(path string, b []byte, size int64) (header, error) {
	fault := func(at int64, format string, args ...any) (header, error) {
		return header{}, &FaultError{path, at, fmt.Sprintf(format, args...)}
	}
	if len(b) < 128 {
		return fault(0, "cyrus.index has only %d octets", size)
	}
	version := binary.BigEndian.Uint32(b[hVersion:])
	l := layoutOf(version)
	if l == nil {
		return fault(hVersion, "index version %d is not supported (12 to 17 are); let Cyrus convert it: reconstruct -V 17", version)
	}
	if len(b) < l.start {
		return fault(0, "cyrus.index has only %d octets", size)
	}
	h := header{b[:l.start:l.start], l}
	switch {
	case h.u32(hStart) != uint32(l.start): //nolint:gosec // G115: a small constant
		return fault(hStart, "header length %d where version %d has %d", h.u32(hStart), version, l.start)
	case h.u32(hRecordSize) != uint32(l.record): //nolint:gosec // G115: a small constant
		return fault(hRecordSize, "record length %d where version %d has %d", h.u32(hRecordSize), version, l.record)
	case h.u32(l.headerCRC) != crc32.ChecksumIEEE(h.raw[:l.headerCRC]):
		return fault(int64(l.headerCRC), "header CRC does not match")
	}
	if need := int64(l.start) + int64(h.u32(hRecords))*int64(l.record); need > size {
		return fault(hRecords, "%d records need %d octets, the file has %d", h.u32(hRecords), need, size)
	}
	return h, nil
}

// A record is one message's record as it lies in the file.
type record struct {
	raw    []byte
	layout *layout
}

func (r record) u32(at int) uint32      { return binary.BigEndian.Uint32(r.raw[at:]) }
func (r record) u64(at int) uint64      { return binary.BigEndian.Uint64(r.raw[at:]) }
func (r record) put32(at int, v uint32) { binary.BigEndian.PutUint32(r.raw[at:], v) }
func (r record) put64(at int, v uint64) { binary.BigEndian.PutUint64(r.raw[at:], v) }

func (r record) has(flag uint32) bool { return r.u32(rFlags)&flag != 0 }

func (r record) guid() [20]byte { return [20]byte(r.raw[rGUID:]) }

func (r record) seal() {
	r.put32(r.layout.recordCRC, crc32.ChecksumIEEE(r.raw[:r.layout.recordCRC]))
}

// An index is a whole cyrus.index in memory.
type index struct {
	header  header
	records []byte
	path    string
}

func (x *index) len() int { return int(x.header.u32(hRecords)) }

func (x *index) record(i int) record {
	n := x.header.layout.record
	return record{x.records[i*n : (i+1)*n : (i+1)*n], x.header.layout}
}

// check verifies every record's CRC and that UIDs ascend.
func (x *index) check() error {
	last := uint32(0)
	l := x.header.layout
	for i := range x.len() {
		r := x.record(i)
		at := int64(l.start + i*l.record)
		if r.u32(l.recordCRC) != crc32.ChecksumIEEE(r.raw[:l.recordCRC]) {
			return &FaultError{x.path, at + int64(l.recordCRC), fmt.Sprintf("record CRC of UID %d does not match", r.u32(rUID))}
		}
		if uid := r.u32(rUID); uid <= last || uid > x.header.u32(hLastUID) {
			return &FaultError{x.path, at, fmt.Sprintf("UID %d is out of order", uid)}
		}
		last = r.u32(rUID)
	}
	return nil
}

// find gives the record of a UID by binary search, or -1.
func (x *index) find(uid uint32) int {
	low, high := 0, x.len()
	for low < high {
		mid := int(uint(low+high) >> 1) //nolint:gosec // G115: both are small and not negative
		if x.record(mid).u32(rUID) < uid {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < x.len() && x.record(low).u32(rUID) == uid {
		return low
	}
	return -1
}

// errNoMailbox is a mailbox that is there no more.
var errNoMailbox = fmt.Errorf("cyrus: mailbox has been deleted: %w", mailstore.ErrUnknown)
