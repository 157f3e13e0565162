package krb5

import (
	"crypto/sha512"
	"hash"
	"sync"
)

// A macMaker computes HMACs (RFC 2104) of one hash function. Those of crypto/hmac
// belong to a key and take nine allocations; a login has ten keys, each
// used once (BenchmarkAccept).
type macMaker struct {
	pool sync.Pool // *macState
}

type macState struct {
	hash hash.Hash
	pad  [sha512.BlockSize]byte // the longest block of all
	sum  [sha512.Size384]byte   // the longest sum
}

func newMACMaker(f func() hash.Hash) *macMaker {
	return &macMaker{sync.Pool{New: func() any { return &macState{hash: f()} }}}
}

const (
	innerPad = 0x36
	outerPad = 0x5c
)

// mac appends the HMAC of parts, one behind the other, to dst. The key is no
// longer than the hash's block, as every key here is.
func (m *macMaker) mac(dst, key []byte, parts ...[]byte) []byte {
	s := m.pool.Get().(*macState)
	s.begin(key, innerPad)
	for _, p := range parts {
		s.hash.Write(p)
	}
	sum := s.hash.Sum(s.sum[:0])
	s.begin(key, outerPad)
	s.hash.Write(sum)
	dst = s.hash.Sum(dst)
	s.wipe()
	m.pool.Put(s)
	return dst
}

// begin hashes the key's block.
func (s *macState) begin(key []byte, fill byte) {
	pad := s.pad[:s.hash.BlockSize()]
	n := copy(pad, key)
	clear(pad[n:])
	for i := range pad {
		pad[i] ^= fill
	}
	s.hash.Reset()
	s.hash.Write(pad)
}

// wipe leaves nothing of a key behind.
func (s *macState) wipe() {
	s.hash.Reset()
	clear(s.pad[:])
	clear(s.sum[:])
}
