package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

var _ mailstore.Verifier = (*Store)(nil)

// Accepts implements mailstore.Verifier: whether the mailbox is there, may be
// written and has room in its quota root.
func (s *Store) Accepts(ctx context.Context, mailbox string, octets int64) error {
	name, err := s.name(mailbox)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	m, err := s.lockMailbox(ctx, name, toRead)
	if err != nil {
		return err
	}
	defer m.release()
	x, err := m.readIndex()
	if err != nil {
		return err
	}
	if x.header.Options&OptionDeleted != 0 {
		return errDeleted(name)
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
