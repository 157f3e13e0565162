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

// A tally keeps an index header's counters and sums. Its scratch is what a sum is
// made over, once for all records: a slice that goes to package crc32 is on the heap
// otherwise (BenchmarkUpdate).
type tally struct {
	layout  *layout
	names   []string // the mailbox's keywords
	scratch []byte
}

func newTally(l *layout, names []string) tally { return tally{layout: l, names: names} }

// basicTerm is a record's term in IndexHeader.SyncBasic.
func (t *tally) basicTerm(r *Record) uint32 {
	if r.Flags&FlagExpunged != 0 {
		return 0
	}
	flags := t.flagsSum(r)
	b := strconv.AppendUint(t.scratch[:0], uint64(r.UID), 10)
	b = strconv.AppendUint(append(b, ' '), r.ModSeq, 10)
	b = strconv.AppendUint(append(b, ' '), r.LastUpdated, 10)
	b = strconv.AppendUint(append(b, " ("...), uint64(flags), 10)
	b = strconv.AppendUint(append(b, ") "...), r.InternalDate, 10)
	t.scratch = hex.AppendEncode(append(b, ' '), r.GUID[:])
	return crc32.ChecksumIEEE(t.scratch)
}

// flagsSum is the part of basicTerm that the flags and keywords have.
func (t *tally) flagsSum(r *Record) (sum uint32) {
	for _, f := range []struct {
		flag Flags
		name string
	}{
		{FlagDeleted, `\deleted`}, {FlagAnswered, `\answered`}, {FlagFlagged, `\flagged`}, {FlagDraft, `\draft`},
		{FlagSeen, `\seen`},
	} {
		if r.Flags&f.flag != 0 {
			sum ^= crc32.ChecksumIEEE([]byte(f.name))
		}
	}
	for i, name := range t.names {
		if i < 128 && name != "" && r.UserFlags[i/32]&(1<<(i%32)) != 0 {
			sum ^= crc32.ChecksumIEEE([]byte(strings.ToLower(name)))
		}
	}
	return sum
}

// appendAnnotation appends what an annotation's term in IndexHeader.SyncAnnot is
// the sum of, but for its value.
func appendAnnotation(b []byte, uid uint32, entry, userid string) []byte {
	b = append(strconv.AppendUint(b, uint64(uid), 10), ' ')
	b = append(append(b, entry...), ' ')
	return append(append(b, userid...), ' ')
}

// annotationTerm is an annotation's term in IndexHeader.SyncAnnot.
func annotationTerm(uid uint32, entry, userid string, value []byte) uint32 {
	return crc32.ChecksumIEEE(append(appendAnnotation(nil, uid, entry, userid), value...))
}

// virtualTerm is the sum of the terms of what Cyrus treats as annotations
// but stores in the record.
func (t *tally) virtualTerm(r *Record) (sum uint32) {
	if r.Flags&FlagExpunged != 0 {
		return 0
	}
	for _, a := range []struct {
		since int // minor version of the index
		value uint64
		entry string
		base  int
	}{
		{13, r.CID, "/vendor/cmu/cyrus-imapd/thrid", 16},
		{15, r.SaveDate, "/vendor/cmu/cyrus-imapd/savedate", 10},
		{16, r.CreatedModSeq, "/vendor/cmu/cyrus-imapd/createdmodseq", 10},
	} {
		if t.layout.minor < a.since || a.value == 0 {
			continue
		}
		t.scratch = strconv.AppendUint(appendAnnotation(t.scratch[:0], r.UID, a.entry, ""), a.value, a.base)
		sum ^= crc32.ChecksumIEEE(t.scratch)
	}
	return sum
}

// account adds a record to the header's counters and sums when sign is 1, and
// takes it out when sign is -1. A record that is expunged counts nowhere.
func (t *tally) account(h *IndexHeader, r *Record, sign int) {
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
	h.SyncBasic ^= uint64(t.basicTerm(r))
	h.SyncAnnot ^= uint64(t.virtualTerm(r))
}
