package krb5_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/kpopd/kpopd/auth"
)

// An initiator is the client's side of a GSS context, on gokrb5's cryptography.
type initiator struct {
	t        testing.TB
	f        *forge
	key      types.EncryptionKey
	flags    byte
	out, in  uint64
	rotation int // RRC of what it sends
}

// newInitiator makes the client for the forged ticket.
func newInitiator(t testing.TB, f *forge, flags uint32, bnd [16]byte) (*initiator, []byte) {
	f.checksum = gssChecksum(flags, bnd)
	if f.seq == 0 {
		f.seq = 4711
	}
	i := &initiator{t: t, f: f, key: f.session, out: uint64(uint32(f.seq)), in: uint64(uint32(f.seq))}
	if f.subkey.KeyType != 0 {
		i.key = f.subkey
	}
	return i, f.apReq(t)
}

// established reads the framed AP-REP.
func (i *initiator) established(token []byte) {
	i.t.Helper()
	at := bytes.Index(token, []byte("\x02\x00\x6f"))
	if at < 0 {
		i.t.Fatalf("no AP-REP in %x", token)
	}
	var rep messages.APRep
	if err := rep.Unmarshal(token[at+2:]); err != nil {
		i.t.Fatal(err)
	}
	et, err := crypto.GetEtype(i.f.session.KeyType)
	if err != nil {
		i.t.Fatal(err)
	}
	plain, err := et.DecryptMessage(i.f.session.KeyValue, rep.EncPart.Cipher, 12)
	if err != nil {
		i.t.Fatal(err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		i.t.Fatal(err)
	}
	i.key, i.in, i.flags = part.Subkey, uint64(part.SequenceNumber), 4
}

func (i *initiator) wrap(plain []byte, sealed bool) []byte {
	i.t.Helper()
	et, err := crypto.GetEtype(i.key.KeyType)
	if err != nil {
		i.t.Fatal(err)
	}
	header := make([]byte, 16)
	copy(header, []byte{5, 4, i.flags, 0xff})
	binary.BigEndian.PutUint64(header[8:], i.out)
	i.out++
	var body []byte
	if sealed {
		header[2] |= 2
		const filler = 3
		header[5] = filler
		inner := append(append(append([]byte{}, plain...), make([]byte, filler)...), header...)
		if _, body, err = et.EncryptMessage(i.key.KeyValue, inner, 24); err != nil {
			i.t.Fatal(err)
		}
	} else {
		sum, err := et.GetChecksumHash(i.key.KeyValue, append(append([]byte{}, plain...), header...), 24)
		if err != nil {
			i.t.Fatal(err)
		}
		header[5] = byte(len(sum))
		body = append(append([]byte{}, plain...), sum...)
	}
	binary.BigEndian.PutUint16(header[6:], uint16(i.rotation))
	n := len(body) - i.rotation%len(body)
	return append(append(header, body[n:]...), body[:n]...)
}

func (i *initiator) unwrap(token []byte, sealed bool) []byte {
	i.t.Helper()
	et, err := crypto.GetEtype(i.key.KeyType)
	if err != nil {
		i.t.Fatal(err)
	}
	want := []byte{5, 4, 1 | i.flags, 0xff}
	if sealed {
		want[2] |= 2
	}
	if len(token) < 16 || !bytes.Equal(token[:4], want) || binary.BigEndian.Uint64(token[8:]) != i.in {
		i.t.Fatalf("token %x, want header %x and number %d", token, want, i.in)
	}
	i.in++
	header := append([]byte{}, token[:16]...)
	if sealed {
		plain, err := et.DecryptMessage(i.key.KeyValue, token[16:], 22)
		if err != nil {
			i.t.Fatal(err)
		}
		if !bytes.Equal(plain[len(plain)-16:], header) {
			i.t.Fatal("inner header differs")
		}
		return plain[:len(plain)-16]
	}
	size := int(binary.BigEndian.Uint16(header[4:]))
	copy(header[4:], []byte{0, 0, 0, 0})
	plain := token[16 : len(token)-size]
	sum, err := et.GetChecksumHash(i.key.KeyValue, append(append([]byte{}, plain...), header...), 22)
	if err != nil || !bytes.Equal(sum, token[len(token)-size:]) {
		i.t.Fatalf("checksum differs (%v)", err)
	}
	return plain
}

// login runs GSSAPI up to the last response, which choose makes of the offer.
func (i *initiator) login(x auth.Exchange, req []byte, mutual bool, choose func(offer []byte) []byte) (*auth.Identity, error) {
	i.t.Helper()
	ctx := context.Background()
	if challenge, id, err := x.Next(ctx, nil); err != nil || id != nil || challenge == nil || len(challenge) != 0 {
		i.t.Fatalf("first challenge %x %v %v", challenge, id, err)
	}
	challenge, id, err := x.Next(ctx, frameToken(req))
	if err != nil || id != nil {
		return id, err
	}
	if mutual {
		i.established(challenge)
		if challenge, id, err = x.Next(ctx, []byte{}); err != nil || id != nil {
			return id, err
		}
	}
	challenge, id, err = x.Next(ctx, choose(i.unwrap(challenge, false)))
	if err == nil && challenge != nil {
		return id, errors.New("challenge beside the identity")
	}
	return id, err
}

func mechanismNamed(t testing.TB, list []auth.Mechanism, name string) auth.Mechanism {
	t.Helper()
	for _, m := range list {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("no mechanism %s", name)
	return auth.Mechanism{}
}
