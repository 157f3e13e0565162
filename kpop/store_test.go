package kpop_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/memdrop"
)

// memStore is a Store in memory, with a switch for each thing a Store may be.
type memStore struct {
	mu    sync.Mutex
	boxes map[string]*memBox

	appends bool             // drops are Appenders
	files   string           // messages are FileMessages in this directory
	short   bool             // messages end one octet early
	shrinks bool             // messages are whole once, then end after their last line but one
	forget  bool             // FileMessages keep no dots
	gone    mailstore.Number // the message that another program has removed
	sizeErr error            // what Size ends in
	opening func()           // is called by Open, unless it is nil
	update  func(mailstore.Changes) error
	rests   atomic.Int64
	opened  atomic.Int64 // maildrops open now
}

type memBox struct {
	messages  []memMessage
	next      int
	held      bool
	retrieved []mailstore.Number
	openErr   error
}

type memMessage struct {
	uid       int
	text      []byte
	size      int64
	canonical bool
	dots      *[]int64 // nil: not known
}

func newStore() *memStore { return &memStore{boxes: map[string]*memBox{}, appends: true} }

// fill makes the mailbox's messages exactly those.
func (s *memStore) fill(mailbox string, messages ...string) *memStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	box := &memBox{}
	for _, m := range messages {
		box.next++
		sent := normal([]byte(m))
		box.messages = append(box.messages, memMessage{box.next, []byte(m), int64(len(sent)), string(sent) == m, nil})
	}
	s.boxes[mailbox] = box
	return s
}

// uids are the unique-ids that are left.
func (s *memStore) uids(mailbox string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := []int{}
	for _, m := range s.boxes[mailbox].messages {
		left = append(left, m.uid)
	}
	return left
}

// holder is whose session has a maildrop that is held.
var holder = mailstore.Holder{User: "alice", Remote: "192.0.2.7:40110", Session: "other", Since: time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)}

func (s *memStore) Open(_ context.Context, mailbox string, _ mailstore.Holder) (mailstore.Maildrop, error) {
	if s.opening != nil {
		s.opening()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	box := s.boxes[mailbox]
	switch {
	case box == nil:
		return nil, mailstore.ErrUnknown
	case box.openErr != nil:
		return nil, box.openErr
	case box.held:
		return nil, &mailstore.InUseError{Holder: holder}
	}
	box.held = true
	s.opened.Add(1)
	d := &memDrop{store: s, box: box, messages: slices.Clone(box.messages), opened: map[mailstore.Number]bool{}}
	for _, m := range d.messages {
		d.octets += m.size
	}
	if s.appends {
		return appendDrop{d}, nil
	}
	return d, nil
}

// normal is a message as RFC 1939 section 11 counts it.
func normal(text []byte) []byte {
	var out []byte
	for i, b := range text {
		if b == '\n' && (i == 0 || text[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		out = append(out, "\r\n"...)
	}
	return out
}

type memDrop struct {
	store    *memStore
	box      *memBox
	messages []memMessage
	octets   int64
	opened   map[mailstore.Number]bool // before
}

func (d *memDrop) Len() int               { return len(d.messages) }
func (d *memDrop) Octets() (int64, error) { return d.octets, d.store.sizeErr }
func (d *memDrop) Rest()                  { d.store.rests.Add(1) }

func (d *memDrop) Size(n mailstore.Number) (int64, error) {
	return d.messages[n-1].size, d.store.sizeErr
}

func (d *memDrop) AppendUniqueID(dst []byte, n mailstore.Number) []byte {
	return strconv.AppendInt(append(dst, "uid-"...), int64(d.messages[n-1].uid), 10)
}

func (d *memDrop) Open(n mailstore.Number) (mailstore.Message, error) {
	if n == d.store.gone {
		return nil, mailstore.ErrGone
	}
	stored := d.messages[n-1]
	m := &memText{Reader: bytes.NewReader(stored.text), size: int64(len(stored.text)), canonical: stored.canonical}
	if d.store.short {
		m.size++
	}
	if d.store.shrinks && d.opened[n] {
		m.Reader = bytes.NewReader(stored.text[:bytes.LastIndexByte(stored.text[:len(stored.text)-1], '\n')+1])
	}
	d.opened[n] = true
	if d.store.files == "" {
		return m, nil
	}
	f, err := os.Open(filepath.Join(d.store.files, strconv.Itoa(int(n))))
	if d.store.forget {
		d.messages[n-1].dots = nil
	}
	return fileText{m, f, &d.messages[n-1].dots}, err
}

func (d *memDrop) Update(_ context.Context, c mailstore.Changes) error {
	if d.store.update != nil {
		if err := d.store.update(c); err != nil {
			return err
		}
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	gone := map[int]bool{}
	for _, n := range c.Deleted {
		gone[d.messages[n-1].uid] = true
	}
	d.box.retrieved = c.Retrieved
	d.box.messages = slices.DeleteFunc(d.box.messages, func(m memMessage) bool { return gone[m.uid] })
	return nil
}

func (d *memDrop) Close() error {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	d.box.held = false
	d.store.opened.Add(-1)
	return nil
}

func (d *memDrop) EightBit() ([]mailstore.Number, error) {
	var list []mailstore.Number
	for i, m := range d.messages {
		var scan mailstore.EightBitScan
		scan.Add(m.text)
		if scan.Found {
			list = append(list, mailstore.Number(i+1))
		}
	}
	return list, nil
}

type appendDrop struct{ *memDrop }

func (d appendDrop) AppendMessage(dst []byte, n mailstore.Number, limit int64) ([]byte, bool, bool, error) {
	m := d.messages[n-1]
	if int64(len(m.text)) > limit {
		return dst, false, false, nil
	}
	return append(dst, m.text...), m.canonical, true, nil
}

type memText struct {
	*bytes.Reader
	size      int64
	canonical bool
}

func (m *memText) Stored() int64   { return m.size }
func (m *memText) Canonical() bool { return m.canonical }
func (m *memText) Close() error    { return nil }

type fileText struct {
	*memText
	file *os.File
	dots **[]int64
}

func (m fileText) Read(p []byte) (int, error) { return io.ReadFull(m.file, p) }
func (m fileText) File() *os.File             { return m.file }
func (m fileText) Close() error               { return m.file.Close() }
func (m fileText) NoteDots(at []int64)        { *m.dots = &at }

func (m fileText) Dots() ([]int64, bool) {
	if *m.dots == nil {
		return nil, false
	}
	return **m.dots, true
}

// toFiles writes the mailbox's messages into files of their own.
func (s *memStore) toFiles(t testing.TB, mailbox string) {
	t.Helper()
	s.files, s.appends = t.TempDir(), false
	for i, m := range s.boxes[mailbox].messages {
		if err := os.WriteFile(filepath.Join(s.files, strconv.Itoa(i+1)), m.text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// withFolders gives alice's messages to a store that has folders.
func (s *memStore) withFolders() *memdrop.Store {
	var store memdrop.Store
	store.Put("alice")
	for _, m := range s.boxes["alice"].messages {
		store.Put("alice", string(m.text))
	}
	return &store
}
