package krb5

import (
	"crypto/subtle"
	"encoding/binary"
)

// MIC tokens (RFC 4121 section 4.2.6.1): a header of 16 octets, 04 04 flags ff ff
// ff ff ff SEQ, then the checksum of message and header. They count in the same
// sequence as wrap tokens.
const micHeader = 16

func (d *direction) micOf(message []byte, usage uint32) []byte {
	header := [micHeader]byte{4, 4, d.flags, 0xff, 0xff, 0xff, 0xff, 0xff}
	binary.BigEndian.PutUint64(header[8:], d.seq)
	signer := direction{key: d.key, usage: usage}
	return signer.checksum(message, header[:], header[:])
}

// sign gives the acceptor's MIC of a message.
func (d *direction) sign(message []byte) []byte {
	token := d.micOf(message, usageAcceptorSign)
	d.seq++
	return token
}

// verify checks the initiator's MIC of a message. Every octet of the token is
// determined, the sequence number too, so it is made anew and compared.
func (d *direction) verify(message, token []byte) bool {
	if subtle.ConstantTimeCompare(d.micOf(message, usageInitiatorSign), token) != 1 {
		return false
	}
	d.seq++
	return true
}
