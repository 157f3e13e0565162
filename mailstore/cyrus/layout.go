package cyrus

import "encoding/binary"

// A slot is where a number lies: width octets from at, big endian. Width 0: the
// version does not have it.
type slot struct{ at, width int }

func u32(at int) slot { return slot{at, 4} }
func u64(at int) slot { return slot{at, 8} }

func (s slot) get(b []byte) uint64 {
	switch s.width {
	case 4:
		return uint64(binary.BigEndian.Uint32(b[s.at:]))
	case 8:
		return binary.BigEndian.Uint64(b[s.at:])
	}
	return 0
}

// put stores v; false when it does not fit.
func (s slot) put(b []byte, v uint64) bool {
	switch s.width {
	case 4:
		binary.BigEndian.PutUint32(b[s.at:], uint32(v))
		return v <= 0xffffffff
	case 8:
		binary.BigEndian.PutUint64(b[s.at:], v)
	}
	return true
}

// A layout is one version of cyrus.index. Sizes and places depend on the minor
// version only: versions 19 and 20 moved fields within the same sizes.
type layout struct {
	minor      int
	headerSize int
	recordSize int
	writable   bool
	nanos      bool // times are in nanoseconds
	header     headerSlots
	record     recordSlots
}

// hasCRC: every header and record ends in its own CRC.
func (l *layout) hasCRC() bool { return l.minor >= 12 }

type headerSlots struct {
	generation, format, minor, start, recordSize, records    slot
	lastAppend, lastUID, quotaUsed, lastLogin, uidValidity   slot
	deleted, answered, flagged, options, leaked              slot
	highestModSeq, deletedModSeq, exists, firstExpunged      slot
	lastRepack, headerFileCRC, syncBasic, recentUID          slot
	recentTime, showAfter, quotaAnnot, syncAnnot, unseen     slot
	createdModSeq, changesEpoch, quotaDeleted, quotaExpunged slot
	crc                                                      slot
}

type recordSlots struct {
	uid, internalDate, sentDate, size, headerSize, gmTime   slot
	cacheOffset, lastUpdated, flags, saveDate, cacheVersion slot
	modSeq, cid, createdModSeq, baseCID, cacheCRC, crc      slot
	userFlags                                               int // 16 octets
	guid                                                    int // 20 octets; 0: none
}

// layouts are made once: every login asks for one.
var layouts = allLayouts()

func allLayouts() map[int]*layout {
	all := map[int]*layout{}
	for minor := range 32 {
		if l, ok := makeLayout(minor); ok {
			all[minor] = l
		}
	}
	return all
}

// layoutOf knows the versions of section "index versions" in doc.go.
func layoutOf(minor int) (*layout, bool) {
	l, ok := layouts[minor]
	return l, ok
}

func makeLayout(minor int) (*layout, bool) {
	l := &layout{minor: minor, writable: minor >= 12 && minor <= 17}
	switch {
	case minor < 6 || minor > 20 || minor == 11 || minor == 18:
		return nil, false
	case minor == 20:
		l.headerSize, l.recordSize, l.nanos = 192, 144, true
		l.header, l.record = header20(), record20()
		return l, true
	case minor == 19:
		l.header = header19()
	default:
		l.header = header17()
		l.header.cut(minor)
	}
	sizes := map[int][2]int{
		6: {76, 60}, 7: {76, 72}, 8: {92, 80}, 9: {96, 80}, 10: {96, 88}, 12: {128, 96}, 13: {128, 104},
		14: {160, 104}, 15: {160, 104}, 16: {160, 112}, 17: {160, 112}, 19: {160, 112},
	}
	l.headerSize, l.recordSize = sizes[minor][0], sizes[minor][1]
	l.record = recordUpTo19(minor)
	return l, true
}

func header17() headerSlots {
	return headerSlots{
		generation: u32(0), format: u32(4), minor: u32(8), start: u32(12), recordSize: u32(16), records: u32(20),
		lastAppend: u32(24), lastUID: u32(28), quotaUsed: u64(32), lastLogin: u32(40), uidValidity: u32(44),
		deleted: u32(48), answered: u32(52), flagged: u32(56), options: u32(60), leaked: u32(64),
		highestModSeq: u64(68), deletedModSeq: u64(76), exists: u32(84), firstExpunged: u32(88),
		lastRepack: u32(92), headerFileCRC: u32(96), syncBasic: u32(100), recentUID: u32(104), recentTime: u32(108),
		showAfter: u32(112), quotaAnnot: u32(116), syncAnnot: u32(120), unseen: u32(124),
		createdModSeq: u64(128), changesEpoch: u32(136), crc: u32(156),
	}
}

// cut takes out what versions before 17 did not have.
func (h *headerSlots) cut(minor int) {
	none := slot{}
	if minor < 17 {
		h.changesEpoch = none
	}
	if minor < 16 {
		h.createdModSeq = none
	}
	if minor < 14 {
		h.unseen, h.crc = none, u32(124)
	}
	if minor < 13 {
		h.showAfter, h.quotaAnnot, h.syncAnnot = none, none, none
	}
	if minor < 12 {
		h.deletedModSeq, h.exists, h.firstExpunged, h.lastRepack = none, none, none, none
		h.headerFileCRC, h.syncBasic, h.recentUID, h.recentTime, h.crc = none, none, none, none, none
	}
	if minor < 8 {
		h.highestModSeq = none
	}
}

func header19() headerSlots {
	h := header17()
	h.exists, h.options, h.leaked = u32(60), u32(64), u32(68)
	h.highestModSeq, h.deletedModSeq = u64(72), u64(80)
	h.quotaDeleted, h.quotaExpunged, h.changesEpoch = u64(136), u64(144), u32(152)
	return h
}

func header20() headerSlots {
	h := header19()
	h.lastAppend, h.quotaUsed, h.lastLogin = u64(24), u64(32), u64(40)
	h.lastUID, h.uidValidity = u32(88), u32(92)
	h.recentTime, h.showAfter, h.quotaAnnot = u64(104), u64(112), u64(152)
	h.changesEpoch, h.firstExpunged, h.lastRepack = u64(160), u64(168), u64(176)
	h.recentUID, h.crc = u32(184), u32(188)
	return h
}

func recordUpTo19(minor int) recordSlots {
	r := recordSlots{
		uid: u32(0), internalDate: u32(4), sentDate: u32(8), size: u32(12), headerSize: u32(16),
		cacheOffset: u32(24), lastUpdated: u32(28), flags: u32(32), userFlags: 36, cacheVersion: u32(56),
	}
	if minor >= 12 {
		r.gmTime = u32(20)
	}
	if minor >= 15 {
		r.saveDate = u32(52)
	}
	switch {
	case minor >= 16:
		r.guid, r.modSeq, r.cid, r.createdModSeq = 60, u64(80), u64(88), u64(96)
		r.cacheCRC, r.crc = u32(104), u32(108)
	case minor >= 13:
		r.guid, r.modSeq, r.cid, r.cacheCRC, r.crc = 60, u64(80), u64(88), u32(96), u32(100)
	case minor == 12:
		r.guid, r.modSeq, r.cacheCRC, r.crc = 60, u64(80), u32(88), u32(92)
	case minor == 10:
		r.guid, r.modSeq = 60, u64(80)
	case minor >= 8:
		r.modSeq = u64(72) // the 12 octets at 60 are a UUID that nothing uses
	}
	return r
}

// uid and flags are what every pass over an index asks of each record; they have
// the same width in all versions.
func (l *layout) uid(b []byte) uint32  { return binary.BigEndian.Uint32(b[l.record.uid.at:]) }
func (l *layout) flags(b []byte) Flags { return Flags(binary.BigEndian.Uint32(b[l.record.flags.at:])) }

func record20() recordSlots {
	return recordSlots{
		uid: u32(0), cacheOffset: u32(4), internalDate: u64(8), sentDate: u64(16), size: u64(24), headerSize: u32(32),
		flags: u32(36), userFlags: 40, cacheVersion: u32(56), guid: 60, modSeq: u64(80), cid: u64(88),
		createdModSeq: u64(96), gmTime: u64(104), lastUpdated: u64(112), saveDate: u64(120), baseCID: u64(128),
		cacheCRC: u32(136), crc: u32(140),
	}
}
