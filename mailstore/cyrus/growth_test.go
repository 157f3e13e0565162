package cyrus

import (
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore"
)

// TestGrowth: opening a maildrop allocates once an array, however many messages
// it has, and listing it nothing; while its client is silent what was read of
// the index is given back.
func TestGrowth(t *testing.T) {
	few, many := newMailbox(t), newMailbox(t)
	many.large.now = testTime // it remembers nothing
	grow(t, few, 10)
	grow(t, many, 100_000)
	opening := func(s *Store) float64 {
		return testing.AllocsPerRun(5, func() {
			d := open(t, s, "alice")
			if _, err := d.Octets(); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	if small, large := opening(few), opening(many); large > small+50 {
		t.Errorf("opening 100,000 messages makes %v allocations, opening 10 makes %v", large, small)
	}

	before := heapInUse()
	d, err := many.Open(context.Background(), "alice", mailstore.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	var line []byte
	list := func() {
		for n := mailstore.Number(1); int(n) <= d.Len(); n += 1000 {
			if _, err := d.Size(n); err != nil {
				t.Fatal(err)
			}
			line = d.AppendUniqueID(line[:0], n)
		}
	}
	list()
	if per := testing.AllocsPerRun(5, list); per > 0 {
		t.Errorf("listing makes %v allocations", per)
	}
	d.(mailstore.Rester).Rest()
	if used := heapInUse() - before; used > 24<<10 { // 12 KiB are sums, by which what is read again is known
		t.Errorf("a session at rest on 100,000 messages holds %d octets", used)
	}
	list() // it wakes up
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// heapInUse is what is left after collecting.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestAppendMessageAllocates: reading a small message leaves nothing to collect.
func TestAppendMessageAllocates(t *testing.T) {
	s := newMailbox(t)
	appendMessage(t, s, "alice", "Subject: a\r\n\r\nb\r\n")
	d := open(t, s, "alice")
	buf := make([]byte, 0, 1<<10)
	read := func() {
		if _, _, ok, err := d.AppendMessage(buf, 1, 1<<10); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	read() // opens the directory
	if per := testing.AllocsPerRun(200, read); per > 0 {
		t.Errorf("a message makes %v allocations", per)
	}
}

// When many directories are open already a message is opened by its path, and what
// a maildrop gives back is had again.
func TestOpenDirectoriesAreBounded(t *testing.T) {
	s := newMailbox(t)
	appendMessage(t, s, "alice", "Subject: a\r\n\r\nb\r\n")
	d := open(t, s, "alice")
	read := func() {
		t.Helper()
		if b, _, ok, err := d.AppendMessage(nil, 1, 1<<10); err != nil || !ok || !strings.HasPrefix(string(b), "Subject: a") {
			t.Fatal(string(b), ok, err)
		}
	}
	s.open.left.Store(0)
	read()
	if d.open != nil {
		t.Error("a directory is open beyond the budget")
	}
	s.open.left.Store(1)
	read()
	if left := s.open.left.Load(); left != 0 || d.open == nil {
		t.Errorf("%d left, open %v", left, d.open != nil)
	}
	d.Rest()
	if left := s.open.left.Load(); left != 1 {
		t.Errorf("%d left after a rest", left)
	}
	read()
}

// TestSelectAgain: who selects the folder that he has leaves nothing open.
func TestSelectAgain(t *testing.T) {
	s := newMailbox(t)
	appendMessage(t, s, "alice", "Subject: a\r\n\r\nb\r\n")
	var drop mailstore.Folders = open(t, s, "alice")
	begun := s.open.left.Load()
	for range 3 {
		if _, _, ok, err := drop.(mailstore.Appender).AppendMessage(nil, 1, 1<<10); err != nil || !ok {
			t.Fatal(ok, err)
		}
		next, err := drop.Select(context.Background(), mailstore.Inbox)
		if err != nil {
			t.Fatal(err)
		}
		if err := drop.Close(); err != nil {
			t.Fatal(err)
		}
		drop = next
	}
	if err := drop.Close(); err != nil {
		t.Fatal(err)
	}
	if left := s.open.left.Load(); left != begun {
		t.Errorf("%d directories are open", begun-left)
	}
}
