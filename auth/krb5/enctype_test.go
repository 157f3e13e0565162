package krb5

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"testing"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/crypto/common"
	"github.com/jcmturner/gokrb5/v8/crypto/rfc3961"
)

func randomBytes(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAgainstGokrb5 compares key derivation, encryption and checksums with
// gokrb5's, for random keys and texts of all lengths around the block size.
func TestAgainstGokrb5(t *testing.T) {
	t.Parallel()
	for i := range enctypes {
		e := &enctypes[i]
		other, err := crypto.GetEtype(e.id)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			k := key{e, randomBytes(t, e.keySize)}
			plain := randomBytes(t, n)
			usage := []uint32{2, 11, 12, 22, 24, 1024}[n%6]
			_, cipher, err := other.EncryptMessage(k.value, plain, usage)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.sealer(usage).open(cipher); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s: %d octets from gokrb5: %v", e.name, n, err)
			}
			ours, err := k.sealer(usage).seal([]byte("prefix"), plain, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := other.DecryptMessage(k.value, ours[6:], usage); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s: %d octets to gokrb5: %v", e.name, n, err)
			}
			want, err := other.GetChecksumHash(k.value, plain, usage)
			if err != nil {
				t.Fatal(err)
			}
			d := direction{key: k, usage: usage}
			if got := d.checksum(plain, nil, nil); !bytes.Equal(got, want) {
				t.Fatalf("%s: checksum %x, want %x", e.name, got, want)
			}
			cipher[int(cipher[0])%len(cipher)] ^= 0x10
			if _, err := k.sealer(usage).open(cipher); err == nil {
				t.Fatalf("%s: a changed octet went through", e.name)
			}
		}
	}
}

func TestNfold(t *testing.T) {
	t.Parallel()
	for usage := uint32(0); usage < 1<<31; usage = usage*3 + 1 {
		for _, purpose := range []byte{purposeChecksum, purposeEncryption, purposeIntegrity} {
			in := append(binary.BigEndian.AppendUint32(nil, usage), purpose)
			if got, want := nfold(usage, purpose), rfc3961.Nfold(in, 128); !bytes.Equal(got[:], want) {
				t.Fatalf("usage %d: %x, want %x", usage, got, want)
			}
			if !bytes.Equal(in, map[byte][]byte{
				purposeChecksum: common.GetUsageKc(usage), purposeEncryption: common.GetUsageKe(usage), purposeIntegrity: common.GetUsageKi(usage),
			}[purpose]) {
				t.Fatalf("constant of usage %d", usage)
			}
		}
	}
}

func TestOpenShort(t *testing.T) {
	t.Parallel()
	for i := range enctypes {
		e := &enctypes[i]
		s := key{e, make([]byte, e.keySize)}.sealer(usageTicket)
		for n := range 65 {
			if _, err := s.open(make([]byte, n)); err == nil {
				t.Fatalf("%s: %d octets", e.name, n)
			}
		}
	}
}
