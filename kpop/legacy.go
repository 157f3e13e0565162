package kpop

import (
	"fmt"
	"io"
	"slices"

	"github.com/kpopd/kpopd/kpop/mimepart"
	"github.com/kpopd/kpopd/kpop/surrogate"
	"github.com/kpopd/kpopd/mailstore"
)

// A legacy is what a session whose client never sent UTF8 knows of the messages
// that it must not get as they are (RFC 6856 section 2.1). It is empty for a
// maildrop without such messages.
type legacy struct {
	asked      bool
	candidates []mailstore.Number // ascending; may have 8-bit headers
	octets     map[mailstore.Number]int64
}

// asIs in legacy.octets is a message that only looked like one.
const asIs = -1

// foreign lists the messages that may have 8-bit headers; none after UTF8.
func (t *transaction) foreign() ([]mailstore.Number, error) {
	l := &t.legacy
	if l.asked {
		return l.candidates, nil
	}
	if eb, ok := t.drop.(mailstore.EightBiter); ok && !t.utf8 {
		var err error
		if l.candidates, err = eb.EightBit(); err != nil {
			return nil, err
		}
	}
	l.asked = true
	return l.candidates, nil
}

// isForeign says whether message n has 8-bit headers and the client has not
// sent UTF8; octets are its surrogate's, as RETR sends them.
func (t *transaction) isForeign(n mailstore.Number) (octets int64, yes bool, err error) {
	candidates, err := t.foreign()
	if err != nil || len(candidates) == 0 {
		return 0, false, err
	}
	if _, found := slices.BinarySearch(candidates, n); !found {
		return 0, false, nil
	}
	octets, known := t.legacy.octets[n]
	if !known {
		if octets, err = t.measureSurrogate(n); err != nil {
			return 0, false, err
		}
		if t.legacy.octets == nil {
			t.legacy.octets = make(map[mailstore.Number]int64)
		}
		t.legacy.octets[n] = octets
	}
	return octets, octets != asIs, nil
}

func (t *transaction) measureSurrogate(n mailstore.Number) (int64, error) {
	m, err := t.drop.Open(n)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	r := surrogate.NewReader(wholly(m))
	var count mimepart.Counter
	if _, err := io.Copy(&count, r); err != nil {
		return 0, err
	}
	if !r.Changed() {
		return asIs, nil
	}
	return count.Total(), nil
}

// size is message n's octets as this client is sent them. Of a message that cannot
// be read to make its surrogate it is what the store says, as of all others that
// cannot be read: RETR and TOP will tell.
func (t *transaction) size(n mailstore.Number) (int64, error) {
	candidates, err := t.foreign()
	if err != nil {
		return 0, err
	}
	if len(candidates) > 0 && !t.port.RefuseLegacy {
		if octets, foreign, err := t.isForeign(n); err == nil && foreign {
			return octets, nil
		}
	}
	return t.drop.Size(n)
}

// octets is the sum of size over all messages.
func (t *transaction) octets() (int64, error) {
	sum, err := t.drop.Octets()
	if err != nil || t.port.RefuseLegacy {
		return sum, err
	}
	candidates, err := t.foreign()
	if err != nil {
		return 0, err
	}
	for _, n := range candidates {
		own, err := t.size(n)
		if err != nil {
			return 0, err
		}
		stored, err := t.drop.Size(n)
		if err != nil {
			return 0, err
		}
		sum += own - stored
	}
	return sum, nil
}

// sendSurrogate sends what stands for message n.
func (t *transaction) sendSurrogate(n mailstore.Number, size int64, cut *topCutter) error {
	if t.port.RefuseLegacy {
		return refLegacy
	}
	m, err := t.drop.Open(n)
	if err != nil {
		return t.refuse("open", n, err)
	}
	defer m.Close()
	t.greetMessage(size)
	d := dotWriter{c: t.conn}
	if err := t.copyText(surrogate.NewReader(wholly(m)), &d, cut); err != nil {
		return t.cutShort(n, err)
	}
	t.finish(n, &d, size)
	return nil
}

// A wholeReader reads a message up to what it said it has. One that ends before
// that has changed under us: errShort, and not an end.
type wholeReader struct {
	m    mailstore.Message
	left int64
}

func wholly(m mailstore.Message) *wholeReader { return &wholeReader{m, m.Stored()} }

// Read implements io.Reader.
func (r *wholeReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.m.Read(p[:min(r.left, int64(len(p)))])
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 { //nolint:errorlint // readers give io.EOF itself
		err = fmt.Errorf("kpop: %w by %d octets", errShort, r.left)
	}
	return n, err
}

func (t *transaction) copyText(r io.Reader, d *dotWriter, cut *topCutter) error {
	block := t.srv.pools.block.Get().(*[blockSize]byte)
	defer t.srv.pools.block.Put(block)
	for t.wrErr == nil {
		got, err := r.Read(block[:topBlock])
		part, done := block[:got], false
		if cut != nil {
			var end int
			end, done = cut.cut(part)
			part = part[:end]
		}
		d.write(part)
		switch {
		case err == io.EOF || done:
			return t.wrErr
		case err != nil:
			return err
		}
	}
	return t.wrErr
}
