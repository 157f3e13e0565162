// Package memdrop is a store in memory, for tests of what serves maildrops and
// for examples.
package memdrop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kpopd/kpopd/mailstore"
)

// A Store holds maildrops by name. Its zero value is empty and ready.
type Store struct {
	mu    sync.Mutex
	drops map[string]*drop
}

// A drop is one user's messages between sessions.
type drop struct {
	nextUID  uint32
	messages []message
	holder   *mailstore.Holder
}

type message struct {
	uid    uint32
	octets []byte // as stored
	flags  mailstore.Flags
}

var (
	_ mailstore.Store     = (*Store)(nil)
	_ mailstore.Deliverer = (*Store)(nil)
	_ mailstore.Appender  = (*maildrop)(nil)
	_ mailstore.Rester    = (*maildrop)(nil)

	_ mailstore.EightBiter = (*maildrop)(nil)
	_ mailstore.Folders    = (*maildrop)(nil)
)

// Put adds messages to a mailbox, which need not exist, octets as they are.
func (s *Store) Put(mailbox string, messages ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.drops[mailbox]
	if d == nil {
		d = &drop{nextUID: 1}
		if s.drops == nil {
			s.drops = make(map[string]*drop)
		}
		s.drops[mailbox] = d
	}
	for _, m := range messages {
		d.messages = append(d.messages, message{uid: d.nextUID, octets: []byte(m)})
		d.nextUID++
	}
}

// Messages are a mailbox's messages as they are now.
func (s *Store) Messages(mailbox string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	if d := s.drops[mailbox]; d != nil {
		for _, m := range d.messages {
			list = append(list, string(m.octets))
		}
	}
	return list
}

// Expunge removes message n as another program than a POP server would: a
// session that has listed it finds it gone.
func (s *Store) Expunge(mailbox string, n mailstore.Number) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.drops[mailbox]
	d.messages = slices.Delete(d.messages, int(n)-1, int(n))
}

// Deliver implements mailstore.Deliverer; the mailbox must exist.
func (s *Store) Deliver(_ context.Context, mailbox string, m io.Reader, from string) error {
	octets, err := io.ReadAll(m)
	if err != nil {
		return fmt.Errorf("memdrop: %w", err)
	}
	s.mu.Lock()
	_, found := s.drops[mailbox]
	s.mu.Unlock()
	if !found {
		return fmt.Errorf("memdrop: %w: %q", mailstore.ErrUnknown, mailbox)
	}
	s.Put(mailbox, "Return-Path: <"+from+">\r\n"+string(octets))
	return nil
}

// Open implements mailstore.Store.
func (s *Store) Open(_ context.Context, mailbox string, h mailstore.Holder) (mailstore.Maildrop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.drops[mailbox]
	switch {
	case d == nil || strings.ContainsRune(mailbox, 0): // a folder's key
		return nil, fmt.Errorf("memdrop: %w: %q", mailstore.ErrUnknown, mailbox)
	case d.holder != nil:
		return nil, &mailstore.InUseError{Holder: *d.holder}
	}
	return s.hold(d, mailbox, mailstore.Inbox, h), nil
}

// hold makes a session's snapshot; the store is locked.
func (s *Store) hold(d *drop, mailbox, folder string, h mailstore.Holder) *maildrop {
	d.holder = &h
	return &maildrop{store: s, drop: d, list: slices.Clone(d.messages), mailbox: mailbox, folder: folder}
}

// A maildrop is a session's snapshot.
type maildrop struct {
	store   *Store
	drop    *drop
	list    []message
	closed  bool
	mailbox string // the user's
	folder  string
}

func (d *maildrop) Len() int { return len(d.list) }

func (d *maildrop) Octets() (int64, error) {
	var sum int64
	for _, m := range d.list {
		sum += sent(m.octets)
	}
	return sum, nil
}

func (d *maildrop) Size(n mailstore.Number) (int64, error) { return sent(d.list[n-1].octets), nil }

// sent is how many octets RETR makes of a message (RFC 1939 section 11).
func sent(b []byte) int64 {
	bare := bytes.Count(b, []byte("\n")) - bytes.Count(b, []byte("\r\n"))
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return int64(len(b) + bare + 2)
	}
	return int64(len(b) + bare)
}

// uidValidity is one for all: a store in memory outlives nothing.
const uidValidity = 1

func (d *maildrop) AppendUniqueID(dst []byte, n mailstore.Number) []byte {
	dst = append(strconv.AppendInt(dst, uidValidity, 10), '.')
	return strconv.AppendUint(dst, uint64(d.list[n-1].uid), 10)
}

// alive refuses a message that somebody has expunged meanwhile.
func (d *maildrop) alive(n mailstore.Number) ([]byte, error) {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	uid := d.list[n-1].uid
	if !slices.ContainsFunc(d.drop.messages, func(m message) bool { return m.uid == uid }) {
		return nil, fmt.Errorf("memdrop: %w: UID %d", mailstore.ErrGone, uid)
	}
	return d.list[n-1].octets, nil
}

func (d *maildrop) Open(n mailstore.Number) (mailstore.Message, error) {
	b, err := d.alive(n)
	if err != nil {
		return nil, err
	}
	return &reader{bytes.NewReader(b), canonical(b)}, nil
}

func (d *maildrop) AppendMessage(dst []byte, n mailstore.Number, limit int64) ([]byte, bool, bool, error) {
	b, err := d.alive(n)
	if err != nil || int64(len(b)) > limit {
		return dst, false, false, err
	}
	return append(dst, b...), canonical(b), true, nil
}

func canonical(b []byte) bool { return sent(b) == int64(len(b)) }

// EightBit implements mailstore.EightBiter.
func (d *maildrop) EightBit() ([]mailstore.Number, error) {
	var list []mailstore.Number
	for i, m := range d.list {
		var scan mailstore.EightBitScan
		scan.Add(m.octets)
		if scan.Found {
			list = append(list, mailstore.Number(i+1))
		}
	}
	return list, nil
}

// Rest has nothing to give back.
func (d *maildrop) Rest() {}

func (d *maildrop) Update(_ context.Context, c mailstore.Changes) error {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	for _, n := range c.Deleted {
		uid := d.list[n-1].uid
		d.drop.messages = slices.DeleteFunc(d.drop.messages, func(m message) bool { return m.uid == uid })
	}
	return nil
}

func (d *maildrop) Close() error {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	if !d.closed {
		d.closed, d.drop.holder = true, nil
	}
	return nil
}

// A reader is a message.
type reader struct {
	*bytes.Reader
	canonical bool
}

func (r *reader) Stored() int64   { return r.Size() }
func (r *reader) Canonical() bool { return r.canonical }
func (r *reader) Close() error    { return nil }
