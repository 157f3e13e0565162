package krb5

import (
	"encoding/binary"
	"io"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// ASN.1 application tags and message types (RFC 4120 section 5.10).
const (
	tagAPRep    = 15
	tagAPRepEnc = 27
)

// plainAPRepPart is an EncAPRepPart without subkey and sequence number, as
// libkrb5 answers KPOP's clients; gokrb5's type would write an empty subkey.
type plainAPRepPart struct {
	CTime time.Time `asn1:"generalized,explicit,tag:0"`
	Cusec int       `asn1:"explicit,tag:1"`
}

// fullAPRepPart has both, as GSS-API wants it.
type fullAPRepPart struct {
	CTime          time.Time           `asn1:"generalized,explicit,tag:0"`
	Cusec          int                 `asn1:"explicit,tag:1"`
	Subkey         types.EncryptionKey `asn1:"explicit,tag:2"`
	SequenceNumber int64               `asn1:"explicit,tag:3"`
}

// plainReply makes the AP-REP of KPOP: it proves to the client that we could
// read its authenticator (RFC 4120 section 3.2.4).
func (c *Accepted) plainReply(rand io.Reader) ([]byte, error) {
	return c.reply(rand, plainAPRepPart{c.auth.CTime.UTC(), c.auth.Cusec})
}

// fullReply makes the AP-REP of GSS-API with our subkey and sequence number.
func (c *Accepted) fullReply(rand io.Reader, subkey key, sequence uint32) ([]byte, error) {
	k := types.EncryptionKey{KeyType: subkey.enctype.id, KeyValue: subkey.value}
	return c.reply(rand, fullAPRepPart{c.auth.CTime.UTC(), c.auth.Cusec, k, int64(sequence)})
}

// reply encrypts with the ticket's session key, never with a subkey, and names
// no kvno.
func (c *Accepted) reply(rand io.Reader, part any) ([]byte, error) {
	plain, err := asn1.Marshal(part)
	if err != nil {
		return nil, err
	}
	sealed, err := c.session.forUsage(usageAPRep).seal(rand, asn1tools.AddASNAppTag(plain, tagAPRepEnc))
	if err != nil {
		return nil, err
	}
	b, err := asn1.Marshal(messages.APRep{
		PVNO: 5, MsgType: tagAPRep,
		EncPart: types.EncryptedData{EType: c.session.enctype.id, Cipher: sealed},
	})
	if err != nil {
		return nil, err
	}
	return asn1tools.AddASNAppTag(b, tagAPRep), nil
}

// freshKey makes a key of the same enctype as like. gokrb5's own generator
// makes enctype 20 keys of 24 octets, which no peer takes.
func freshKey(rand io.Reader, like key) (key, error) {
	k := key{like.enctype, make([]byte, like.enctype.keyLen)}
	_, err := io.ReadFull(rand, k.value)
	return k, err
}

// freshSequence is in 1..2^30: zero would be left out of the DER and large ones
// were encoded as negative by old libraries.
func freshSequence(rand io.Reader) (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b[:])&(1<<30-1) + 1, nil
}
