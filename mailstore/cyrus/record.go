package cyrus

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// A GUID is the SHA-1 of a message as it is stored.
type GUID [20]byte

// String is the GUID in lower-case hexadecimal.
func (g GUID) String() string { return hex.EncodeToString(g[:]) }

// MarshalText is String, for JSON.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// A Record is one message's entry in cyrus.index.
type Record struct {
	UID           uint32    `json:"uid"`
	InternalDate  uint64    `json:"internal_date"`
	SentDate      uint64    `json:"sent_date"` // the Date field's day, at midnight of the server's zone
	Size          uint64    `json:"size"`
	HeaderSize    uint64    `json:"header_size"`
	GMTime        uint64    `json:"gm_time"` // the Date field
	CacheOffset   uint64    `json:"cache_offset"`
	LastUpdated   uint64    `json:"last_updated"`
	Flags         Flags     `json:"flags"`
	UserFlags     [4]uint32 `json:"user_flags"`
	SaveDate      uint64    `json:"save_date"`
	CacheVersion  uint64    `json:"cache_version"`
	GUID          GUID      `json:"guid"`
	ModSeq        uint64    `json:"modseq"`
	CID           uint64    `json:"cid"` // conversation
	CreatedModSeq uint64    `json:"created_modseq"`
	CacheCRC      uint32    `json:"cache_crc"`
}

// Flags are a record's system and internal flags.
type Flags uint32

// The flags.
const (
	FlagAnswered     Flags = 1 << 0
	FlagFlagged      Flags = 1 << 1
	FlagDeleted      Flags = 1 << 2
	FlagDraft        Flags = 1 << 3
	FlagSeen         Flags = 1 << 4 // by the owner
	FlagNeedsCleanup Flags = 1 << 28
	FlagArchived     Flags = 1 << 29
	FlagUnlinked     Flags = 1 << 30
	FlagExpunged     Flags = 1 << 31
)

// Names are the flags in words, and those without a name as one number.
func (f Flags) Names() []string {
	names := []string{}
	for _, each := range []struct {
		flag Flags
		name string
	}{
		{FlagAnswered, "answered"}, {FlagFlagged, "flagged"}, {FlagDeleted, "deleted"}, {FlagDraft, "draft"}, {FlagSeen, "seen"},
		{FlagNeedsCleanup, "needs-cleanup"}, {FlagArchived, "archived"}, {FlagUnlinked, "unlinked"}, {FlagExpunged, "expunged"},
	} {
		if f&each.flag != 0 {
			names = append(names, each.name)
			f &^= each.flag
		}
	}
	if f != 0 {
		names = append(names, fmt.Sprintf("%#x", uint32(f)))
	}
	return names
}

// MarshalJSON is Names.
func (f Flags) MarshalJSON() ([]byte, error) { return json.Marshal(f.Names()) }

// residue is the CRC of any octets followed by their CRC in little endian.
const residue = 0x2144df1c

// soundRecord verifies a record's own CRC, in place. The CRC is turned to
// little endian for the time, so that the whole record can be summed at once:
// 112 octets are a multiple of what the processor's instruction takes, the 108
// before the CRC are not. A third of BenchmarkOpenSpool.
func (l *layout) soundRecord(b []byte) bool {
	if !l.hasCRC() {
		return true
	}
	crc := b[l.record.crc.at:l.recordSize]
	want := binary.BigEndian.Uint32(crc)
	binary.LittleEndian.PutUint32(crc, want)
	sum := crc32.ChecksumIEEE(b[:l.recordSize])
	binary.BigEndian.PutUint32(crc, want)
	return sum == residue
}

// checkRecord is soundRecord with the fault's place.
func (l *layout) checkRecord(path string, offset int64, b []byte) error {
	if l.soundRecord(b) {
		return nil
	}
	at := l.record.crc.at
	want, sum := uint32(l.record.crc.get(b)), crc32.ChecksumIEEE(b[:at])
	return fault(path, offset+int64(at), "record CRC is %08x, its octets give %08x", want, sum)
}

// decodeRecord reads a record; its CRC is checked by checkRecord.
func (l *layout) decodeRecord(b []byte) Record {
	s := &l.record
	version := s.cacheVersion.get(b)
	r := Record{
		UID:           uint32(s.uid.get(b)),
		InternalDate:  l.seconds(s.internalDate, b),
		SentDate:      l.seconds(s.sentDate, b),
		Size:          s.size.get(b),
		HeaderSize:    s.headerSize.get(b),
		GMTime:        l.seconds(s.gmTime, b),
		CacheOffset:   s.cacheOffset.get(b) | version>>16<<32,
		LastUpdated:   l.seconds(s.lastUpdated, b),
		Flags:         Flags(s.flags.get(b)),
		SaveDate:      l.seconds(s.saveDate, b),
		CacheVersion:  version & 0xffff,
		ModSeq:        s.modSeq.get(b),
		CID:           s.cid.get(b),
		CreatedModSeq: s.createdModSeq.get(b),
		CacheCRC:      uint32(s.cacheCRC.get(b)),
	}
	for i := range r.UserFlags {
		r.UserFlags[i] = uint32(u32(s.userFlags + 4*i).get(b))
	}
	if s.guid != 0 {
		copy(r.GUID[:], b[s.guid:])
	}
	return r
}

func (l *layout) seconds(s slot, b []byte) uint64 {
	if l.nanos {
		return s.get(b) / 1e9
	}
	return s.get(b)
}

// encodeRecord writes the record over b and gives it its CRC.
func (l *layout) encodeRecord(path string, r *Record, b []byte) error {
	s := &l.record
	version := r.CacheVersion | r.CacheOffset>>32<<16
	for _, f := range []struct {
		slot  slot
		value uint64
	}{
		{s.uid, uint64(r.UID)}, {s.internalDate, r.InternalDate}, {s.sentDate, r.SentDate}, {s.size, r.Size},
		{s.headerSize, r.HeaderSize}, {s.gmTime, r.GMTime}, {s.cacheOffset, r.CacheOffset & 0xffffffff},
		{s.lastUpdated, r.LastUpdated}, {s.flags, uint64(r.Flags)}, {s.saveDate, r.SaveDate},
		{s.cacheVersion, version}, {s.modSeq, r.ModSeq}, {s.cid, r.CID}, {s.createdModSeq, r.CreatedModSeq},
		{s.cacheCRC, uint64(r.CacheCRC)},
	} {
		if !f.slot.put(b, f.value) {
			return fault(path, int64(f.slot.at), "message %d: %d does not fit into version %d", r.UID, f.value, l.minor)
		}
	}
	for i, w := range r.UserFlags {
		u32(s.userFlags+4*i).put(b, uint64(w))
	}
	if s.guid != 0 {
		copy(b[s.guid:], r.GUID[:])
	}
	s.crc.put(b, uint64(crc32.ChecksumIEEE(b[:s.crc.at])))
	return nil
}
