package kpop_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
)

// A watchedStore tells of the message that was opened last where its file lies
// and whether its dots were known.
type watchedStore struct {
	mailstore.Store
	path  atomic.Value
	known atomic.Bool
}

type watchedDrop struct {
	mailstore.Maildrop
	store *watchedStore
}

func (s *watchedStore) Open(ctx context.Context, mailbox string, h mailstore.Holder) (mailstore.Maildrop, error) {
	d, err := s.Store.Open(ctx, mailbox, h)
	return watchedDrop{d, s}, err
}

func (d watchedDrop) Open(n mailstore.Number) (mailstore.Message, error) {
	m, err := d.Maildrop.Open(n)
	if f, ok := m.(mailstore.FileMessage); ok {
		_, known := f.Dots()
		d.store.known.Store(known)
		d.store.path.Store(f.File().Name())
	}
	return m, err
}

// TestRetrOfChangedFile: somebody writes lines that begin with a dot into a
// message file whose dots are known, of the same size and with the old time. The
// next RETR stuffs them, in the same session too.
func TestRetrOfChangedFile(t *testing.T) {
	t.Parallel()
	spool := owned(t)
	text := "Subject: x\r\n\r\n" + strings.Repeat(benchLine, 4000)
	if err := spool.CreateMailbox(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Append(t.Context(), "alice", strings.NewReader(text), time.Time{}); err != nil {
		t.Fatal(err)
	}
	store := &watchedStore{Store: spool}
	c := newRig(t, newStore(), func(s *kpop.Server, _ *kpop.Port) { s.Store = store }).login()
	retr := func() {
		t.Helper()
		c.do("RETR 1", fmt.Sprintf("+OK %d octets", len(text)))
		if got := unstuff(t, c.dots()); got != text {
			t.Errorf("%d octets differ from %d", len(got), len(text))
		}
	}
	retr()
	path := store.path.Load().(string)
	old, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file was left alone for a second", func() bool { return time.Since(old.ModTime()) > time.Second })
	eventually(t, "its dots are known", func() bool { retr(); return store.known.Load() })

	for _, line := range []int{0, 1, 2000, 3999} {
		at := len("Subject: x\r\n\r\n") + line*len(benchLine)
		text = text[:at] + ".\r\n..\r\n" + text[at+7:]
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, old.ModTime(), old.ModTime()); err != nil {
		t.Fatal(err)
	}
	retr()
	if store.known.Load() {
		t.Error("what was known of the file before is believed")
	}
	retr()
	c.do("QUIT", "+OK Goodbye")
}
