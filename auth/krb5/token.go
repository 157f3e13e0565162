package krb5

import (
	"bytes"
	"encoding/binary"
	"log/slog"

	"github.com/jcmturner/gokrb5/v8/types"
)

// oidKerberos is the DER of the mechanism's object identifier with its tag and
// length (RFC 4121 section 4.1: 1.2.840.113554.1.2.2).
var oidKerberos = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}

// Token identifiers (RFC 4121 section 4.1).
var (
	tokenAPReq = []byte{0x01, 0x00}
	tokenAPRep = []byte{0x02, 0x00}
)

// unframe strips the frame of an initial context token (RFC 2743 section 3.1)
// and gives what follows the mechanism: token identifier and message.
func unframe(b []byte) ([]byte, bool) {
	if len(b) < 2 || b[0] != 0x60 || !wholeDER(b) {
		return nil, false
	}
	_, rest, _ := derLength(b[1:])
	return bytes.CutPrefix(rest, oidKerberos)
}

// frame puts the frame on.
func frame(id, message []byte) []byte {
	n := len(oidKerberos) + len(id) + len(message)
	b := make([]byte, 0, n+5)
	b = append(b, 0x60)
	b = appendDERLength(b, n)
	b = append(b, oidKerberos...)
	b = append(b, id...)
	return append(b, message...)
}

// The authenticator checksum that carries GSS-API's flags (RFC 4121 section
// 4.1.1).
const (
	checksumGSS    = 0x8003
	checksumGSSMin = 24 // length, bindings, flags
	bindingsLen    = 16
)

// Context flags (RFC 4121 section 4.1.1.1) that matter to an acceptor.
const (
	gssMutual = 0x02
	gssDCE    = 0x1000
)

type gssChecksum struct {
	bindings [bindingsLen]byte
	flags    uint32
}

// parseGSSChecksum reads an 0x8003 checksum. Delegated credentials and
// extensions that follow the flags are dropped unread.
func parseGSSChecksum(c types.Checksum) (gssChecksum, *Refusal) {
	var g gssChecksum
	if c.CksumType != checksumGSS || len(c.Checksum) < checksumGSSMin ||
		binary.LittleEndian.Uint32(c.Checksum) != bindingsLen {
		return g, refuse("KP-117", slog.Int("checksum_type", int(c.CksumType)), slog.Int("octets", len(c.Checksum)))
	}
	copy(g.bindings[:], c.Checksum[4:])
	g.flags = binary.LittleEndian.Uint32(c.Checksum[4+bindingsLen:])
	if g.flags&gssDCE != 0 {
		// DCE style has a third leg that no SASL profile carries.
		return g, refuse("KP-117", slog.Bool("dce_style", true))
	}
	return g, nil
}
