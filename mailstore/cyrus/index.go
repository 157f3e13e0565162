package cyrus

import (
	"encoding/binary"
	"hash/crc32"
)

// An IndexHeader is the head of cyrus.index. Numbers are held wider than any
// version stores them; times are seconds since 1970.
type IndexHeader struct {
	Generation    uint64 `json:"generation"` // first word of cyrus.cache; counts repacks
	Format        uint64 `json:"format"`
	Minor         uint64 `json:"minor"`
	Start         uint64 `json:"start"` // where records begin
	RecordSize    uint64 `json:"record_size"`
	Records       uint64 `json:"records"` // expunged ones too
	LastAppend    uint64 `json:"last_append"`
	LastUID       uint64 `json:"last_uid"`
	QuotaUsed     uint64 `json:"quota_used"` // octets of messages not expunged
	LastLogin     uint64 `json:"last_login"` // by POP
	UIDValidity   uint64 `json:"uid_validity"`
	Deleted       uint64 `json:"deleted"`
	Answered      uint64 `json:"answered"`
	Flagged       uint64 `json:"flagged"`
	Options       uint64 `json:"options"`
	Leaked        uint64 `json:"leaked"` // lost records of cyrus.cache
	HighestModSeq uint64 `json:"highest_modseq"`
	DeletedModSeq uint64 `json:"deleted_modseq"`
	Exists        uint64 `json:"exists"` // messages not expunged
	FirstExpunged uint64 `json:"first_expunged"`
	LastRepack    uint64 `json:"last_repack"`
	HeaderFileCRC uint64 `json:"header_file_crc"`
	SyncBasic     uint64 `json:"sync_basic"`
	RecentUID     uint64 `json:"recent_uid"`
	RecentTime    uint64 `json:"recent_time"`
	ShowAfter     uint64 `json:"show_after"` // POP shows what arrived later
	QuotaAnnot    uint64 `json:"quota_annot"`
	SyncAnnot     uint64 `json:"sync_annot"`
	Unseen        uint64 `json:"unseen"`
	CreatedModSeq uint64 `json:"created_modseq"`
	ChangesEpoch  uint64 `json:"changes_epoch"`
	QuotaDeleted  uint64 `json:"quota_deleted"` // from 18 on
	QuotaExpunged uint64 `json:"quota_expunged"`
	CRC           uint64 `json:"crc"`
}

// Options of a mailbox.
const (
	OptionNewUIDL     = 1 << 0 // unique-ids hold the UIDVALIDITY
	OptionSharedSeen  = 1 << 2
	OptionDupDeliver  = 1 << 3
	OptionHasAlarms   = 1 << 4
	OptionNeedsUnlink = 1 << 29
	OptionNeedsRepack = 1 << 30
	OptionDeleted     = 1 << 31 // the mailbox is being deleted: it does not exist

	optionsKept = OptionNewUIDL | OptionSharedSeen | OptionDupDeliver | OptionHasAlarms |
		OptionNeedsUnlink | OptionNeedsRepack | OptionDeleted
)

type headerField struct {
	slot  slot
	value *uint64
	time  bool
}

const headerFields = 34

// fields pairs each number with its place.
func (h *IndexHeader) fields(s *headerSlots) [headerFields]headerField {
	return [headerFields]headerField{
		{s.generation, &h.Generation, false}, {s.format, &h.Format, false}, {s.minor, &h.Minor, false},
		{s.start, &h.Start, false}, {s.recordSize, &h.RecordSize, false}, {s.records, &h.Records, false},
		{s.lastAppend, &h.LastAppend, true}, {s.lastUID, &h.LastUID, false}, {s.quotaUsed, &h.QuotaUsed, false},
		{s.lastLogin, &h.LastLogin, true}, {s.uidValidity, &h.UIDValidity, false}, {s.deleted, &h.Deleted, false},
		{s.answered, &h.Answered, false}, {s.flagged, &h.Flagged, false}, {s.options, &h.Options, false},
		{s.leaked, &h.Leaked, false}, {s.highestModSeq, &h.HighestModSeq, false},
		{s.deletedModSeq, &h.DeletedModSeq, false}, {s.exists, &h.Exists, false},
		{s.firstExpunged, &h.FirstExpunged, true}, {s.lastRepack, &h.LastRepack, true},
		{s.headerFileCRC, &h.HeaderFileCRC, false}, {s.syncBasic, &h.SyncBasic, false},
		{s.recentUID, &h.RecentUID, false}, {s.recentTime, &h.RecentTime, true}, {s.showAfter, &h.ShowAfter, true},
		{s.quotaAnnot, &h.QuotaAnnot, false}, {s.syncAnnot, &h.SyncAnnot, false}, {s.unseen, &h.Unseen, false},
		{s.createdModSeq, &h.CreatedModSeq, false}, {s.changesEpoch, &h.ChangesEpoch, true},
		{s.quotaDeleted, &h.QuotaDeleted, false}, {s.quotaExpunged, &h.QuotaExpunged, false},
		{s.crc, &h.CRC, false},
	}
}

// headerPrefix is what must be read to know the rest: up to the record count.
const headerPrefix = 24

// maxHeaderSize is the largest header of any version.
const maxHeaderSize = 192

// identify finds the layout from the first octets of an index.
func identify(path string, b []byte) (*layout, error) {
	if len(b) < headerPrefix {
		return nil, fault(path, 0, "the index is %d octets short of a header", headerPrefix-len(b))
	}
	minor := binary.BigEndian.Uint32(b[8:])
	if format := binary.BigEndian.Uint32(b[4:]); format != 0 {
		return nil, fault(path, 4, "index format %d is not known", format)
	}
	l, ok := layoutOf(int(minor))
	if !ok {
		return nil, fault(path, 8, "index version %d is not known here", minor)
	}
	if n := binary.BigEndian.Uint32(b[12:]); int(n) != l.headerSize {
		return nil, fault(path, 12, "header of %d octets; version %d has %d", n, minor, l.headerSize)
	}
	if n := binary.BigEndian.Uint32(b[16:]); int(n) != l.recordSize {
		return nil, fault(path, 16, "records of %d octets; version %d has %d", n, minor, l.recordSize)
	}
	if len(b) < l.headerSize {
		return nil, fault(path, int64(len(b)), "the index ends within its header")
	}
	return l, nil
}

// decodeHeader reads the head of an index and checks its CRC.
func decodeHeader(path string, b []byte) (*layout, IndexHeader, error) {
	var h IndexHeader
	l, err := identify(path, b)
	if err != nil {
		return nil, h, err
	}
	for _, f := range h.fields(&l.header) {
		*f.value = f.slot.get(b)
		if f.time && l.nanos {
			*f.value /= 1e9
		}
	}
	if l.hasCRC() {
		at := l.header.crc.at
		if sum := crc32.ChecksumIEEE(b[:at]); uint64(sum) != h.CRC {
			return nil, h, fault(path, int64(at), "header CRC is %08x, its octets give %08x", h.CRC, sum)
		}
	} else {
		h.Exists = h.Records
	}
	h.normalise()
	return l, h, nil
}

// normalise applies what Cyrus does when it reads a header.
func (h *IndexHeader) normalise() {
	if h.Exists == 0 {
		// A new mailbox has no options on disk and new unique-ids all the same.
		h.Options |= OptionNewUIDL
	}
	h.HighestModSeq = max(h.HighestModSeq, 1)
}

// encode writes the header over b, which holds the former one: octets
// without a meaning here stay as they are.
func (h *IndexHeader) encode(l *layout, path string, b []byte) error {
	h.Options &= optionsKept
	for _, f := range h.fields(&l.header) {
		if f.slot != l.header.crc && !f.slot.put(b, *f.value) {
			return fault(path, int64(f.slot.at), "%d does not fit into version %d", *f.value, l.minor)
		}
	}
	h.CRC = uint64(crc32.ChecksumIEEE(b[:l.header.crc.at]))
	l.header.crc.put(b, h.CRC)
	return nil
}
