// Package bodycache makes the record of a message in Cyrus's cyrus.cache, as
// Cyrus 3.6 does (cache version 11), octet for octet: IMAP's ENVELOPE,
// BODYSTRUCTURE and BODY, where each body part lies, the header fields that
// searches want, and the addresses in the form searches want.
//
// Cyrus's own parser (message.c, parseaddr.c, charset.c) decides what is
// right, not the RFCs: a record that differs is a fault to reconstruct. Where
// that parser's way with a broken message was not proved, the message is
// distrusted (ErrDistrusted): it is stored without a record, which Cyrus
// then makes itself.
package bodycache

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Version is the cache version of the records made here, as it stands in the
// index record.
const Version = 11

// ErrDistrusted is a message whose record is left to Cyrus: its index record
// has cache offset, checksum and version 0.
var ErrDistrusted = errors.New("bodycache: message form not trusted")

// Limits of what is parsed. Cyrus's are higher; what lies between is
// distrusted.
const (
	maxDepth      = 40      // multiparts and messages within one another
	maxParts      = 2000    // body parts of a message
	maxHeaderSize = 1 << 20 // octets of one part's header
	maxSize       = 1<<32 - 1
)

// defaultHeaderLines is Cyrus's maxheaderlines.
const defaultHeaderLines = 1000

// Options are what the record depends on besides the message.
type Options struct {
	// Received is the message's internal date: it stands in for a Date:
	// field that is missing or not understood.
	Received time.Time
	// Location is the time zone of Cyrus's server processes; nil: time.Local.
	Location *time.Location
	// MaxHeaderLines is maxheaderlines; zero: Cyrus's default.
	MaxHeaderLines int
}

// A Record is what the index record of a message says of its octets, and its
// record in cyrus.cache.
type Record struct {
	GUID       [20]byte // SHA-1 of the whole message
	Size       uint32
	HeaderSize uint32 // through the blank line
	SentDate   uint32 // midnight of Date:'s calendar day in the server's zone
	GMTime     uint32 // Date: as an instant

	Cache []byte // the record of cyrus.cache; nil when distrusted
	CRC   uint32 // of Cache
}

// The items of a cache record, in order.
const (
	itemEnvelope = iota
	itemBodyStructure
	itemBody
	itemSection
	itemHeaders
	itemFrom
	itemTo
	itemCc
	itemBcc
	itemSubject
	items
)

// Build makes the record of a message, whose lines end in CRLF as in the
// spool. With ErrDistrusted the Record is good too, but for Cache and CRC.
func Build(message []byte, o Options) (Record, error) {
	if len(message) == 0 || uint64(len(message)) > maxSize {
		return Record{}, fmt.Errorf("bodycache: a message of %d octets", len(message))
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.MaxHeaderLines == 0 {
		o.MaxHeaderLines = defaultHeaderLines
	}
	r := Record{GUID: sha1.Sum(message), Size: uint32(len(message)), HeaderSize: uint32(headerSize(message))}
	top, err := parse(message, o.MaxHeaderLines)
	if err != nil {
		r.setDates(topDate(message[:min(r.HeaderSize, maxHeaderSize)]), o)
		return r, err
	}
	r.setDates(top.date, o)
	if r.Cache, err = encode(top); err != nil {
		return r, err
	}
	r.CRC = crc32.ChecksumIEEE(r.Cache)
	return r, nil
}

// headerSize is the header through its blank line: the whole message when
// there is none.
func headerSize(message []byte) int {
	if bytes.HasPrefix(message, []byte("\r\n")) {
		return 2
	}
	if i := bytes.Index(message, []byte("\n\r\n")); i >= 0 {
		return i + 3
	}
	return len(message)
}

func (r *Record) setDates(date *string, o Options) {
	received := o.Received.In(o.Location)
	midnight := time.Date(received.Year(), received.Month(), received.Day(), 0, 0, 0, 0, o.Location)
	sent, gm := midnight.Unix(), received.Unix()
	if date != nil {
		// To Cyrus the first second of 1970 is no date.
		if t, ok := parseDay(*date, o.Location); ok && t != 0 {
			sent = t
		}
		if t, ok := parseDate(*date); ok && t != 0 {
			gm = t
		}
	}
	// An index record up to version 19 has the low 32 bits.
	r.SentDate, r.GMTime = uint32(sent), uint32(gm)
}

// encode writes the ten items, each with its length before and padded to four
// octets.
func encode(top *part) ([]byte, error) {
	subject, err := decodeWordsOpt(top.subject)
	if err != nil {
		return nil, err
	}
	var item [items][]byte
	item[itemEnvelope] = appendEnvelope(nil, top)
	item[itemBodyStructure] = appendBody(nil, top, true)
	item[itemBody] = appendBody(nil, top, false)
	item[itemSection] = appendMessageSection(nil, top)
	item[itemHeaders] = top.cached
	for i, list := range [][]address{top.from, top.to, top.cc, top.bcc} {
		if item[itemFrom+i], err = appendSearch(nil, list); err != nil {
			return nil, err
		}
	}
	item[itemSubject] = appendNString(nil, subject)

	var out []byte
	for _, it := range item {
		out = binary.BigEndian.AppendUint32(out, uint32(len(it)))
		out = append(out, it...)
		out = append(out, make([]byte, -len(it)&3)...)
	}
	return out, nil
}
