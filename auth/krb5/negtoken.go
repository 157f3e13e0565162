package krb5

import (
	"errors"
	"slices"
)

// Object identifiers as DER elements.
const (
	spnegoOID = "\x06\x06\x2b\x06\x01\x05\x05\x02" // 1.3.6.1.5.5.2

	// 1.2.840.48018.1.2.2, Kerberos 5 with a bit lost, is what Windows proposes
	// first and what Heimdal proposes too (MS-SPNG section 3.1.5.2). The tokens
	// are those of Kerberos 5.
	microsoftOID = "\x06\x09\x2a\x86\x48\x82\xf7\x12\x01\x02\x02"
)

// negState of RFC 4178 section 4.2.2.
type negState byte

const (
	negCompleted  negState = 0
	negIncomplete negState = 1
	negReject     negState = 2
	negRequestMIC negState = 3
)

// maxMechTypes bounds what an initiator proposes; real ones have six at most.
const maxMechTypes = 32

var errNegToken = errors.New("krb5: malformed negotiation token")

// A negInit is an initiator's first token (RFC 4178 section 4.2.1).
type negInit struct {
	list  []byte   // the MechTypeList as it came, which the MICs are over
	mechs []string // its elements
	token []byte   // of the first mechanism; nil when none came
	mic   []byte   // nil when none came
}

func parseNegInit(b []byte) (t negInit, err error) {
	inner, err := unframeOf(b, spnegoOID)
	if err != nil {
		return t, errNegToken
	}
	d := der{b: inner}
	choice := d.take(0xa0)
	s := choice.take(0x30)
	field := s.field(0)
	t.list = field.b
	list := field.take(0x30)
	s.whole(&field)
	for !list.bad && len(list.b) > 0 {
		whole := list.b
		list.take(0x06)
		t.mechs = append(t.mechs, string(whole[:len(whole)-len(list.b)]))
		if len(t.mechs) > maxMechTypes {
			list.fail()
		}
	}
	s.whole(&list)
	if s.has(1) { // reqFlags: RFC 4178 section 4.2.1 says to ignore them
		flags := s.field(1)
		flags.take(0x03)
		s.whole(&flags)
	}
	if s.has(2) {
		t.token = s.octets(2)
	}
	if s.has(3) {
		t.mic = s.octets(3)
	}
	if !s.done() || !choice.done() || !d.done() || len(t.mechs) == 0 {
		return negInit{}, errNegToken
	}
	return t, nil
}

// kerberos gives the place of the first mechanism that is Kerberos 5, or -1.
func (t *negInit) kerberos() int {
	return slices.IndexFunc(t.mechs, func(oid string) bool { return oid == mechanismOID || oid == microsoftOID })
}

// A negResp is any later token (RFC 4178 section 4.2.2).
type negResp struct {
	state    negState
	hasState bool
	mech     string // element of supportedMech; empty when absent
	token    []byte
	mic      []byte
}

func parseNegResp(b []byte) (t negResp, err error) {
	d := der{b: b}
	choice := d.take(0xa1)
	s := choice.take(0x30)
	if t.hasState = s.has(0); t.hasState {
		field := s.field(0)
		e := field.take(0x0a)
		s.whole(&field)
		if len(e.b) != 1 || e.b[0] > byte(negRequestMIC) {
			return negResp{}, errNegToken
		}
		t.state = negState(e.b[0])
	}
	if s.has(1) {
		field := s.field(1)
		t.mech = string(field.b)
		field.take(0x06)
		s.whole(&field)
	}
	if s.has(2) {
		t.token = s.octets(2)
	}
	if s.has(3) {
		t.mic = s.octets(3)
	}
	if !s.done() || !choice.done() || !d.done() {
		return negResp{}, errNegToken
	}
	return t, nil
}

// encode writes the acceptor's answer, which always has a state.
func (t *negResp) encode() []byte {
	w := newBuilder(len(t.token) + len(t.mic) + 64)
	if t.mic != nil {
		w.primitive(3, 0x04, t.mic)
	}
	if t.token != nil {
		w.primitive(2, 0x04, t.token)
	}
	if t.mech != "" {
		m := w.mark()
		w.raw([]byte(t.mech)...)
		w.wrap(0xa1, m)
	}
	w.primitive(0, 0x0a, []byte{byte(t.state)})
	w.wrap(0x30, 0)
	w.wrap(0xa1, 0)
	return w.bytes()
}
