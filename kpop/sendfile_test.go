package kpop_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

// A turningStore has messages whose dots are known, none, until they are asked for
// once more: then the file has just been changed.
type turningStore struct {
	mailstore.Store
	turn func()
}

type turningDrop struct {
	mailstore.Maildrop
	turn func()
}

type turningMessage struct {
	mailstore.FileMessage
	turn  func()
	asked bool
}

func (s turningStore) Open(ctx context.Context, mailbox string, h mailstore.Holder) (mailstore.Maildrop, error) {
	d, err := s.Store.Open(ctx, mailbox, h)
	return turningDrop{d, s.turn}, err
}

func (d turningDrop) Open(n mailstore.Number) (mailstore.Message, error) {
	m, err := d.Maildrop.Open(n)
	return &turningMessage{m.(mailstore.FileMessage), d.turn, false}, err
}

func (m *turningMessage) Dots() ([]int64, bool) {
	if m.asked {
		m.turn()
	}
	first := !m.asked
	m.asked = true
	return nil, first
}

// TestMessageTurnsDotted: while a message without dots is sent its file is written
// over with lines that begin with one. What was not sent yet is stuffed.
func TestMessageTurnsDotted(t *testing.T) {
	t.Parallel()
	const size, sent = 4 << 20, 1 << 20
	clean, dotted := strings.Repeat(strings.Repeat("x", 62)+"\r\n", size/64), strings.Repeat("."+strings.Repeat("y", 61)+"\r\n", size/64)
	store := newStore().fill("alice", clean)
	store.toFiles(t, "alice")
	turn := func() {
		if err := os.WriteFile(filepath.Join(store.files, "1"), []byte(dotted), 0o600); err != nil {
			t.Error(err)
		}
	}
	c := newRig(t, newStore(), func(s *kpop.Server, _ *kpop.Port) { s.Store = turningStore{store, turn} }).login()
	c.do("RETR 1", fmt.Sprintf("+OK %d octets", size))
	if got, want := unstuff(t, c.dots()), clean[:sent]+dotted[sent:]; got != want {
		t.Errorf("%d octets differ from %d", len(got), len(want))
	}
	c.do("QUIT", "+OK Goodbye")
}
