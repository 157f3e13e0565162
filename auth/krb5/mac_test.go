package krb5

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // as in mac.go
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"sync"
	"testing"
)

// TestMAC: what is made here is what crypto/hmac makes, whoever used the pooled
// state before.
func TestMAC(t *testing.T) {
	t.Parallel()
	for _, f := range []func() hash.Hash{sha1.New, sha256.New, sha512.New384} {
		m := newMACMaker(f)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for size := range 200 {
					key, text := make([]byte, size%33), make([]byte, size)
					_, _ = rand.Read(key)
					_, _ = rand.Read(text)
					want := hmac.New(f, key)
					want.Write(text)
					cut := size / 3
					if got := m.mac([]byte("x"), key, text[:cut], text[cut:]); !bytes.Equal(got, want.Sum([]byte("x"))) {
						t.Errorf("key of %d, text of %d octets: %x", len(key), size, got)
					}
				}
			})
		}
		all.Wait()
	}
}
