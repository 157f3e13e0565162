package krb5

import (
	"encoding/binary"
	"fmt"
	"io"
)

// apRep encodes an AP-REP (RFC 4120 section 5.5.2) under the session key. It
// gives back the client's time; subkey and seq are added when not zero.
func (c *Context) apRep(subkey key, seq uint32) ([]byte, error) {
	w := newBuilder(128)
	if seq != 0 {
		w.integer(3, seq)
	}
	if subkey.et != nil {
		m := w.mark()
		w.primitive(1, 0x04, subkey.value)
		w.integer(0, uint32(subkey.et.id)) //nolint:gosec // 17 to 20
		w.wrap(0x30, m)
		w.wrap(0xa2, m)
	}
	w.integer(1, c.auth.cusec)
	w.primitive(0, 0x18, c.auth.ctimeText)
	w.wrap(0x30, 0)
	w.wrap(0x60|appEncAPRepPart, 0)

	cipher, err := c.session.sealer(usageAPRep).seal(make([]byte, 0, 192), w.bytes(), c.random)
	if err != nil {
		return nil, refuseFor(idInternal, fmt.Errorf("krb5: random source: %w", err))
	}
	w = newBuilder(len(cipher) + 48)
	w.primitive(2, 0x04, cipher)
	w.integer(0, uint32(c.session.et.id)) //nolint:gosec // 17 to 20
	w.wrap(0x30, 0)
	w.wrap(0xa2, 0)
	w.integer(1, msgAPRep)
	w.integer(0, protocolVersion)
	w.wrap(0x30, 0)
	w.wrap(0x60|appAPRep, 0)
	return w.bytes(), nil
}

// APRep gives the reply of a plain Kerberos exchange, as KPOP has it: neither
// subkey nor sequence number, for no client of KPOP uses them.
func (c *Context) APRep() ([]byte, error) { return c.apRep(key{}, 0) }

// freshKey makes a key of the same enctype as like.
func freshKey(like key, random io.Reader) (key, error) {
	k := key{like.et, make([]byte, like.et.keySize)}
	if _, err := io.ReadFull(random, k.value); err != nil {
		return key{}, fmt.Errorf("krb5: random source: %w", err)
	}
	return k, nil
}

// freshSeq makes a sequence number between 1 and 2^30: some libraries treat
// larger ones as negative, and zero as absent.
func freshSeq(random io.Reader) (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return 0, fmt.Errorf("krb5: random source: %w", err)
	}
	return binary.BigEndian.Uint32(b[:])&(1<<30-1) | 1, nil
}
