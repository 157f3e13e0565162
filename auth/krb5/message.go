package krb5

import (
	"encoding/binary"
	"time"
)

// Application tag numbers and message types of RFC 4120 sections 5.2 to 5.9.
const (
	appTicket        = 1
	appAuthenticator = 2
	appEncTicketPart = 3
	appAPReq         = 14
	appAPRep         = 15
	appEncAPRepPart  = 27

	protocolVersion = 5
	msgAPReq        = 14
	msgAPRep        = 15
)

// Bits of APOptions and TicketFlags, bit 0 being the first of 32.
const (
	optionUseSessionKey = 1 << (31 - 1)
	optionMutual        = 1 << (31 - 2)

	flagInvalid          = 1 << (31 - 7)
	flagTransitedChecked = 1 << (31 - 12)
)

// Authorization data types: RFC 4120 section 5.2.6, MS-KILE section 2.2.5.
const (
	adIfRelevant = 1
	adAPOptions  = 143

	apOptionsCBT = 0x4000
)

// sealed is an EncryptedData (RFC 4120 section 5.2.9).
type sealed struct {
	etype   int32
	kvno    uint32
	hasKvno bool
	cipher  []byte
}

func (d *der) sealed(n byte) sealed {
	s, _ := d.sequence(n)
	e := sealed{etype: s.int32(0)}
	if e.hasKvno = s.has(1); e.hasKvno {
		e.kvno = s.uint32(1)
	}
	e.cipher = s.octets(2)
	d.whole(&s)
	return e
}

// rawKey is an EncryptionKey as it came (RFC 4120 section 5.2.9).
type rawKey struct {
	etype int32
	value []byte
}

func (d *der) key(n byte) rawKey {
	s, _ := d.sequence(n)
	k := rawKey{s.int32(0), s.octets(1)}
	d.whole(&s)
	return k
}

// An apReq is an AP-REQ (RFC 4120 section 5.5.1) with the clear part of its
// ticket (section 5.3). Nothing in it is proved.
type apReq struct {
	pvno, msgType int64
	options       uint32
	realm         string
	service       []string
	ticket        sealed
	authenticator sealed
}

func decodeAPReq(b []byte) (r apReq, ok bool) {
	d, ok := enter(b, appAPReq)
	if !ok {
		return r, false
	}
	r.pvno, r.msgType = d.integer(0), d.integer(1)
	r.options = d.flags(2)
	field := d.field(3)
	app := field.take(0x60 | appTicket)
	d.whole(&field)
	t := app.take(0x30)
	d.whole(&app)
	version := t.integer(0)
	r.realm = string(t.text(1))
	r.service = t.name(2)
	r.ticket = t.sealed(3)
	d.whole(&t)
	r.authenticator = d.sealed(4)
	return r, d.done() && version == protocolVersion
}

// An address is a HostAddress (RFC 4120 section 5.2.5).
type address struct {
	kind int32
	b    []byte
}

// A ticketPart is an EncTicketPart (RFC 4120 section 5.3). The authorization
// data (a PAC among it) is checked to be there in form and never looked into:
// nothing here needs it, and its parsers have been the weakest of all.
type ticketPart struct {
	flags         uint32
	key           rawKey
	realm         string
	name          []string
	transitedType int32
	transited     []byte
	start, end    time.Time
	addresses     []address
}

func decodeTicketPart(b []byte) (t ticketPart, ok bool) {
	d, ok := enter(b, appEncTicketPart)
	if !ok {
		return t, false
	}
	t.flags = d.flags(0)
	t.key = d.key(1)
	t.realm = string(d.text(2))
	t.name = d.name(3)
	s, _ := d.sequence(4)
	t.transitedType, t.transited = s.int32(0), s.octets(1)
	d.whole(&s)
	t.start, _ = d.time(5) // authtime stands in for an absent starttime
	if d.has(6) {
		t.start, _ = d.time(6)
	}
	t.end, _ = d.time(7)
	if d.has(8) {
		d.time(8)
	}
	if d.has(9) {
		t.addresses = d.addresses(9)
	}
	if d.has(10) {
		d.sequence(10)
	}
	return t, d.done()
}

// maxAddresses bounds the addresses of a ticket; a host has a few.
const maxAddresses = 64

func (d *der) addresses(n byte) []address {
	list, _ := d.sequence(n)
	var all []address
	for !list.bad && len(list.b) > 0 {
		s := list.take(0x30)
		all = append(all, address{s.int32(0), s.octets(1)})
		list.whole(&s)
		if len(all) > maxAddresses {
			list.fail()
		}
	}
	d.whole(&list)
	return all
}

// An authenticator is what the client has encrypted in the session key (RFC
// 4120 section 5.5.1).
type authenticator struct {
	version   int64
	realm     string
	name      []string
	hasSum    bool
	sumType   int32
	sum       []byte
	cusec     uint32
	ctime     time.Time
	ctimeText []byte // as it came: the AP-REP gives it back
	hasSubkey bool
	subkey    rawKey
	seq       uint32
	cbt       bool // KERB_AP_OPTIONS_CBT: the client knows channel bindings
}

func decodeAuthenticator(b []byte) (a authenticator, ok bool) {
	d, ok := enter(b, appAuthenticator)
	if !ok {
		return a, false
	}
	a.version = d.integer(0)
	a.realm = string(d.text(1))
	a.name = d.name(2)
	if a.hasSum = d.has(3); a.hasSum {
		s, _ := d.sequence(3)
		a.sumType, a.sum = s.int32(0), s.octets(1)
		d.whole(&s)
	}
	a.cusec = d.uint32(4)
	a.ctime, a.ctimeText = d.time(5)
	if a.hasSubkey = d.has(6); a.hasSubkey {
		a.subkey = d.key(6)
	}
	if d.has(7) {
		a.seq = d.uint32(7)
	}
	if d.has(8) {
		if s, ok := d.sequence(8); ok {
			a.cbt = hasCBT(s, 2)
		}
	}
	if a.cusec > 999_999 {
		return a, false
	}
	a.ctime = a.ctime.Add(time.Duration(a.cusec) * time.Microsecond)
	return a, d.done()
}

// hasCBT looks for AD-AP-OPTIONS with the channel binding bit, itself or inside
// AD-IF-RELEVANT. What it cannot read it takes for absent: the element is a
// hint of the client's own, inside its own encryption.
func hasCBT(list der, depth int) bool {
	for !list.bad && len(list.b) > 0 {
		s := list.take(0x30)
		kind, data := s.int32(0), s.octets(1)
		switch {
		case s.bad:
			return false
		case kind == adAPOptions && len(data) == 4:
			return binary.LittleEndian.Uint32(data)&apOptionsCBT != 0
		case kind == adIfRelevant && depth > 0:
			d := der{b: data}
			if hasCBT(d.take(0x30), depth-1) {
				return true
			}
		}
	}
	return false
}
