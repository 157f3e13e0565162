package krb5

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// Wrap token header (RFC 4121 section 4.2.6.2) and its flags (section 4.2.2).
const (
	wrapHeader       = 16
	wrapFromAcceptor = 1
	wrapSealed       = 2
	wrapAcceptorKey  = 4
)

var errToken = errors.New("krb5: wrap token refused")

// A protector wraps and unwraps the messages of an established context, always
// as the acceptor. Its two directions may be used by two goroutines.
type protector struct {
	rand        io.Reader
	enctype     *enctype
	acceptorKey bool   // the key is the acceptor's subkey
	send, recv  uint64 // next sequence numbers

	sendSeal, recvSeal usageKeys
	sendSum, recvSum   []byte
}

func newProtector(rand io.Reader, k key, acceptorKey bool, send, recv uint32) *protector {
	return &protector{
		rand: rand, enctype: k.enctype, acceptorKey: acceptorKey,
		send: uint64(send), recv: uint64(recv),
		sendSeal: k.forUsage(usageAcceptorSeal), recvSeal: k.forUsage(usageInitiatorSeal),
		sendSum: k.checksumKey(usageAcceptorSeal), recvSum: k.checksumKey(usageInitiatorSeal),
	}
}

// overhead is by how much a wrapped message is longer.
func (p *protector) overhead(sealed bool) int {
	if sealed {
		return wrapHeader + confounder + wrapHeader + p.enctype.macLen
	}
	return wrapHeader + p.enctype.macLen
}

// wrap makes the next token: RRC 0, and EC 0 when sealed.
func (p *protector) wrap(plain []byte, sealed bool) ([]byte, error) {
	header := p.header(sealed)
	p.send++
	if sealed {
		body, err := p.sendSeal.seal(p.rand, slices.Concat(plain, header[:]))
		if err != nil {
			return nil, err
		}
		return append(header[:], body...), nil
	}
	sum := p.enctype.checksum(p.sendSum, plain, header[:])   // EC and RRC are zero in what is summed
	binary.BigEndian.PutUint16(header[4:], uint16(len(sum))) //nolint:gosec // G115: at most 24
	return slices.Concat(header[:], plain, sum), nil
}

func (p *protector) header(sealed bool) (h [wrapHeader]byte) {
	h = [wrapHeader]byte{0x05, 0x04, wrapFromAcceptor, 0xff}
	if sealed {
		h[2] |= wrapSealed
	}
	if p.acceptorKey {
		h[2] |= wrapAcceptorKey
	}
	binary.BigEndian.PutUint64(h[8:], p.send)
	return h
}

// unwrap verifies the initiator's next token. TCP keeps order, so exactly the
// next sequence number is demanded. sealed says how the token came.
func (p *protector) unwrap(token []byte) (plain []byte, sealed bool, err error) {
	if len(token) < wrapHeader || token[0] != 0x05 || token[1] != 0x04 || token[3] != 0xff {
		return nil, false, errToken
	}
	flags := token[2]
	want := byte(0)
	if p.acceptorKey {
		want = wrapAcceptorKey
	}
	// The acceptor's own bit would be a token of ours, reflected.
	if flags&^wrapSealed != want || binary.BigEndian.Uint64(token[8:]) != p.recv {
		return nil, false, errToken
	}
	extra := int(binary.BigEndian.Uint16(token[4:]))
	body := rotateLeft(token[wrapHeader:], int(binary.BigEndian.Uint16(token[6:])))
	sealed = flags&wrapSealed != 0
	if sealed {
		plain, err = p.unseal(token[:wrapHeader], body, extra)
	} else {
		plain, err = p.unsum(token[:wrapHeader], body, extra)
	}
	if err != nil {
		return nil, sealed, err
	}
	p.recv++
	return plain, sealed, nil
}

// unseal opens {plaintext | EC filler octets | header with RRC zero} (RFC 4121
// section 4.2.4).
func (p *protector) unseal(header, body []byte, extra int) ([]byte, error) {
	inner, err := p.recvSeal.open(body)
	if err != nil || len(inner) < wrapHeader+extra {
		return nil, errToken
	}
	split := len(inner) - wrapHeader
	want := bytes.Clone(header)
	want[6], want[7] = 0, 0
	if !hmac.Equal(want, inner[split:]) {
		return nil, errToken
	}
	return inner[:split-extra], nil
}

// unsum verifies {plaintext | checksum}; the checksum is over the plaintext and
// the header with EC and RRC zero (RFC 4121 section 4.2.4).
func (p *protector) unsum(header, body []byte, extra int) ([]byte, error) {
	split := len(body) - p.enctype.macLen
	if extra != p.enctype.macLen || split < 0 {
		return nil, errToken
	}
	zeroed := bytes.Clone(header)
	clear(zeroed[4:8])
	if !hmac.Equal(body[split:], p.enctype.checksum(p.recvSum, body[:split], zeroed)) {
		return nil, errToken
	}
	return body[:split], nil
}

// rotateLeft undoes the sender's right rotation (RFC 4121 section 4.2.5):
// Heimdal sends 12 and 28, Windows 28, MIT 0.
func rotateLeft(b []byte, count int) []byte {
	if len(b) == 0 || count%len(b) == 0 {
		return b
	}
	count %= len(b)
	return slices.Concat(b[count:], b[:count])
}
