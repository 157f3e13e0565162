package gssbind

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth/kdc"
)

var sizes = map[int32]int{17: 16, 18: 32, 19: 16, 20: 32}

// offer makes the server's wrap token: the layers it has, rotated by rrc.
func offer(t testing.TB, key types.EncryptionKey, flags byte, text []byte, rrc int) []byte {
	t.Helper()
	etype, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		t.Fatal(err)
	}
	header := append([]byte(idWrap), flags, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7)
	mac, err := etype.GetChecksumHash(key.KeyValue, append(bytes.Clone(text), header...), keyusage.GSSAPI_ACCEPTOR_SEAL)
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint16(header[4:], uint16(len(mac)))
	binary.BigEndian.PutUint16(header[6:], uint16(rrc))
	body := append(bytes.Clone(text), mac...)
	cut := len(body) - rrc%len(body)
	return append(header, append(bytes.Clone(body[cut:]), body[:cut]...)...)
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for etype, size := range sizes {
		key := types.EncryptionKey{KeyType: etype, KeyValue: bytes.Repeat([]byte{7}, size)}
		for _, rrc := range []int{0, 1, 12, 28, 1000} {
			i := &initiator{key: key, subkey: true}
			token := offer(t, key, fromAcceptor|acceptorSubkey, []byte{7, 0, 1, 0}, rrc)
			answer, err := i.NegotiateSaslAuth(token, "u:x")
			if err != nil {
				t.Errorf("enctype %d, rrc %d: %v", etype, rrc, err)
				continue
			}
			if answer[2] != acceptorSubkey || !bytes.HasPrefix(answer[wrapHeader:], []byte("\x01\x00\x00\x00u:x")) {
				t.Errorf("enctype %d: answer %x", etype, answer)
			}
			for n := range token {
				if bad := bytes.Clone(token); n < 4 || n > 7 { // EC and RRC are not covered by the checksum
					bad[n] ^= 0x10
					if _, err := i.NegotiateSaslAuth(bad, ""); err == nil {
						t.Errorf("enctype %d, rrc %d: octet %d does not matter", etype, rrc, n)
					}
				}
			}
		}
	}
}

func TestOffersRefused(t *testing.T) {
	t.Parallel()
	key := types.EncryptionKey{KeyType: 18, KeyValue: bytes.Repeat([]byte{7}, 32)}
	for name, token := range map[string][]byte{
		"our own, reflected": offer(t, key, acceptorSubkey, []byte{1, 0, 0, 0}, 0),
		"session key":        offer(t, key, fromAcceptor, []byte{1, 0, 0, 0}, 0),
		"sealed":             offer(t, key, fromAcceptor|acceptorSubkey|2, []byte{1, 0, 0, 0}, 0),
		"no layer without":   offer(t, key, fromAcceptor|acceptorSubkey, []byte{6, 0, 0, 0}, 0),
		"five octets":        offer(t, key, fromAcceptor|acceptorSubkey, []byte{1, 0, 0, 0, 0}, 0),
		"header alone":       offer(t, key, fromAcceptor|acceptorSubkey, []byte{1, 0, 0, 0}, 0)[:16],
		"nothing":            nil,
	} {
		if _, err := (&initiator{key: key, subkey: true}).NegotiateSaslAuth(token, ""); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzToken(f *testing.F) {
	key := types.EncryptionKey{KeyType: 18, KeyValue: bytes.Repeat([]byte{7}, 32)}
	f.Add(offer(f, key, fromAcceptor|acceptorSubkey, []byte{1, 0, 0, 0}, 28))
	f.Add([]byte("\x60\x0e" + mechanism + idAPRep + "\x6f"))
	f.Add([]byte("\x60\x84\xff\xff\xff\xff"))
	good := offer(f, key, fromAcceptor|acceptorSubkey, []byte{1, 0, 0, 0}, 0)
	f.Fuzz(func(t *testing.T, token []byte) {
		if inner, err := unframe(token); err == nil && !bytes.HasSuffix(token, inner) {
			t.Fatalf("%x was unframed to %x", token, inner)
		}
		i := &initiator{key: key, subkey: true, ticket: &ticket{Grant: &kdc.Grant{Session: key}}}
		if text, err := i.unwrap(token); err == nil && !bytes.Equal(text, good[wrapHeader:wrapHeader+4]) {
			t.Fatalf("forged: %x holds %x", token, text)
		}
	})
}
