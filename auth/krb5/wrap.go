package krb5

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Wrap tokens (RFC 4121 section 4.2.6.2): a header of 16 octets, 05 04 flags
// ff EC RRC SEQ, then plaintext and checksum, or the sealed plaintext.
const (
	wrapHeader = 16

	wrapFromAcceptor   = 1
	wrapSealed         = 2
	wrapAcceptorSubkey = 4
)

var errWrap = errors.New("krb5: malformed wrap token")

// A direction is one way of a context's messages: its keys, derived when first
// needed, and its sequence number. It serves one goroutine at a time.
type direction struct {
	key    key
	usage  uint32
	flags  byte // as in every token of this direction, without wrapSealed
	seq    uint64
	random io.Reader

	sealer *sealer
	kc     []byte // the checksum key
}

func (d *direction) checksum(plain, header []byte, dst []byte) []byte {
	if d.kc == nil {
		d.kc = d.key.derive(d.usage, purposeChecksum)
	}
	return d.key.et.macs.mac(dst, d.kc, plain, header)[:len(dst)+d.key.et.macSize]
}

func (d *direction) seals() *sealer {
	if d.sealer == nil {
		d.sealer = d.key.sealer(d.usage)
	}
	return d.sealer
}

// overhead is what a token has beyond its plaintext.
func (d *direction) overhead(confidential bool) int {
	if confidential {
		return wrapHeader + confounderSize + wrapHeader + d.key.et.macSize
	}
	return wrapHeader + d.key.et.macSize
}

// wrap appends a token to dst. It sends RRC 0 and, sealed, no filler.
func (d *direction) wrap(dst, plain []byte, confidential bool) ([]byte, error) {
	flags := d.flags
	if confidential {
		flags |= wrapSealed
	}
	header := [wrapHeader]byte{5, 4, flags, 0xff}
	binary.BigEndian.PutUint64(header[8:], d.seq)
	if confidential {
		dst = append(dst, header[:]...)
		inner := make([]byte, 0, len(plain)+wrapHeader)
		inner = append(append(inner, plain...), header[:]...)
		out, err := d.seals().seal(dst, inner, d.random)
		if err != nil {
			return nil, fmt.Errorf("krb5: random source: %w", err)
		}
		d.seq++
		return out, nil
	}
	// The checksum is over a header with EC and RRC zero (RFC 4121 section 4.2.4).
	at := len(dst)
	dst = append(append(dst, header[:]...), plain...)
	dst = d.checksum(plain, header[:], dst)
	binary.BigEndian.PutUint16(dst[at+4:], uint16(d.key.et.macSize)) //nolint:gosec // at most 24
	d.seq++
	return dst, nil
}

// unwrap checks a token and gives its plaintext, which may share the token's
// memory. Direction, subkey and seal must be as agreed, the sequence number the
// next one: the stream below is ordered, so a gap is an attack or a bug.
func (d *direction) unwrap(token []byte, confidential bool) ([]byte, error) {
	flags := d.flags
	if confidential {
		flags |= wrapSealed
	}
	if len(token) < wrapHeader || token[0] != 5 || token[1] != 4 || token[3] != 0xff {
		return nil, errWrap
	}
	if token[2] != flags {
		return nil, fmt.Errorf("krb5: wrap token with flags %#x, expected %#x", token[2], flags)
	}
	header := [wrapHeader]byte(token)
	ec := int(binary.BigEndian.Uint16(header[4:]))
	rrc := int(binary.BigEndian.Uint16(header[6:]))
	if seq := binary.BigEndian.Uint64(header[8:]); seq != d.seq {
		return nil, fmt.Errorf("krb5: wrap token out of order: number %d, expected %d", seq, d.seq)
	}
	header[6], header[7] = 0, 0
	body := token[wrapHeader:]
	if len(body) < d.overhead(confidential)-wrapHeader {
		return nil, errWrap
	}
	body = rotateLeft(body, rrc)
	plain, err := d.plaintext(body, header, ec, confidential)
	if err != nil {
		return nil, err
	}
	d.seq++
	return plain, nil
}

func (d *direction) plaintext(body []byte, header [wrapHeader]byte, ec int, confidential bool) ([]byte, error) {
	if !confidential {
		mac := d.key.et.macSize
		if ec != mac {
			return nil, errWrap
		}
		header[4], header[5] = 0, 0
		plain, got := body[:len(body)-mac], body[len(body)-mac:]
		var buf [64]byte
		if subtle.ConstantTimeCompare(d.checksum(plain, header[:], buf[:0]), got) != 1 {
			return nil, errIntegrity
		}
		return plain, nil
	}
	inner, err := d.seals().open(body)
	if err != nil {
		return nil, err
	}
	size := len(inner) - wrapHeader - ec // EC octets of filler before the header
	if size < 0 || subtle.ConstantTimeCompare(inner[len(inner)-wrapHeader:], header[:]) != 1 {
		return nil, errWrap
	}
	return inner[:size], nil
}

// rotateLeft undoes the sender's rotation (RFC 4121 section 4.2.5).
// Client: Heimdal 7.8 sends 12 unsealed and 28 sealed, Windows 28.
func rotateLeft(b []byte, n int) []byte {
	if len(b) == 0 || n%len(b) == 0 {
		return b
	}
	n %= len(b)
	return append(append(make([]byte, 0, len(b)), b[n:]...), b[:n]...)
}
