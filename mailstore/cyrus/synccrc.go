package cyrus

import (
	"encoding/hex"
	"hash/crc32"
	"strconv"
	"strings"
)

// The two sync CRCs of an index header are sums by XOR over the messages that
// are not expunged, kept by taking a record's old term out and putting its new
// one in. The annotation sum's base changed between versions of Cyrus, so it
// is never computed from nothing.

// basicTerm is a record's term in IndexHeader.SyncBasic; names are the
// mailbox's keywords.
func basicTerm(r *Record, names []string) uint32 {
	if r.Flags&FlagExpunged != 0 {
		return 0
	}
	var flags uint32
	for _, f := range []struct {
		flag Flags
		name string
	}{
		{FlagDeleted, `\deleted`}, {FlagAnswered, `\answered`}, {FlagFlagged, `\flagged`}, {FlagDraft, `\draft`},
		{FlagSeen, `\seen`},
	} {
		if r.Flags&f.flag != 0 {
			flags ^= crc32.ChecksumIEEE([]byte(f.name))
		}
	}
	for i, name := range names {
		if i < 128 && name != "" && r.UserFlags[i/32]&(1<<(i%32)) != 0 {
			flags ^= crc32.ChecksumIEEE([]byte(strings.ToLower(name)))
		}
	}
	var buf [128]byte
	b := strconv.AppendUint(buf[:0], uint64(r.UID), 10)
	b = strconv.AppendUint(append(b, ' '), r.ModSeq, 10)
	b = strconv.AppendUint(append(b, ' '), r.LastUpdated, 10)
	b = strconv.AppendUint(append(b, " ("...), uint64(flags), 10)
	b = strconv.AppendUint(append(b, ") "...), r.InternalDate, 10)
	b = hex.AppendEncode(append(b, ' '), r.GUID[:])
	return crc32.ChecksumIEEE(b)
}

// annotationTerm is an annotation's term in IndexHeader.SyncAnnot.
func annotationTerm(uid uint32, entry, userid string, value []byte) uint32 {
	var buf [160]byte
	b := strconv.AppendUint(buf[:0], uint64(uid), 10)
	b = append(append(b, ' '), entry...)
	b = append(append(b, ' '), userid...)
	b = append(append(b, ' '), value...)
	return crc32.ChecksumIEEE(b)
}

// virtualTerm is the sum of the terms of what Cyrus treats as annotations
// but stores in the record.
func virtualTerm(l *layout, r *Record) uint32 {
	if r.Flags&FlagExpunged != 0 {
		return 0
	}
	const prefix = "/vendor/cmu/cyrus-imapd/"
	var sum uint32
	var number [20]byte
	if l.minor >= 13 && r.CID != 0 {
		sum ^= annotationTerm(r.UID, prefix+"thrid", "", strconv.AppendUint(number[:0], r.CID, 16))
	}
	if l.minor >= 15 && r.SaveDate != 0 {
		sum ^= annotationTerm(r.UID, prefix+"savedate", "", strconv.AppendUint(number[:0], r.SaveDate, 10))
	}
	if l.minor >= 16 && r.CreatedModSeq != 0 {
		sum ^= annotationTerm(r.UID, prefix+"createdmodseq", "", strconv.AppendUint(number[:0], r.CreatedModSeq, 10))
	}
	return sum
}

// account adds a record to the header's counters and sums when sign is 1, and
// takes it out when sign is -1. A record that is expunged counts nowhere.
func (h *IndexHeader) account(l *layout, r *Record, names []string, sign int) {
	if r.Flags&FlagExpunged != 0 {
		return
	}
	step := func(counter *uint64, by uint64) {
		switch {
		case sign > 0:
			*counter += by
		case *counter >= by:
			*counter -= by
		default:
			*counter = 0
		}
	}
	step(&h.Exists, 1)
	step(&h.QuotaUsed, r.Size)
	for _, c := range []struct {
		counts  bool
		counter *uint64
	}{
		{r.Flags&FlagDeleted != 0, &h.Deleted}, {r.Flags&FlagAnswered != 0, &h.Answered},
		{r.Flags&FlagFlagged != 0, &h.Flagged}, {r.Flags&FlagSeen == 0, &h.Unseen},
	} {
		if c.counts {
			step(c.counter, 1)
		}
	}
	h.SyncBasic ^= uint64(basicTerm(r, names))
	h.SyncAnnot ^= uint64(virtualTerm(l, r))
}
