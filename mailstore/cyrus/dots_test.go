package cyrus

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
)

// settled is a store that takes every file for one that was left alone, with a
// message of alice's.
func settled(t *testing.T, text string) *Store {
	t.Helper()
	s := newMailbox(t)
	s.dots.now = func() time.Time { return time.Now().Add(time.Hour) }
	appendRaw(t, s, "alice", text)
	return s
}

// dotsOf opens alice's message and gives what is known of its dots.
func dotsOf(t *testing.T, s *Store) ([]int64, bool) {
	t.Helper()
	d := open(t, s, "alice")
	defer d.Close()
	if _, err := d.Octets(); err != nil {
		t.Fatal(err)
	}
	m, err := d.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	return m.(mailstore.FileMessage).Dots()
}

// attachment is more than what is read at once.
var attachment = strings.Repeat(strings.Repeat("QmFzZTY0", 9)+"QmFz\r\n", (blockSize+dotsFrom)/78)

// TestDots: what is learnt of a message as it is measured.
func TestDots(t *testing.T) {
	t.Parallel()
	border := strings.Repeat("x", blockSize-2) + "\r\n"
	for _, test := range []struct {
		name, text string
		known      bool
		at         []int64
	}{
		{"none", attachment, true, nil},
		{"first, last and two in a row", ".\r\n" + attachment + ".x\r\n..\r\n", true, []int64{0, 3 + int64(len(attachment)), 7 + int64(len(attachment))}},
		{"dots elsewhere", "a.\r\n .\r\n\r.\r\n" + attachment, true, nil},
		{"at a block's border", border + "." + attachment, true, []int64{blockSize}},
		{"before a block's border", border[2:] + "..\r\n" + attachment, true, []int64{blockSize - 2}},
		{"behind a bare line feed", "a\n.b\n" + attachment, true, []int64{2}},
		{"as many as are kept", strings.Repeat(".", 1) + strings.Repeat("\n.", mailstore.MostDots-1) + attachment, true, every(2, mailstore.MostDots)},
		{"too many", strings.Repeat(".", 1) + strings.Repeat("\n.", mailstore.MostDots) + attachment, false, nil},
		{"last line without an end", attachment + "x", false, nil},
		{"small", attachment[:dotsFrom-1-dotsFrom%78] + "\n", false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if at, ok := dotsOf(t, settled(t, test.text)); ok != test.known || !slices.Equal(at, test.at) {
				t.Errorf("%v, %v; should be %v, %v", at, ok, test.at, test.known)
			}
		})
	}
}

func every(step int64, n int) (at []int64) {
	for i := range n {
		at = append(at, step*int64(i))
	}
	return at
}

// TestDotsOfChangedFile: whatever was done to a file, what was known of it is
// not believed, though its name, its size and the time of the last writing are
// what they were; and it can be learnt anew.
func TestDotsOfChangedFile(t *testing.T) {
	t.Parallel()
	replace := func(path, by string) error { // as restoring from a backup does
		if err := os.WriteFile(path+".new", []byte(by), 0o600); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}
	edit := func(path, by string) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte(by[:100]), 0)
		return err
	}
	dotted := ".\r\n.\r\n" + attachment[6:]
	for name, change := range map[string]func(path, by string) error{
		"replaced":            replace,
		"edited":              edit,
		"emptied and written": func(path, by string) error { return os.WriteFile(path, []byte(by), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := settled(t, attachment)
			if _, ok := dotsOf(t, s); !ok {
				t.Fatal("not learnt")
			}
			changed(t, directory(t, s, "alice")+"/1.", func(path string) error { return change(path, dotted) })
			if at, ok := dotsOf(t, s); ok {
				t.Fatalf("%v is believed", at)
			}
			d := open(t, s, "alice")
			m := must(d.Open(1)).(mailstore.FileMessage)
			defer m.Close()
			if at, ok := m.Dots(); ok {
				t.Errorf("%v is known", at)
			}
			if got := must(io.ReadAll(m)); string(got) != dotted {
				t.Fatal("the file was not changed")
			}
			m.NoteDots([]int64{0, 3})
			d.Close()
			if at, ok := dotsOf(t, s); !ok || !slices.Equal(at, []int64{0, 3}) {
				t.Errorf("learnt anew: %v, %v", at, ok)
			}
		})
	}
}

// changed changes a file until the file system's clock has moved on, and puts
// the time of its last writing back.
func changed(t *testing.T, path string, change func(path string) error) {
	t.Helper()
	before, old := stateOf(t, path), must(os.Stat(path)).ModTime()
	for deadline := time.Now().Add(time.Minute); stateOf(t, path).changed == before.changed; {
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the file system's clock stands still")
		}
	}
	if after := stateOf(t, path); after.size != before.size || !must(os.Stat(path)).ModTime().Equal(old) {
		t.Fatalf("the change shows otherwise: %+v", after)
	}
}

func stateOf(t *testing.T, path string) fileState {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return fileState{uint64(s.Dev), s.Ino, s.Size, s.Ctim} //nolint:unconvert // other widths on other machines
}

// TestDotsOfFreshFile: a file that was just changed may change again without
// another time, so nothing is learnt of it yet.
func TestDotsOfFreshFile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		since time.Duration
		known bool
	}{{-time.Hour, false}, {0, false}, {settledAfter, false}, {settledAfter + 1, true}} {
		s := newMailbox(t)
		appendRaw(t, s, "alice", attachment)
		stamp := stateOf(t, directory(t, s, "alice")+"/1.").changed
		s.dots.now = func() time.Time { return time.Unix(stamp.Unix()).Add(test.since) }
		if _, ok := dotsOf(t, s); ok != test.known {
			t.Errorf("%v after the last change: known %v", test.since, ok)
		}
	}
}

func TestDotMemoIsBounded(t *testing.T) {
	t.Parallel()
	var m dotMemo
	for i := range uint64(dotsMost + 10) {
		state := fileState{inode: i}
		(&dottedFile{memo: &m, state: state, settled: true}).NoteDots([]int64{1})
		if at, ok := m.by[state]; !ok || len(at) != 1 {
			t.Fatalf("the last of %d: %v, %v", i, at, ok)
		}
	}
	if len(m.by) > dotsMost {
		t.Errorf("%d kept", len(m.by))
	}
}
