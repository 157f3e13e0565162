package gssbind

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Tokens of the Kerberos mechanism (RFC 4121 sections 4.1 and 4.2).
const (
	mechanism = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"
	idAPReq   = "\x01\x00"
	idAPRep   = "\x02\x00"
	idWrap    = "\x05\x04"

	fromAcceptor   = 0x01
	acceptorSubkey = 0x04

	wrapHeader = 16
	maxToken   = 64 << 10
	minCipher  = 16 + 12 // confounder and MAC of the shortest enctype; gokrb5 slices below zero
)

// Context flags (RFC 4121 section 4.1.1.1): mutual, replay, sequence, integrity.
const contextFlags = 0x02 | 0x04 | 0x08 | 0x20

// layerNone is the only security layer wanted (RFC 4752 section 3.1): TLS
// protects the connection, or the machine itself.
const layerNone = 1

// An initiator is one run of SASL GSSAPI. It is an ldap.GSSAPIClient.
type initiator struct {
	ticket *ticket
	realm  string
	name   types.PrincipalName

	authenticator types.Authenticator
	key           types.EncryptionKey // the session's, or the acceptor's subkey
	subkey        bool
}

// InitSecContext implements ldap.GSSAPIClient.
func (i *initiator) InitSecContext(target string, token []byte) ([]byte, bool, error) {
	return i.InitSecContextWithOptions(target, token, nil)
}

// InitSecContextWithOptions makes the AP-REQ, and takes the AP-REP.
func (i *initiator) InitSecContextWithOptions(_ string, token []byte, _ []int) ([]byte, bool, error) {
	if token == nil {
		out, err := i.request()
		return out, true, err
	}
	return nil, false, i.reply(token)
}

// DeleteSecContext implements ldap.GSSAPIClient.
func (i *initiator) DeleteSecContext() error {
	i.key = types.EncryptionKey{}
	return nil
}

// request makes the initial token (RFC 4121 section 4.1).
func (i *initiator) request() ([]byte, error) {
	var err error
	if i.authenticator, err = types.NewAuthenticator(i.realm, i.name); err != nil {
		return nil, err
	}
	// Without bindings and delegation the checksum is a length, sixteen
	// octets of zero, and the flags.
	checksum := make([]byte, 24)
	binary.LittleEndian.PutUint32(checksum, 16)
	binary.LittleEndian.PutUint32(checksum[20:], contextFlags)
	i.authenticator.Cksum = types.Checksum{CksumType: 0x8003, Checksum: checksum}
	i.authenticator.SeqNumber |= 1 // gokrb5 leaves a zero out
	request, err := messages.NewAPReq(i.ticket.Ticket, i.ticket.Session, i.authenticator)
	if err != nil {
		return nil, err
	}
	types.SetFlag(&request.APOptions, flags.APOptionMutualRequired)
	der, err := request.Marshal()
	if err != nil {
		return nil, err
	}
	body := append([]byte(mechanism+idAPReq), der...)
	return append(append([]byte{0x60}, derLength(len(body))...), body...), nil
}

// reply checks that the server knows the session key, and takes its subkey.
func (i *initiator) reply(token []byte) error {
	inner, err := unframe(token)
	if err != nil {
		return err
	}
	var rep messages.APRep
	if err := rep.Unmarshal(inner); err != nil {
		return fmt.Errorf("gssbind: AP-REP: %w", err)
	}
	if len(rep.EncPart.Cipher) < minCipher {
		return errors.New("gssbind: AP-REP is too short")
	}
	text, err := crypto.DecryptEncPart(rep.EncPart, i.ticket.Session, keyusage.AP_REP_ENCPART)
	if err != nil {
		return fmt.Errorf("gssbind: AP-REP: %w", err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(text); err != nil {
		return fmt.Errorf("gssbind: AP-REP: %w", err)
	}
	// Mutual authentication (RFC 4120 section 3.2.5): the times are ours.
	if part.CTime.Unix() != i.authenticator.CTime.Unix() || part.Cusec != i.authenticator.Cusec {
		return errors.New("gssbind: AP-REP answers another request")
	}
	i.key = i.ticket.Session
	if part.Subkey.KeyType != 0 {
		i.key, i.subkey = part.Subkey, true
	}
	return nil
}

// NegotiateSaslAuth takes the server's layers and chooses none (RFC 4752
// section 3.1).
func (i *initiator) NegotiateSaslAuth(token []byte, authzid string) ([]byte, error) {
	offer, err := i.unwrap(token)
	if err != nil {
		return nil, err
	}
	if len(offer) != 4 {
		return nil, fmt.Errorf("gssbind: an offer of %d octets", len(offer))
	}
	if offer[0]&layerNone == 0 {
		return nil, errors.New("gssbind: the server insists on a SASL security layer; use TLS and lower its minssf")
	}
	return i.wrap(append([]byte{layerNone, 0, 0, 0}, authzid...))
}

// unwrap reads an unsealed wrap token (RFC 4121 section 4.2.4).
func (i *initiator) unwrap(token []byte) ([]byte, error) {
	if len(token) < wrapHeader || len(token) > maxToken || string(token[:2]) != idWrap || token[3] != 0xff {
		return nil, errors.New("gssbind: no wrap token")
	}
	want := byte(fromAcceptor)
	if i.subkey {
		want |= acceptorSubkey
	}
	if token[2] != want {
		return nil, fmt.Errorf("gssbind: wrap token with flags %#x, want %#x", token[2], want)
	}
	ec, rrc := int(binary.BigEndian.Uint16(token[4:])), int(binary.BigEndian.Uint16(token[6:]))
	body := bytes.Clone(token[wrapHeader:])
	if ec > len(body) || len(body) == 0 {
		return nil, errors.New("gssbind: wrap token is cut short")
	}
	rrc %= len(body)
	body = append(body[rrc:], body[:rrc]...) // section 4.2.5
	text, mac := body[:len(body)-ec], body[len(body)-ec:]
	etype, err := crypto.GetEtype(i.key.KeyType)
	if err != nil {
		return nil, err
	}
	header := bytes.Clone(token[:wrapHeader])
	clear(header[4:8]) // EC and RRC count as zero (section 4.2.4)
	if !etype.VerifyChecksum(i.key.KeyValue, append(bytes.Clone(text), header...), mac, keyusage.GSSAPI_ACCEPTOR_SEAL) {
		return nil, errors.New("gssbind: wrap token has a wrong checksum")
	}
	return text, nil
}

// wrap makes an unsealed wrap token.
func (i *initiator) wrap(text []byte) ([]byte, error) {
	etype, err := crypto.GetEtype(i.key.KeyType)
	if err != nil {
		return nil, err
	}
	header := append([]byte(idWrap), 0, 0xff, 0, 0, 0, 0)
	if i.subkey {
		header[2] = acceptorSubkey
	}
	header = binary.BigEndian.AppendUint64(header, uint64(i.authenticator.SeqNumber)) //nolint:gosec // positive
	mac, err := etype.GetChecksumHash(i.key.KeyValue, append(bytes.Clone(text), header...), keyusage.GSSAPI_INITIATOR_SEAL)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(header[4:], uint16(len(mac))) //nolint:gosec // 24 at most
	return append(append(header, text...), mac...), nil
}

// unframe takes an AP-REP out of its frame (RFC 2743 section 3.1).
func unframe(token []byte) ([]byte, error) {
	if len(token) < 4 || len(token) > maxToken || token[0] != 0x60 {
		return nil, errors.New("gssbind: no GSS token")
	}
	length, rest := int(token[1]), token[2:]
	if token[1] >= 0x80 {
		n := int(token[1] & 0x7f)
		if n == 0 || n > 3 || len(rest) < n {
			return nil, errors.New("gssbind: GSS token with a bad length")
		}
		length = 0
		for _, c := range rest[:n] {
			length = length<<8 | int(c)
		}
		rest = rest[n:]
	}
	inner, ok := bytes.CutPrefix(rest, []byte(mechanism+idAPRep))
	if length != len(rest) || !ok {
		return nil, errors.New("gssbind: GSS token is no AP-REP of Kerberos")
	}
	return inner, nil
}

// derLength encodes a length (X.690 section 8.1.3).
func derLength(n int) []byte {
	switch {
	case n < 0x80:
		return []byte{byte(n)}
	case n < 0x100:
		return []byte{0x81, byte(n)}
	case n < 0x10000:
		return []byte{0x82, byte(n >> 8), byte(n)}
	}
	return []byte{0x83, byte(n >> 16), byte(n >> 8), byte(n)}
}
