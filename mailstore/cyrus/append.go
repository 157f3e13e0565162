package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

var _ mailstore.Deliverer = (*Store)(nil)

// Deliver implements mailstore.Deliverer: the message gets a Return-Path field
// (RFC 5321 section 4.4) and is appended.
func (s *Store) Deliver(ctx context.Context, mailbox string, message io.Reader, from string) error {
	if strings.ContainsAny(from, "\r\n\x00<>") {
		return fmt.Errorf("cyrus: %w: sender %q", mailstore.ErrMessage, from)
	}
	_, err := s.Append(ctx, mailbox, io.MultiReader(strings.NewReader("Return-Path: <"+from+">\r\n"), message), time.Time{})
	return err
}

// Append adds a message to a mailbox, durably, and tells its UID. The line
// ends of the message are made CRLF and an empty message is one empty line;
// nothing else is changed. A zero time of arrival is now.
func (s *Store) Append(ctx context.Context, mailbox string, message io.Reader, arrived time.Time) (uint32, error) {
	return s.appendMessage(ctx, mailbox, message, Foreign{Arrived: arrived})
}

// appendMessage adds a message under the UID that f names; 0: the next one.
func (s *Store) appendMessage(ctx context.Context, mailbox string, message io.Reader, f Foreign) (uint32, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return 0, err
	}
	return s.appendTo(ctx, name, message, f)
}

func (s *Store) appendTo(ctx context.Context, name imapdconf.Name, message io.Reader, f Foreign) (uint32, error) {
	if f.Arrived.IsZero() {
		f.Arrived = s.now()
	}
	place := func() (imapdconf.Mailbox, error) {
		entry, err := s.mailboxes().Lookup(ctx, name)
		if err == nil {
			err = s.serves(&entry)
		}
		return entry.Mailbox(), err
	}
	t, err := s.stage(place, message, f.Arrived, maxHeld)
	if err != nil {
		return 0, err
	}
	defer t.drop(s)
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	m, c, err := s.change(ctx, name)
	if err != nil {
		return 0, err
	}
	defer m.release()
	if f.UID != 0 {
		if err := c.skipTo(f.UID); err != nil {
			return 0, err
		}
	}
	t.flags = f.Flags
	return c.append(ctx, t)
}

// change locks a mailbox and reads what a change of it needs.
func (s *Store) change(ctx context.Context, name imapdconf.Name) (*mailbox, *change, error) {
	m, err := s.lockMailbox(ctx, name, toChange)
	if err != nil {
		return nil, nil, err
	}
	done := false
	defer m.releaseUnless(&done)
	c, err := s.changeOf(ctx, m)
	if err != nil {
		return nil, nil, told(err)
	}
	done = true
	return m, c, nil
}

// changeOf begins a change, after undoing one that was cut off or, where that
// cannot be done any more, with the counters put right.
func (s *Store) changeOf(ctx context.Context, m *mailbox) (*change, error) {
	if m.isTorn() && s.mode != ReadOnly {
		if err := m.undo(); err != nil {
			return nil, err
		}
	}
	x, err := m.readIndex()
	if err != nil {
		return nil, err
	}
	if x.header.Options&OptionDeleted != 0 {
		return nil, errDeleted(m.place.Name)
	}
	c, err := s.newChange(m, x)
	if err == nil && s.mode == Embedded && c.head.Name != "" && c.head.Name != m.place.Name.Intname() {
		if err := c.rename(); err != nil {
			return nil, err
		}
		return s.changeOf(ctx, m)
	}
	if err != nil || !m.isTorn() {
		return c, err
	}
	if err := c.loadAnnotations(ctx); err != nil {
		return nil, err
	}
	return c, c.heal(x.header.HighestModSeq)
}

// append gives the staged message the next UID, and tells it.
func (c *change) append(ctx context.Context, t *staged) (uint32, error) {
	if err := c.appendAll(ctx, []*staged{t}); err != nil {
		return 0, err
	}
	return uint32(c.x.header.LastUID), nil
}

// appendAll gives the staged messages the next UIDs, all or none. On disk the
// order is cache, journal, message files, records, header, and each is durable
// before the records are written: what a kill leaves are octets of the cache that
// nobody points to, and files that the journal tells of. What a loss of power
// leaves is what it leaves of Cyrus: perhaps a file that no record tells of, whole
// or not, and whose name the next message takes.
func (c *change) appendAll(ctx context.Context, all []*staged) error {
	if len(all) == 0 {
		return nil
	}
	s := c.m.store
	if c.x.header.Records == 0 {
		// Where the index is on a metapartition Cyrus makes the messages'
		// directory for the first of them only.
		if err := c.m.makeDirectories(); err != nil {
			return told(err)
		}
	}
	paths := make([]string, len(all))
	for i, t := range all {
		path, err := c.note(ctx, t)
		if err != nil {
			return told(err)
		}
		paths[i] = path
	}
	if err := c.journalNames(); err != nil {
		return errors.Join(told(err), c.dropJournal())
	}
	err := s.place(all, paths)
	if err == nil {
		err = c.syncCache()
	}
	if err == nil {
		err = c.commit(ctx)
	}
	if err != nil {
		return errors.Join(told(err), c.giveUp(paths...))
	}
	return nil
}

// note adds the staged message's cache record and index record, and tells where
// its file will lie.
func (c *change) note(ctx context.Context, t *staged) (path string, err error) {
	r, err := c.nextRecord()
	if err != nil {
		return "", err
	}
	r.Size, r.HeaderSize, r.GUID, r.Flags = uint64(t.size), uint64(t.headerSize), t.guid, t.flags
	r.InternalDate = uint64(t.arrived.Unix())
	r.SentDate, r.GMTime = uint64(t.parsed.SentDate), uint64(t.parsed.GMTime)
	if err := c.checkQuota(ctx, r.Size); err != nil {
		return "", err
	}
	path, err = c.m.store.conf.MessagePath(c.m.place, r.UID, false)
	if err != nil {
		return "", err
	}
	if err := c.addCache(t, r); err != nil {
		return "", err
	}
	return path, c.add(r)
}

// place puts staged messages in their places in one directory, durably.
func (s *Store) place(all []*staged, paths []string) error {
	for i, t := range all {
		if err := t.place(s, paths[i]); err != nil {
			return err
		}
	}
	for _, t := range all {
		if err := t.sync(s); err != nil {
			return err
		}
	}
	return s.disk.syncDir(filepath.Dir(paths[0]))
}

// giveUp removes the files of messages that could not be added. The journal
// stays when the index could not be put back, for whoever opens it next.
func (c *change) giveUp(paths ...string) (err error) {
	for _, path := range paths {
		err = errors.Join(err, c.m.store.disk.remove(path))
	}
	if err != nil || c.unrestored {
		return err
	}
	return c.dropJournal()
}

// nextRecord is a new record with the next UID and modseq.
func (c *change) nextRecord() (*Record, error) {
	h := &c.x.header
	if h.LastUID == 1<<32-1 || h.Records == 1<<32-1 {
		return nil, fault(c.x.path, int64(c.x.layout.header.lastUID.at), "there is no further UID")
	}
	h.LastUID++
	r := &Record{UID: uint32(h.LastUID), SaveDate: c.now}
	c.touch(r)
	r.CreatedModSeq = r.ModSeq
	return r, nil
}

// add puts a new record at the end of the index.
func (c *change) add(r *Record) error {
	h := &c.x.header
	c.tally.account(h, r, 1)
	c.quota[cyrusdb.QuotaStorage] += int64(r.Size)
	c.quota[cyrusdb.QuotaMessages]++
	c.added = true
	h.LastAppend = c.now
	h.Records++
	return c.alter(h.Records-1, make([]byte, c.x.layout.recordSize), r)
}

// checkQuota refuses early what commit would refuse after more work.
func (c *change) checkQuota(ctx context.Context, size uint64) error {
	if c.head.QuotaRoot == "" {
		return nil
	}
	delta := c.quota
	delta[cyrusdb.QuotaStorage] += int64(size)
	delta[cyrusdb.QuotaMessages]++
	path, err := c.m.quotaPath(c.head.QuotaRoot)
	if err != nil {
		return err
	}
	q, err := cyrusdb.ReadQuota(ctx, path)
	if err == nil && q.Over(delta) {
		return fmt.Errorf("cyrus: %w: %s", mailstore.ErrOverQuota, c.head.QuotaRoot)
	}
	return nil // what else is wrong with it is commit's to tell
}
