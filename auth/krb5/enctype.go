package krb5

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1-96 is what RFC 3962 defines.
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
)

// Key usage numbers: RFC 4120 section 7.5.1 and RFC 4121 section 2.
const (
	usageTicket        = 2
	usageAuthenticator = 11
	usageAPRep         = 12
	usageAcceptorSeal  = 22
	usageAcceptorSign  = 23
	usageInitiatorSeal = 24
	usageInitiatorSign = 25
)

// The last octet of a derivation constant (RFC 3961 section 5.3).
const (
	purposeChecksum   = 0x99
	purposeEncryption = 0xAA
	purposeIntegrity  = 0x55
)

const confounderSize = aes.BlockSize

var (
	errIntegrity  = errors.New("krb5: integrity check failed")
	errCipherSize = errors.New("krb5: ciphertext shorter than confounder and checksum")
	errKeySize    = errors.New("krb5: key size does not fit the enctype")
)

// An enctype is one of the four encryption types that are accepted.
type enctype struct {
	id      int32
	name    string
	keySize int
	macSize int
	macs    *macMaker
	sha2    bool // RFC 8009: KDF-HMAC-SHA2, and the checksum covers the ciphertext
	kiSize  int  // size of a derived integrity or checksum key
}

var enctypes = [...]enctype{
	{17, "aes128-cts-hmac-sha1-96", 16, 12, newMACMaker(sha1.New), false, 16},
	{18, "aes256-cts-hmac-sha1-96", 32, 12, newMACMaker(sha1.New), false, 32},
	{19, "aes128-cts-hmac-sha256-128", 16, 16, newMACMaker(sha256.New), true, 16},
	{20, "aes256-cts-hmac-sha384-192", 32, 24, newMACMaker(sha512.New384), true, 24},
}

// enctypeOf gives the accepted enctype with that number, or nil.
func enctypeOf(id int32) *enctype {
	if id < enctypes[0].id || id > enctypes[len(enctypes)-1].id {
		return nil
	}
	return &enctypes[id-enctypes[0].id]
}

// enctypeNames are those that are accepted, for the log.
func enctypeNames() []string {
	out := make([]string, len(enctypes))
	for i := range enctypes {
		out[i] = enctypes[i].name
	}
	return out
}

// EnctypeName gives the name MIT's tools print for an encryption type.
func EnctypeName(id int32) string {
	if e := enctypeOf(id); e != nil {
		return e.name
	}
	switch id {
	case 1:
		return "des-cbc-crc"
	case 2:
		return "des-cbc-md4"
	case 3:
		return "des-cbc-md5"
	case 16:
		return "des3-cbc-sha1"
	case 23:
		return "arcfour-hmac"
	case 24:
		return "arcfour-hmac-exp"
	case 25:
		return "camellia128-cts-cmac"
	case 26:
		return "camellia256-cts-cmac"
	}
	return "etype-" + strconv.Itoa(int(id))
}

// minCipher is the least length of a ciphertext: less is refused before any
// decryption, which in other code has ended whole processes.
func (e *enctype) minCipher() int { return confounderSize + e.macSize }

// A key is a protocol key (RFC 3961 section 3): never used itself, only what
// is derived from it.
type key struct {
	et    *enctype
	value []byte
}

func newKey(id int32, value []byte) (key, error) {
	e := enctypeOf(id)
	if e == nil || len(value) != e.keySize {
		return key{}, errKeySize
	}
	return key{e, value}, nil
}

// derive gives the key for one usage and purpose.
func (k key) derive(usage uint32, purpose byte) []byte {
	if k.et.sha2 {
		size := k.et.kiSize
		if purpose == purposeEncryption {
			size = k.et.keySize
		}
		return k.kdfSHA2(usage, purpose, size)
	}
	// DR and random-to-key of RFC 3961 section 5.1: blocks of the folded
	// constant, encrypted again and again.
	block, err := aes.NewCipher(k.value)
	if err != nil {
		panic("krb5: key of a wrong size was made: " + err.Error())
	}
	in := fold(usage, purpose)
	out := make([]byte, k.et.keySize)
	for at := 0; at < len(out); at += aes.BlockSize {
		block.Encrypt(out[at:], in[:])
		copy(in[:], out[at:])
	}
	return out
}

// kdfSHA2 is KDF-HMAC-SHA2 of RFC 8009 section 3 for a length of one block.
func (k key) kdfSHA2(usage uint32, purpose byte, size int) []byte {
	var in [14]byte
	in[3] = 1
	binary.BigEndian.PutUint32(in[4:], usage)
	in[8] = purpose
	binary.BigEndian.PutUint32(in[10:], uint32(size*8)) //nolint:gosec // at most 256
	return k.et.macs.mac(make([]byte, 0, sha512.Size384), k.value, in[:])[:size]
}

// folded holds the 16-octet n-folds of the constants in use, computed once:
// they are an eighth of a login's cost when computed each time.
var folded = foldAll()

type foldedUsage struct {
	usage                           uint32
	checksum, encryption, integrity [aes.BlockSize]byte
}

func foldAll() [5]foldedUsage {
	var all [5]foldedUsage
	for i, u := range []uint32{usageTicket, usageAuthenticator, usageAPRep, usageAcceptorSeal, usageInitiatorSeal} {
		all[i] = foldedUsage{u, nfold(u, purposeChecksum), nfold(u, purposeEncryption), nfold(u, purposeIntegrity)}
	}
	return all
}

func fold(usage uint32, purpose byte) [aes.BlockSize]byte {
	for i := range folded {
		if folded[i].usage != usage {
			continue
		}
		switch purpose {
		case purposeChecksum:
			return folded[i].checksum
		case purposeEncryption:
			return folded[i].encryption
		case purposeIntegrity:
			return folded[i].integrity
		}
	}
	return nfold(usage, purpose)
}

// nfold is the 128-fold of usage | purpose (RFC 3961 section 5.1): the 5
// octets, each copy rotated right by 13 bits more than the one before, summed
// with end-around carry in pieces of 16 octets.
func nfold(usage uint32, purpose byte) (out [aes.BlockSize]byte) {
	var in [5]byte
	binary.BigEndian.PutUint32(in[:], usage)
	in[4] = purpose
	const total = len(in) * aes.BlockSize // lcm(5, 16) octets
	var long [total]byte
	for i := range long {
		turn := 13 * (i / len(in)) % (len(in) * 8)
		for bit := range 8 {
			from := (i%len(in)*8 + bit - turn + len(in)*8) % (len(in) * 8)
			if in[from/8]&(0x80>>(from%8)) != 0 {
				long[i] |= 0x80 >> bit
			}
		}
	}
	carry := 0
	for at := total - 1; at >= 0; at-- {
		sum := int(out[at%aes.BlockSize]) + int(long[at]) + carry
		out[at%aes.BlockSize] = byte(sum)
		carry = sum >> 8
	}
	for at := aes.BlockSize - 1; carry != 0; at = (at + aes.BlockSize - 1) % aes.BlockSize {
		sum := int(out[at]) + carry
		out[at] = byte(sum)
		carry = sum >> 8
	}
	return out
}

// A sealer encrypts and decrypts under one key and usage. It holds only what
// was derived and may be used by many goroutines at once.
type sealer struct {
	et    *enctype
	block cipher.Block
	ki    []byte
}

func (k key) sealer(usage uint32) *sealer {
	block, err := aes.NewCipher(k.derive(usage, purposeEncryption))
	if err != nil {
		panic("krb5: key of a wrong size was derived: " + err.Error())
	}
	return &sealer{k.et, block, k.derive(usage, purposeIntegrity)}
}

var zeroIV [aes.BlockSize]byte

// open decrypts into a new slice and gives the plaintext without confounder.
func (s *sealer) open(in []byte) ([]byte, error) {
	if len(in) < s.et.minCipher() {
		return nil, errCipherSize
	}
	body, mac := in[:len(in)-s.et.macSize], in[len(in)-s.et.macSize:]
	if s.et.sha2 { // RFC 8009 section 5: the checksum is over IV and ciphertext
		if !s.equal(mac, zeroIV[:], body) {
			return nil, errIntegrity
		}
		return decryptCTS(s.block, body)[confounderSize:], nil
	}
	plain := decryptCTS(s.block, body)
	if !s.equal(mac, plain) {
		return nil, errIntegrity
	}
	return plain[confounderSize:], nil
}

// equal compares mac with that of parts.
func (s *sealer) equal(mac []byte, parts ...[]byte) bool {
	var buf [sha512.Size384]byte
	return subtle.ConstantTimeCompare(s.et.macs.mac(buf[:0], s.ki, parts...)[:s.et.macSize], mac) == 1
}

// seal appends the encryption of plain under a fresh confounder to dst.
func (s *sealer) seal(dst, plain []byte, random io.Reader) ([]byte, error) {
	start := len(dst)
	size := confounderSize + len(plain)
	dst = append(dst, zeroIV[:]...)
	if _, err := io.ReadFull(random, dst[start:]); err != nil {
		return nil, err
	}
	dst = append(dst, plain...)
	var buf [sha512.Size384]byte
	sum := buf[:0]
	if !s.et.sha2 {
		sum = s.et.macs.mac(sum, s.ki, dst[start:])
	}
	dst = encryptCTS(s.block, dst, start)
	if s.et.sha2 {
		sum = s.et.macs.mac(sum, s.ki, zeroIV[:], dst[start:start+size])
	}
	return append(dst, sum[:s.et.macSize]...), nil
}

// encryptCTS encrypts buf[start:] in place: CBC with a zero IV and the last
// two blocks swapped (RFC 3962 section 5). At least one block is there.
func encryptCTS(block cipher.Block, buf []byte, start int) []byte {
	size := len(buf) - start
	if pad := -size & (aes.BlockSize - 1); pad != 0 {
		buf = append(buf, zeroIV[:pad]...)
	}
	b := buf[start:]
	cipher.NewCBCEncrypter(block, zeroIV[:]).CryptBlocks(b, b)
	if len(b) > aes.BlockSize {
		swapTail(b)
	}
	return buf[:start+size]
}

// decryptCTS decrypts in, of at least one block, into a new slice.
func decryptCTS(block cipher.Block, in []byte) []byte {
	pad := -len(in) & (aes.BlockSize - 1)
	out := make([]byte, len(in)+pad)
	copy(out, in)
	if len(out) > aes.BlockSize {
		if pad != 0 {
			// The octets stolen from the last but one block are found
			// at the end of the last one's decryption.
			var d [aes.BlockSize]byte
			block.Decrypt(d[:], out[len(out)-2*aes.BlockSize:])
			copy(out[len(in):], d[aes.BlockSize-pad:])
		}
		swapTail(out)
	}
	cipher.NewCBCDecrypter(block, zeroIV[:]).CryptBlocks(out, out)
	return out[:len(in)]
}

func swapTail(b []byte) {
	var t [aes.BlockSize]byte
	x, y := b[len(b)-2*aes.BlockSize:len(b)-aes.BlockSize], b[len(b)-aes.BlockSize:]
	copy(t[:], x)
	copy(x, y)
	copy(y, t[:])
}
