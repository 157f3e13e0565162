package cyrus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

var errKilled = errors.New("killed")

// A breaker fails a disk at one step.
type breaker struct {
	steps []string // that were asked for, failed ones too
	at    int      // the step that fails, from 0; negative: none
	err   error
	whole bool // nothing works after it, as when the process was killed
	torn  bool // half of the write is stored
}

func (b *breaker) before(step, path string, size int) (int, error) {
	i := len(b.steps)
	b.steps = append(b.steps, step+" "+filepath.Base(path))
	if b.at < 0 || i != b.at && (i < b.at || !b.whole) {
		return 0, nil
	}
	// A header is written in one piece: it lies within one page.
	if b.torn && i == b.at && size > maxHeaderSize {
		return size / 2, b.err
	}
	return 0, b.err
}

// An action is something that a crash must not harm.
type action struct {
	name    string
	prepare func(t *testing.T, s *Store)
	do      func(s *Store) error
	after   []string
	again   bool // it may be done twice
}

func texts(t *testing.T, s *Store) []string {
	t.Helper()
	d := open(t, s, "alice")
	defer d.Close()
	var all []string
	for n := range mailstore.Number(d.Len()) {
		b, _, ok, err := d.AppendMessage(nil, n+1, 1<<20)
		if err != nil || !ok {
			t.Errorf("message %d: %v", n+1, err)
			continue
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(string(b), "Subject: "), "\r")
		all = append(all, text)
	}
	return all
}

func sixMessages(t *testing.T, s *Store) {
	for _, word := range []string{"one", "two", "three", "four", "five", "six"} {
		appendMessage(t, s, "alice", "Subject: "+word+"\r\n\r\nx\r\n")
	}
}

// large is a message that is not held in memory.
func large(subject string) string {
	return "Subject: " + subject + "\r\n\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", maxHeld/80+1)
}

func actions() []action {
	ctx := context.Background()
	return []action{
		{"update", sixMessages, func(s *Store) error {
			d, err := s.Open(ctx, "alice", mailstore.Holder{})
			if err != nil {
				return err
			}
			defer d.Close()
			return d.Update(ctx, mailstore.Changes{Deleted: []mailstore.Number{1, 2, 5}})
		}, []string{"three", "four", "six"}, false},
		{"append", sixMessages, func(s *Store) error {
			_, err := s.Append(ctx, "alice", strings.NewReader("Subject: seven\n\nx\n"), time.Time{})
			return err
		}, []string{"one", "two", "three", "four", "five", "six", "seven"}, false},
		{"append a large one", sixMessages, func(s *Store) error {
			_, err := s.Append(ctx, "alice", strings.NewReader(large("seven")), time.Time{})
			return err
		}, []string{"one", "two", "three", "four", "five", "six", "seven"}, false},
		{"import", sixMessages, func(s *Store) error {
			return s.AppendForeign(ctx, "alice", strings.NewReader("Subject: seven\n\nx\n"), Foreign{UID: 2_000_000_000, Arrived: testTime()})
		}, []string{"one", "two", "three", "four", "five", "six", "seven"}, false},
		{"expire", func(t *testing.T, s *Store) {
			sixMessages(t, s)
			expunge(t, s, "alice", 2, 4)
		}, func(s *Store) error {
			_, err := s.Expire(ctx, "alice", 0)
			return err
		}, []string{"one", "three", "five", "six"}, true},
		{"undelete", func(t *testing.T, s *Store) {
			sixMessages(t, s)
			expunge(t, s, "alice", 2)
		}, func(s *Store) error {
			_, err := s.Undelete(ctx, "alice", time.Time{})
			return err
		}, []string{"one", "three", "four", "five", "six", "two"}, false},
		{"copy", sixMessages, func(s *Store) error {
			d, err := s.Open(ctx, "alice", mailstore.Holder{})
			if err != nil {
				return err
			}
			defer d.Close()
			return d.(mailstore.Folders).Copy(ctx, []mailstore.Number{1, 5, 3}, mailstore.Inbox)
		}, []string{"one", "two", "three", "four", "five", "six", "one", "five", "three"}, false},
		{"flags", sixMessages, func(s *Store) error {
			d, err := s.Open(ctx, "alice", mailstore.Holder{})
			if err != nil {
				return err
			}
			defer d.Close()
			_, err = d.(mailstore.Folders).SetFlags(ctx, 3, mailstore.FlagFlagged, 0)
			return err
		}, []string{"one", "two", "three", "four", "five", "six"}, true},
		{"set quota", sixMessages, func(s *Store) error {
			return s.SetQuota(ctx, "alice", Limits{StorageKiB: 1000, Messages: 100})
		}, []string{"one", "two", "three", "four", "five", "six"}, true},
	}
}

// TestBreak stops every action at every step, by a kill or by an error of the
// disk, whole writes and torn ones. Afterwards the mailbox opens, holds the
// messages of before or of after and no others, and has no fault.
func TestBreak(t *testing.T) {
	t.Parallel()
	for _, a := range actions() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			breakAction(t, newConfig(t), a, everyBreak, func(string) {})
		})
	}
}

// everyBreak are the ways in which a disk breaks.
var everyBreak = []breaker{
	{err: errKilled, whole: true}, {err: errKilled, whole: true, torn: true},
	{err: syscall.EIO, torn: true}, {err: syscall.ENOSPC},
}

// breakAction breaks an action at its every step, in the given ways; inspect
// looks at what is left each time, besides us.
func breakAction(t *testing.T, c *imapdconf.Config, a action, ways []breaker, inspect func(name string)) {
	t.Helper()
	c.StatusCache, c.SyncLog.Enabled = true, true
	s := newStore(t, c)
	if err := s.CreateMailbox(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	a.prepare(t, s)
	if a.name != "set quota" {
		if err := s.SetQuota(context.Background(), "alice", Limits{StorageKiB: 900, Messages: 50}); err != nil {
			t.Fatal(err)
		}
	}
	before := texts(t, s)
	root := filepath.Dir(c.Dir)
	saved := filepath.Join(t.TempDir(), "saved")
	copyTree(t, root, saved)

	plain := &breaker{at: -1}
	s.disk.before = plain.before
	if err := a.do(s); err != nil {
		t.Fatal(err)
	}
	s.disk.before = nil
	if got := texts(t, s); !slices.Equal(got, a.after) {
		t.Fatalf("unbroken: %q", got)
	}
	for at, step := range plain.steps {
		for _, b := range ways {
			if b.torn && b.whole && !strings.HasPrefix(step, "write") {
				continue // only a write is torn
			}
			b.at = at
			restoreTree(t, saved, root)
			name := fmt.Sprintf("step %d, %s: %v, whole %v, torn %v", at, step, b.err, b.whole, b.torn)
			broken(t, c, a, &b, name, before, inspect)
		}
	}
}

// broken runs one action on a disk that breaks, and looks at what is left.
func broken(t *testing.T, c *imapdconf.Config, a action, b *breaker, name string, before []string, inspect func(name string)) {
	t.Helper()
	s, err := Open(Options{Config: c, Mode: Embedded, Now: testTime, Location: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	s.disk.before = b.before
	doneErr := a.do(s)
	s.Close() // a kill gives the locks back too

	s = newStore(t, c)
	defer s.Close()
	got := texts(t, s)
	if doneErr == nil && !slices.Equal(got, a.after) {
		t.Errorf("%s: said to be done: %q", name, got)
	}
	if !slices.Equal(got, before) && !slices.Equal(got, a.after) {
		t.Errorf("%s (%v): half done: %q", name, doneErr, got)
	}
	inspect(name)
	// What is left over must not be in the way of going on.
	if a.again || !slices.Equal(got, a.after) {
		if err := a.do(s); err != nil {
			t.Errorf("%s: again: %v", name, err)
		}
	}
	if got := texts(t, s); !slices.Equal(got, a.after) {
		t.Errorf("%s: again: %q", name, got)
	}
	faults, err := s.Check(context.Background(), "alice")
	if err != nil {
		t.Errorf("%s: check: %v", name, err)
	}
	for _, f := range faults {
		t.Errorf("%s: %v", name, &f)
	}
}

// TestDurableBeforeRecords: when the first octet of an index is written, all that
// its records tell of is on disk: message files, their names, and the cache.
func TestDurableBeforeRecords(t *testing.T) {
	t.Parallel()
	for _, a := range actions() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			s := newMailbox(t)
			a.prepare(t, s)
			pending := map[string]string{} // what was done to a file or directory since its fsync
			s.disk.before = func(step, path string, _ int) (int, error) {
				inMailbox := !strings.HasPrefix(path, s.stateDir)
				switch step {
				case "fsync":
					delete(pending, path)
				case "create", "rename", "link":
					if inMailbox && !strings.Contains(path, ".NEW") && !strings.Contains(path, "/stage./") {
						pending[filepath.Dir(path)] = step + " " + path
					}
				case "write":
					if filepath.Base(path) == "cyrus.index" && len(pending) > 0 {
						t.Errorf("%s is written before %v is durable", path, pending)
					}
					if inMailbox && filepath.Base(path) != "cyrus.index" {
						pending[path] = step
					}
				}
				return 0, nil
			}
			if err := a.do(s); err != nil {
				t.Fatal(err)
			}
			s.disk.before = nil
			clean(t, s, "alice")
		})
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// restoreTree makes a directory what it was.
func restoreTree(t *testing.T, saved, root string) {
	t.Helper()
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	copyTree(t, saved, root)
}

// TestHeal is the same without a journal, as after a loss of power: records
// were written and the header was not.
func TestHeal(t *testing.T) {
	t.Parallel()
	for _, journal := range []string{"gone", "empty", "foreign"} {
		t.Run(journal, func(t *testing.T) {
			t.Parallel()
			s := newMailbox(t)
			sixMessages(t, s)
			path := must(s.conf.Path(must(s.lookup("alice")), imapdconf.IndexFile))
			before := contents(t, path)
			expunge(t, s, "alice", 1, 2, 5)
			after := contents(t, path)
			copy(after, before[:160]) // the former header
			write(t, path, after)
			m, err := s.lockMailbox(context.Background(), must(s.name("alice")), toRead)
			if err != nil {
				t.Fatal(err)
			}
			file := m.journalPath()
			m.release()
			switch journal {
			case "empty":
				write(t, file, nil)
			case "foreign":
				j := foreignJournal(before)
				write(t, file, j)
			}
			if got := texts(t, s); !slices.Equal(got, []string{"three", "four", "six"}) {
				t.Errorf("%q", got)
			}
			expunge(t, s, "alice", 2)
			if got := texts(t, s); !slices.Equal(got, []string{"three", "six"}) {
				t.Errorf("%q", got)
			}
			clean(t, s, "alice")
		})
	}
}

// foreignJournal is of a change to another header than the file's.
func foreignJournal(index []byte) []byte {
	header := slices.Clone(index[:160])
	header[40] ^= 1
	j := journal{before: header, after: header, width: 112}
	return j.encode()
}

// TestBreakBehindAnother: after a kill at every step of what adds messages another
// program changes the mailbox, which knows nothing of journals, as Cyrus does. Then
// there are the messages of before or of after, and each counts once.
func TestBreakBehindAnother(t *testing.T) {
	t.Parallel()
	for _, a := range actions() {
		if !slices.Contains([]string{"append", "append a large one", "import", "copy"}, a.name) {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			c := newConfig(t)
			s := newStore(t, c)
			if err := s.CreateMailbox(context.Background(), "alice"); err != nil {
				t.Fatal(err)
			}
			a.prepare(t, s)
			if err := s.SetQuota(context.Background(), "alice", Limits{StorageKiB: 900, Messages: 50}); err != nil {
				t.Fatal(err)
			}
			before := texts(t, s)
			root, saved := filepath.Dir(c.Dir), filepath.Join(t.TempDir(), "saved")
			copyTree(t, root, saved)
			for at, done := 0, false; !done; at++ {
				restoreTree(t, saved, root)
				done = killed(t, c, a, at)
				flagFirst(t, c)
				s := newStore(t, c)
				if got := texts(t, s); !slices.Equal(got, before) && !slices.Equal(got, a.after) {
					t.Errorf("step %d: half done: %q", at, got)
				}
				clean(t, s, "alice")
				s.Close()
			}
		})
	}
}

// killed kills an action at a step, or does it all when that has fewer.
func killed(t *testing.T, c *imapdconf.Config, a action, at int) (done bool) {
	t.Helper()
	s, err := Open(Options{Config: c, Mode: Embedded, Now: testTime, Location: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // a kill gives the locks back too
	b := &breaker{at: at, err: errKilled, whole: true}
	s.disk.before = b.before
	_ = a.do(s) // nobody is told
	return len(b.steps) <= at
}

// flagFirst sets a flag of the first message, as a program with no journals here.
func flagFirst(t *testing.T, c *imapdconf.Config) {
	t.Helper()
	s, err := Open(Options{Config: c, Mode: Embedded, Now: testTime, StateDir: filepath.Join(t.TempDir(), "state")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := open(t, s, "alice")
	defer d.Close()
	if _, err := d.SetFlags(context.Background(), 1, mailstore.FlagFlagged, 0); err != nil {
		t.Error(err)
	}
}

// TestJournalOfAnotherVersion: a change was cut off, and reconstruct has given the
// index another version since. Where records were they are not any more.
func TestJournalOfAnotherVersion(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	l, _ := layoutOf(13)
	h := IndexHeader{Minor: 13, Start: uint64(l.headerSize), RecordSize: uint64(l.recordSize), Records: 6, LastUID: 6, UIDValidity: 1}
	former := make([]byte, l.headerSize)
	if err := h.encode(l, "", former); err != nil {
		t.Fatal(err)
	}
	j := journal{
		before: former, after: append(slices.Clone(former[:127]), former[127]^1), width: l.recordSize,
		numbers: []uint64{0, 1}, records: make([]byte, 2*l.recordSize),
	}
	write(t, s.sizePath(holdKey(must(s.lookup("alice")).UniqueID))+".journal", j.encode())
	index := must(s.conf.Path(must(s.lookup("alice")), imapdconf.IndexFile))
	before := contents(t, index)
	d := open(t, s, "alice")
	if !slices.Equal(contents(t, index), before) {
		t.Error("the index was written")
	}
	d.Close()
	expunge(t, s, "alice", 1)
	if got := texts(t, s); !slices.Equal(got, []string{"two", "three", "four", "five", "six"}) {
		t.Errorf("%q", got)
	}
	clean(t, s, "alice")
}
