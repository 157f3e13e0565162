package krb5

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 3962 fixes HMAC-SHA1-96 for enctypes 17 and 18
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"hash"
	"io"

	"github.com/jcmturner/gokrb5/v8/crypto/rfc3961"
	"github.com/jcmturner/gokrb5/v8/types"
)

// confounder is the length of the random block that begins every plaintext of
// the AES enctypes (RFC 3962 section 6, RFC 8009 section 5).
const confounder = aes.BlockSize

// An enctype is one row of the enctypes accepted for tickets, session keys and
// subkeys: 17 and 18 (RFC 3962), 19 and 20 (RFC 8009). Single DES, 3DES and
// RC4 are left out on purpose (RFC 6649, RFC 8429).
type enctype struct {
	id     int32
	name   string
	keyLen int // octets of the protocol key
	macLen int // octets of the truncated HMAC
	sha2   bool
	hash   func() hash.Hash
}

var enctypes = [...]enctype{
	{17, "aes128-cts-hmac-sha1-96", 16, 12, false, sha1.New},
	{18, "aes256-cts-hmac-sha1-96", 32, 12, false, sha1.New},
	{19, "aes128-cts-hmac-sha256-128", 16, 16, true, sha256.New},
	{20, "aes256-cts-hmac-sha384-192", 32, 24, true, sha512.New384},
}

func enctypeByID(id int32) *enctype {
	for i := range enctypes {
		if enctypes[i].id == id {
			return &enctypes[i]
		}
	}
	return nil
}

// EnctypeName names an enctype for people, also the ones that are refused.
func EnctypeName(id int32) string {
	if e := enctypeByID(id); e != nil {
		return e.name
	}
	switch id {
	case 1, 2, 3:
		return "single-DES"
	case 16:
		return "des3-cbc-sha1"
	case 23:
		return "arcfour-hmac"
	case 25, 26:
		return "camellia-cts-cmac"
	}
	return "unknown"
}

var errIntegrity = errors.New("decrypt integrity check failed")

// A key is a protocol key with what is derived from it. It may be used by many
// goroutines; what they derive is kept by the caller in a usageKeys.
type key struct {
	enctype *enctype
	value   []byte
}

// newKey refuses enctypes that are not accepted and keys of a wrong length.
func newKey(k types.EncryptionKey) (key, bool) {
	e := enctypeByID(k.KeyType)
	if e == nil || len(k.KeyValue) != e.keyLen {
		return key{}, false
	}
	return key{e, k.KeyValue}, true
}

// usageKeys are the keys of one key usage: Ke encrypts, Ki authenticates
// (RFC 3961 section 5.3).
type usageKeys struct {
	enctype *enctype
	ke      cipher.Block
	ki      []byte
}

// The last octet of a derivation constant (RFC 3961 section 5.3).
const (
	forChecksum   = 0x99
	forEncryption = 0xAA
	forIntegrity  = 0x55
)

func (k key) forUsage(usage uint32) usageKeys {
	block, err := aes.NewCipher(k.derive(usage, forEncryption))
	if err != nil {
		// derive gives exactly 16 or 32 octets, the lengths aes takes.
		return usageKeys{enctype: k.enctype}
	}
	return usageKeys{k.enctype, block, k.derive(usage, forIntegrity)}
}

// checksumKey is Kc for usage.
func (k key) checksumKey(usage uint32) []byte { return k.derive(usage, forChecksum) }

// derive is DK of RFC 3961 section 5.1 for AES, or KDF-HMAC-SHA2 of RFC 8009
// section 3.
func (k key) derive(usage uint32, purpose byte) []byte {
	var constant [5]byte
	binary.BigEndian.PutUint32(constant[:], usage)
	constant[4] = purpose
	if k.enctype.sha2 {
		return k.deriveSHA2(constant, purpose)
	}
	block, err := aes.NewCipher(k.value)
	if err != nil {
		return nil
	}
	out := make([]byte, 0, 32)
	in := folded(usage, purpose)
	for len(out) < k.enctype.keyLen {
		block.Encrypt(in[:], in[:])
		out = append(out, in[:]...)
	}
	return out[:k.enctype.keyLen]
}

// deriveSHA2 is one block of the counter-mode KDF: 1 | constant | 0 | length
// in bits (RFC 8009 section 3). Ki and Kc are as long as the MAC, Ke as the
// protocol key (RFC 8009 section 5).
func (k key) deriveSHA2(constant [5]byte, purpose byte) []byte {
	length := k.enctype.keyLen
	if purpose != forEncryption {
		length = k.enctype.macLen
	}
	mac := hmac.New(k.enctype.hash, k.value)
	mac.Write([]byte{0, 0, 0, 1})
	mac.Write(constant[:])
	mac.Write([]byte{0})
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(length*8))) //nolint:gosec // G115: at most 256
	return mac.Sum(nil)[:length]
}

// foldedUsages holds the 128-fold of every constant that accepting uses, since
// gokrb5's n-fold costs more than the AES that follows it
// (BenchmarkAccept).
var foldedUsages = foldConstants(usageTicket, usageAuthenticator, usageAPRep, usageAcceptorSeal, usageInitiatorSeal)

type foldKey struct {
	usage   uint32
	purpose byte
}

func foldConstants(usages ...uint32) map[foldKey][16]byte {
	m := make(map[foldKey][16]byte, 3*len(usages))
	for _, u := range usages {
		for _, p := range []byte{forChecksum, forEncryption, forIntegrity} {
			m[foldKey{u, p}] = fold(u, p)
		}
	}
	return m
}

func folded(usage uint32, purpose byte) [16]byte {
	if f, ok := foldedUsages[foldKey{usage, purpose}]; ok {
		return f
	}
	return fold(usage, purpose)
}

func fold(usage uint32, purpose byte) [16]byte {
	constant := append(binary.BigEndian.AppendUint32(nil, usage), purpose)
	return [16]byte(rfc3961.Nfold(constant, 128))
}

// overhead is by how much a ciphertext is longer than its plaintext.
func (e *enctype) overhead() int { return confounder + e.macLen }

// seal encrypts plaintext with a fresh confounder. The result has
// len(plaintext)+overhead octets.
func (u usageKeys) seal(rand io.Reader, plaintext []byte) ([]byte, error) {
	n := confounder + len(plaintext)
	buf := make([]byte, n, n+64)
	if _, err := io.ReadFull(rand, buf[:confounder]); err != nil {
		return nil, err
	}
	copy(buf[confounder:], plaintext)
	if !u.enctype.sha2 {
		mac := u.mac(nil, buf)
		encryptCTS(u.ke, buf)
		return append(buf, mac...), nil
	}
	encryptCTS(u.ke, buf)
	return append(buf, u.mac(zeroIV[:], buf)...), nil
}

// open decrypts a ciphertext and verifies it, in constant time. Its length is
// checked before any octet is touched. The plaintext shares no memory with
// ciphertext.
func (u usageKeys) open(ciphertext []byte) ([]byte, error) {
	n := len(ciphertext) - u.enctype.macLen
	if n < confounder || u.ke == nil {
		return nil, errIntegrity
	}
	got := ciphertext[n:]
	buf := make([]byte, n)
	copy(buf, ciphertext)
	if u.enctype.sha2 {
		// RFC 8009 section 5: the MAC is over the cipher state and the ciphertext.
		if !hmac.Equal(got, u.mac(zeroIV[:], buf)) {
			return nil, errIntegrity
		}
		decryptCTS(u.ke, buf)
		return buf[confounder:], nil
	}
	decryptCTS(u.ke, buf)
	if !hmac.Equal(got, u.mac(nil, buf)) {
		return nil, errIntegrity
	}
	return buf[confounder:], nil
}

var zeroIV [aes.BlockSize]byte

func (u usageKeys) mac(prefix, data []byte) []byte {
	return u.enctype.checksum(u.ki, prefix, data)
}

// checksum is the enctype's keyed checksum over the concatenation of parts.
func (e *enctype) checksum(keyed []byte, parts ...[]byte) []byte {
	mac := hmac.New(e.hash, keyed)
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)[:e.macLen]
}

// encryptCTS is AES in CBC mode with ciphertext stealing, variant CS3 with an
// initial vector of zero (RFC 3962 section 5), in place; len(b) >= 16.
func encryptCTS(block cipher.Block, b []byte) {
	n := len(b)
	last := (n-1)%aes.BlockSize + 1 // octets in the last block
	head := n - last
	cipher.NewCBCEncrypter(block, zeroIV[:]).CryptBlocks(b[:head], b[:head])
	var tail [aes.BlockSize]byte
	copy(tail[:], b[head:])
	if head == 0 {
		block.Encrypt(b, tail[:])
		return
	}
	previous := b[head-aes.BlockSize : head]
	for i := range tail {
		tail[i] ^= previous[i]
	}
	block.Encrypt(tail[:], tail[:])
	copy(b[head:], previous[:last]) // the stolen block goes last
	copy(previous, tail[:])
}

func decryptCTS(block cipher.Block, b []byte) {
	n := len(b)
	last := (n-1)%aes.BlockSize + 1
	head := n - last
	if head == 0 {
		block.Decrypt(b, b)
		return
	}
	var mixed, stolen [aes.BlockSize]byte
	final := b[head-aes.BlockSize : head]
	block.Decrypt(mixed[:], final)
	copy(stolen[:], b[head:])
	copy(stolen[last:], mixed[last:])
	for i := range last {
		b[head+i] ^= mixed[i]
	}
	copy(final, stolen[:])
	cipher.NewCBCDecrypter(block, zeroIV[:]).CryptBlocks(b[:head], b[:head])
}
