package spool

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus/bodycache"
)

// A header is that of a cyrus.index of minor version 17, which both kpopd and
// Cyrus 3.6 make. This is a second hand at writing it, on purpose: tests that
// fill a spool with it also check the store's reader.
type header [160]byte

// Offsets in a header.
const (
	atGeneration    = 0
	atMinor         = 8
	atRecords       = 20
	atLastAppend    = 24
	atLastUID       = 28
	atQuotaUsed     = 32
	atDeleted       = 48
	atAnswered      = 52
	atFlagged       = 56
	atOptions       = 60
	atLeaked        = 64
	atHighestModSeq = 68
	atDeletedModSeq = 76
	atExists        = 84
	atFirstExpunged = 88
	atLastRepack    = 92
	atSyncBasic     = 100
	atQuotaAnnot    = 116
	atSyncAnnot     = 120
	atUnseen        = 124
	atChangesEpoch  = 136
	atHeaderCRC     = 156
)

const (
	optionNewUIDL = 1 << 0  // POP3_NEW_UIDL: unique-ids are uidvalidity.uid
	optionsClean  = 3 << 29 // NEEDS_UNLINK and NEEDS_REPACK, done by filling

	annotBase = 12345678 // where the annotation sum begins
)

// read takes the header of the index that is there.
func (h *header) read(path string) error {
	f, err := os.Open(path) //nolint:gosec // G304: our own spool
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	if _, err := io.ReadFull(f, h[:]); err != nil {
		return err
	}
	if get32(h[:], atMinor) != 17 || get32(h[:], atHeaderCRC) != crc32.ChecksumIEEE(h[:atHeaderCRC]) {
		return errors.New("the index is not a sound one of version 17")
	}
	return nil
}

// renew empties the mailbox: all that was in it counts as expunged and dropped.
func (h *header) renew(now time.Time) {
	seconds := uint32(now.Unix()) //nolint:gosec // G115: the format has 32 bits
	put32(h[:], atGeneration, get32(h[:], atGeneration)+1)
	put64(h[:], atDeletedModSeq, get64(h[:], atHighestModSeq))
	put64(h[:], atQuotaUsed, 0)
	for _, at := range []int{atRecords, atDeleted, atAnswered, atFlagged, atLeaked, atExists, atFirstExpunged, atSyncBasic, atQuotaAnnot, atUnseen} {
		put32(h[:], at, 0)
	}
	put32(h[:], atOptions, get32(h[:], atOptions)&^optionsClean|optionNewUIDL)
	put32(h[:], atSyncAnnot, annotBase)
	for _, at := range []int{atLastAppend, atLastRepack, atChangesEpoch} {
		put32(h[:], at, seconds)
	}
}

func (h *header) nextUID() uint32 {
	h.count(atLastUID, 1)
	return get32(h[:], atLastUID)
}

func (h *header) count(at int, n uint32) { put32(h[:], at, get32(h[:], at)+n) }

func (h *header) mix(at int, text string) {
	put32(h[:], at, get32(h[:], at)^crc32.ChecksumIEEE([]byte(text)))
}

func (h *header) seal() { put32(h[:], atHeaderCRC, crc32.ChecksumIEEE(h[:atHeaderCRC])) }

// A record is one of version 17.
type record [112]byte

// newRecord makes a message's record and counts it in the header.
func newRecord(h *header, uid uint32, p bodycache.Record, now time.Time) *record {
	var r record
	seconds := uint32(now.Unix()) //nolint:gosec // G115: the format has 32 bits
	modseq := get64(h[:], atHighestModSeq) + 1
	put64(h[:], atHighestModSeq, modseq)
	for at, v := range map[int]uint32{
		0: uid, 4: seconds, 8: p.SentDate, 12: p.Size, 16: p.HeaderSize, 20: p.GMTime, 28: seconds, 52: seconds,
	} {
		put32(r[:], at, v)
	}
	copy(r[60:80], p.GUID[:])
	put64(r[:], 80, modseq)
	put64(r[:], 96, modseq) // it was created with it
	for _, at := range []int{atRecords, atExists, atUnseen} {
		h.count(at, 1)
	}
	put64(h[:], atQuotaUsed, get64(h[:], atQuotaUsed)+uint64(p.Size))
	h.mix(atSyncBasic, fmt.Sprintf("%d %d %d (0) %d %s", uid, modseq, seconds, seconds, hex.EncodeToString(p.GUID[:])))
	const vendor = " /vendor/cmu/cyrus-imapd/"
	h.mix(atSyncAnnot, strconv.FormatUint(uint64(uid), 10)+vendor+"savedate  "+strconv.FormatUint(uint64(seconds), 10))
	h.mix(atSyncAnnot, strconv.FormatUint(uint64(uid), 10)+vendor+"createdmodseq  "+strconv.FormatUint(modseq, 10))
	return &r
}

// cached says where the message's cache record lies.
func (r *record) cached(offset uint64, crc uint32) {
	put32(r[:], 24, uint32(offset))                                   //nolint:gosec // G115: the low half
	put32(r[:], 56, uint32(offset>>32)<<16|uint32(bodycache.Version)) //nolint:gosec // G115: bits 32 to 47
	put32(r[:], 104, crc)
}

func (r *record) seal() { put32(r[:], 108, crc32.ChecksumIEEE(r[:108])) }
