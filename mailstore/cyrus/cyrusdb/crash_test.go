package cyrusdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A memFile is a file in memory that dies after so many operations; the last
// write may be cut short.
type memFile struct {
	data []byte
	left int // operations until the crash; negative: never
	torn bool
}

var errCrash = errors.New("crash")

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memFile) alive() bool {
	if m.left == 0 {
		return false
	}
	m.left--
	return true
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	if !m.alive() {
		// What is appended may be torn anywhere; a rewritten head lies within
		// one disk block, which is old or new.
		if m.torn && off >= int64(len(m.data)) {
			m.data = append(m.data, p[:len(p)/2]...)
		}
		m.torn = false
		return 0, errCrash
	}
	if end := int(off) + len(p); end > len(m.data) {
		m.data = append(m.data, make([]byte, end-len(m.data))...)
	}
	return copy(m.data[off:], p), nil
}

func (m *memFile) Sync() error {
	if !m.alive() {
		return errCrash
	}
	return nil
}

func (m *memFile) Truncate(size int64) error {
	if !m.alive() {
		return errCrash
	}
	m.data = m.data[:size]
	return nil
}

// A step is one operation of a transaction.
type step struct {
	key, value string
	remove     bool
}

func transact(m *memFile, steps []step, abort bool) error {
	t, err := newTSTx(m, uint64(len(m.data)))
	if err != nil {
		return err
	}
	for _, s := range steps {
		if s.remove {
			err = t.Delete([]byte(s.key))
		} else {
			err = t.Put([]byte(s.key), []byte(s.value))
		}
		if err != nil {
			return err
		}
	}
	if abort {
		return t.abort()
	}
	return t.commit()
}

func apply(model map[string]string, steps []step) map[string]string {
	after := maps.Clone(model)
	for _, s := range steps {
		if s.remove {
			delete(after, s.key)
		} else {
			after[s.key] = s.value
		}
	}
	return after
}

func contents(m *memFile) (map[string]string, error) {
	r, err := newTSReader(m, uint64(len(m.data)))
	if err != nil {
		return nil, err
	}
	got := map[string]string{}
	last := []byte(nil)
	err = r.Range(nil, func(key, value []byte) error {
		if last != nil && bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("%q follows %q", key, last)
		}
		last = bytes.Clone(key)
		got[string(key)] = string(value)
		return nil
	})
	for key, want := range got {
		value, found, getErr := r.Get([]byte(key))
		if getErr != nil || !found || string(value) != want {
			err = errors.Join(err, fmt.Errorf("Get %q: %q, %v, %w", key, value, found, getErr))
		}
	}
	return got, err
}

// sound checks what Cyrus's own consistency check does: every level links
// just the records that are of it, in order, and the header counts them.
func sound(m *memFile) error {
	t, err := newTSTx(m, uint64(len(m.data)))
	if err != nil {
		return err
	}
	if t.header.size != uint64(len(m.data)) {
		return fmt.Errorf("%d octets, header says %d", len(m.data), t.header.size)
	}
	chain, err := t.chain()
	if err != nil {
		return err
	}
	if uint64(len(chain)-1) != t.header.records {
		return fmt.Errorf("%d records, header says %d", len(chain)-1, t.header.records)
	}
	var following [tsMaxLevel + 1]uint64
	for _, offset := range slices.Backward(chain) {
		var n tsNode
		t.resetSteps()
		if err := t.read(offset, &n); err != nil {
			return err
		}
		for level := 2; level <= n.level; level++ {
			if n.next[level] != following[level] {
				return fmt.Errorf("record at %d leads to %d on level %d, not to %d",
					offset, n.next[level], level, following[level])
			}
			following[level] = offset
		}
	}
	return nil
}

func drawSteps(t *rapid.T) []step {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			key:    rapid.StringMatching(`[a-d]{1,3}`).Draw(t, "key"),
			value:  rapid.StringN(0, 40, 700).Draw(t, "value"),
			remove: rapid.IntRange(0, 3).Draw(t, "remove") == 0,
		}
	}), 1, 6).Draw(t, "steps")
}

// TestTransactions compares sequences of transactions, some of them taken
// back, with a map.
func TestTransactions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, model := &memFile{left: -1}, map[string]string{}
		for range rapid.IntRange(1, 12).Draw(t, "transactions") {
			steps := drawSteps(t)
			abort := rapid.IntRange(0, 4).Draw(t, "abort") == 0
			if err := transact(m, steps, abort); err != nil {
				t.Fatal(err)
			}
			if !abort {
				model = apply(model, steps)
			}
			got, err := contents(m)
			if err != nil || !maps.Equal(got, model) {
				t.Fatalf("%v: %q, want %q", err, got, model)
			}
			if err := sound(m); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestEveryCrash kills a transaction at each of its operations, and the
// recovery after it at each of its own.
func TestEveryCrash(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, model := &memFile{left: -1}, map[string]string{}
		for range 4 {
			steps := drawSteps(t)
			if err := transact(m, steps, false); err != nil {
				t.Fatal(err)
			}
			model = apply(model, steps)
		}
		steps := drawSteps(t)
		after := apply(model, steps)
		for n := 0; ; n++ {
			c := &memFile{data: bytes.Clone(m.data), left: n, torn: n%2 == 0}
			err := transact(c, steps, false)
			if err == nil {
				break
			}
			if !errors.Is(err, errCrash) {
				t.Fatal(err)
			}
			survives(t, c, model, after, n)
		}
	})
}

func survives(t *rapid.T, c *memFile, before, after map[string]string, n int) {
	// A reader copes with what it finds.
	c.left = -1
	got, err := contents(c)
	if err != nil || !maps.Equal(got, before) && !maps.Equal(got, after) {
		t.Fatalf("crash at %d: read %q, %v", n, got, err)
	}
	want := got
	// So does a writer, also when the recovery crashes.
	for left := 0; ; left++ {
		again := &memFile{data: bytes.Clone(c.data), left: left}
		if _, err := newTSTx(again, uint64(len(again.data))); err == nil {
			break
		}
		again.left = -1
		if err := sound(again); err != nil {
			t.Fatalf("crash at %d, then at %d of the recovery: %v", n, left, err)
		}
		if got, err := contents(again); err != nil || !maps.Equal(got, want) {
			t.Fatalf("crash at %d, then at %d of the recovery: %q, %v; want %q", n, left, got, err, want)
		}
	}
	if err := sound(c); err != nil {
		t.Fatalf("crash at %d: %v", n, err)
	}
	if got, err := contents(c); err != nil || !maps.Equal(got, want) {
		t.Fatalf("crash at %d: recovered %q, %v; want %q", n, got, err, want)
	}
}
