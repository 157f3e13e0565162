package client

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/types"
)

// GSS flags of the authenticator's checksum (RFC 4121 section 4.1.1.1).
const (
	flagMutual    = 2
	flagSequence  = 8
	flagIntegrity = 0x20
)

// krb5OID is the Kerberos mechanism 1.2.840.113554.1.2.2 in DER (RFC 4121
// section 4.1).
var krb5OID = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}

// GSSAPI logs in by AUTH GSSAPI (RFC 4752) without a security layer. user is
// the authzid; empty means the principal's own maildrop.
func (d *Dialog) GSSAPI(t *Ticket, user string) error {
	r, err := t.request(gssChecksum(flagMutual | flagSequence | flagIntegrity))
	if err != nil {
		return err
	}
	if err := d.send("AUTH GSSAPI", "AUTH GSSAPI"); err != nil {
		return err
	}
	if _, err := d.status("+ "); err != nil {
		return err
	}
	framed, err := d.token(frame(0x01, r.raw))
	if err != nil {
		return err
	}
	key, err := r.established(framed)
	if err != nil {
		return err
	}
	offer, err := d.token(nil)
	if err != nil {
		return err
	}
	choice, err := key.choose(offer, r.seq, user)
	if err != nil {
		return err
	}
	_, err = d.secret(base64.StdEncoding.EncodeToString(choice), "(no security layer, authzid "+fmt.Sprintf("%q", user)+")")
	return err
}

// token sends one and gives the next of the server's.
func (d *Dialog) token(b []byte) ([]byte, error) {
	text := base64.StdEncoding.EncodeToString(b)
	if err := d.send(text, fmt.Sprintf("(token, %d octets of base64)", len(text))); err != nil {
		return nil, err
	}
	answer, err := d.status("+ ")
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(answer)
	if err != nil {
		return nil, fmt.Errorf("client: the server's token is not base64: %w", err)
	}
	return raw, nil
}

// gssChecksum carries the flags, without channel bindings (RFC 4121 section
// 4.1.1).
func gssChecksum(contextFlags uint32) *types.Checksum {
	b := binary.LittleEndian.AppendUint32(nil, 16)
	b = append(b, make([]byte, 16)...)
	return &types.Checksum{CksumType: 0x8003, Checksum: binary.LittleEndian.AppendUint32(b, contextFlags)}
}

// frame puts the mechanism's name around a token (RFC 2743 section 3.1).
func frame(kind byte, message []byte) []byte {
	body := append(bytes.Clone(krb5OID), kind, 0x00)
	body = append(body, message...)
	out := []byte{0x60}
	switch n := len(body); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, body...)
}

// A contextKey protects what follows the context's establishment.
type contextKey struct {
	key    types.EncryptionKey
	flags  byte   // acceptor subkey, or none
	expect uint64 // the server's next sequence number
}

// established checks the AP-REP in its frame and takes the key from it.
func (r *request) established(framed []byte) (*contextKey, error) {
	at := bytes.Index(framed, append(bytes.Clone(krb5OID), 0x02, 0x00))
	if at < 0 || at > 6 || framed[0] != 0x60 {
		return nil, errors.New("client: the server's token is not an AP-REP of Kerberos")
	}
	part, err := r.check(framed[at+len(krb5OID)+2:])
	if err != nil {
		return nil, err
	}
	c := &contextKey{key: r.key, expect: uint64(uint32(part.SequenceNumber))} //nolint:gosec // G115: 32 bits on the wire
	if len(part.Subkey.KeyValue) > 0 {
		c.key, c.flags = part.Subkey, 0x04
	}
	return c, nil
}

// choose reads the server's offer of security layers and makes the answer that
// takes none (RFC 4752 section 3.1).
func (c *contextKey) choose(token []byte, seq uint32, user string) (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, errors.New("client: malformed wrap token")
		}
	}()
	offer, err := c.unwrap(token)
	if err != nil {
		return nil, err
	}
	if len(offer) != 4 || offer[0]&1 == 0 {
		return nil, errors.New("client: the server insists on a security layer, which kpop does not speak; use --stls or --tls")
	}
	etype, err := crypto.GetEtype(c.key.KeyType)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	w := gssapi.WrapToken{
		Flags: c.flags, EC: uint16(etype.GetHMACBitLength() / 8), //nolint:gosec // G115: at most 24
		SndSeqNum: uint64(seq), Payload: append([]byte{1, 0, 0, 0}, user...),
	}
	if err := w.SetCheckSum(c.key, keyusage.GSSAPI_INITIATOR_SEAL); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return w.Marshal()
}

// unwrap verifies a wrap token that is not sealed (RFC 4121 section 4.2.4).
func (c *contextKey) unwrap(token []byte) ([]byte, error) {
	if len(token) < gssapi.HdrLen {
		return nil, errors.New("client: malformed wrap token")
	}
	// Heimdal rotates, and gokrb5 does not turn back.
	body := token[gssapi.HdrLen:]
	if rrc := int(binary.BigEndian.Uint16(token[6:8])); len(body) > 0 {
		rrc %= len(body)
		turned := append(bytes.Clone(body[rrc:]), body[:rrc]...)
		token = append(bytes.Clone(token[:gssapi.HdrLen]), turned...)
	}
	var w gssapi.WrapToken
	if err := w.Unmarshal(token, true); err != nil {
		return nil, fmt.Errorf("client: wrap token: %w", err)
	}
	if ok, err := w.Verify(c.key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil || !ok {
		return nil, errors.New("client: wrap token has a wrong checksum")
	}
	if w.SndSeqNum != c.expect {
		return nil, errors.New("client: wrap token out of sequence")
	}
	return w.Payload, nil
}
