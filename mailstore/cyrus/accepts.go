package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

var _ mailstore.Verifier = (*Store)(nil)

// Accepts implements mailstore.Verifier: whether the mailbox is there, may be
// written and has room in its quota root. Things change until the message comes, and
// Deliver asks again; so what is well at a glance needs no locks, half the system
// calls of asking. What is not may be half written, and is looked at under them.
func (s *Store) Accepts(ctx context.Context, mailbox string, octets int64) error {
	name, err := s.name(mailbox)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	m, err := s.glance(ctx, name)
	if err == nil {
		defer m.release()
		if err = s.accepts(ctx, m, octets); err == nil {
			return nil
		}
	}
	locked, err := s.lockMailbox(ctx, name, toRead)
	if err != nil {
		return err
	}
	defer locked.release()
	return s.accepts(ctx, locked, octets)
}

// glance is lockMailbox for reading, without Cyrus's locks.
func (s *Store) glance(ctx context.Context, name imapdconf.Name) (*mailbox, error) {
	entry, err := s.mailboxes().Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := s.serves(&entry); err != nil {
		return nil, err
	}
	m := &mailbox{store: s, purpose: toRead, entry: entry, place: entry.Mailbox()}
	if m.path, err = s.conf.Path(m.place, imapdconf.IndexFile); err != nil {
		return nil, err
	}
	m.index, err = ofd.Open(m.path, openFlags, 0)
	return m, err
}

func (s *Store) accepts(ctx context.Context, m *mailbox, octets int64) error {
	x, err := m.readIndex()
	if err != nil {
		return err
	}
	if x.header.Options&OptionDeleted != 0 {
		return errDeleted(m.place.Name)
	}
	if err := s.changeable(m, x); err != nil {
		return err
	}
	return s.hasRoom(ctx, m, octets)
}

// hasRoom looks at the quota root, when there is one. Its file may be missing,
// with which Cyrus goes on too.
func (s *Store) hasRoom(ctx context.Context, m *mailbox, octets int64) error {
	root, err := s.quotaRootOf(m.place.Name)
	if err != nil || root == "" {
		return told(err)
	}
	path, err := m.quotaPath(root)
	if err != nil {
		return err
	}
	q, err := cyrusdb.ReadQuota(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return told(err)
	}
	more := cyrusdb.QuotaDelta{cyrusdb.QuotaStorage: max(octets, 1), cyrusdb.QuotaMessages: 1}
	if q.Over(more) {
		return fmt.Errorf("cyrus: %w: %s", mailstore.ErrOverQuota, root)
	}
	return nil
}
