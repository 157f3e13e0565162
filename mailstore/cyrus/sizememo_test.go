package cyrus

import "testing"

// TestSizesKnownByHeart: what is remembered of a maildrop without odd messages
// holds for those that came before, and only for those.
func TestSizesKnownByHeart(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	total := func(want int64) {
		t.Helper()
		d := open(t, s, "alice")
		defer d.Close()
		if n, err := d.Octets(); err != nil || n != want {
			t.Errorf("%d octets, %v; want %d", n, err, want)
		}
	}
	want := int64(0)
	for range 5 {
		appendRaw(t, s, "alice", "a\r\n")
		want += 3
		total(want)
	}
	key := holdKey(must(s.lookup("alice")).UniqueID)
	if z, ok := s.plain.load(key); !ok || z.through != 5 {
		t.Errorf("%+v, %v", z, ok)
	}
	appendRaw(t, s, "alice", "a\nb\n") // each line gets its carriage return
	want += 6
	total(want)
	total(want)
	if _, ok := s.plain.load(key); ok {
		t.Error("a maildrop with an odd message is remembered")
	}
}

func TestSizeMemoIsBounded(t *testing.T) {
	t.Parallel()
	var m sizeMemo
	for key := range uint64(memoMost + 10) {
		m.store(key, &sizeFile{through: 1})
	}
	if _, ok := m.load(memoMost + 5); !ok || len(m.by) > memoMost {
		t.Errorf("%d kept, the last: %v", len(m.by), ok)
	}
}
