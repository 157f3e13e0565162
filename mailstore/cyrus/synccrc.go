package cyrus

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The two sync CRCs are XOR sums of a term for each message that is not
// expunged. They are only ever changed by a message's old and new term: the
// base of the second differs between Cyrus's versions.

// basicTerm is a record's share of the first (Cyrus imap/mailbox.c,
// CRC over uid, modseq, last_updated, flags, internaldate, guid).
func (r record) basicTerm(userFlags []string) uint32 {
	if r.has(flagExpunged) {
		return 0
	}
	var flags uint32
	for _, f := range []struct {
		bit  uint32
		name string
	}{{flagDeleted, `\deleted`}, {flagAnswered, `\answered`}, {flagFlagged, `\flagged`}, {flagDraft, `\draft`}, {flagSeen, `\seen`}} {
		if r.has(f.bit) {
			flags ^= crc32.ChecksumIEEE([]byte(f.name))
		}
	}
	for i, name := range userFlags {
		if i < 128 && name != "" && r.u32(rUserFlags+i/32*4)&(1<<(i%32)) != 0 {
			flags ^= crc32.ChecksumIEEE([]byte(strings.ToLower(name)))
		}
	}
	text := fmt.Appendf(nil, "%d %d %d (%d) %d %x", r.u32(rUID), r.u64(rModSeq), r.u32(rUpdated), flags, r.u32(rDate), r.raw[rGUID:rGUID+20])
	return crc32.ChecksumIEEE(text)
}

// virtualTerm is the share of the second that comes from the record itself:
// Cyrus counts some of its fields as annotations.
func (r record) virtualTerm() uint32 {
	if r.has(flagExpunged) {
		return 0
	}
	var sum uint32
	add := func(entry, value string) {
		sum ^= annotationTerm(r.u32(rUID), "/vendor/cmu/cyrus-imapd/"+entry, "", value)
	}
	if r.layout.hasCID && r.u64(rCID) != 0 {
		add("thrid", strconv.FormatUint(r.u64(rCID), 16))
	}
	if r.layout.hasSave && r.u32(rSaveDate) != 0 {
		add("savedate", strconv.FormatUint(uint64(r.u32(rSaveDate)), 10))
	}
	if r.layout.hasCreated && r.u64(rCreated) != 0 {
		add("createdmodseq", strconv.FormatUint(r.u64(rCreated), 10))
	}
	return sum
}

func annotationTerm(uid uint32, entry, user, value string) uint32 {
	return crc32.ChecksumIEEE(fmt.Appendf(nil, "%d %s %s %s", uid, entry, user, value))
}
