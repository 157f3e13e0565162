package cyrus

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"strings"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// quotaRootOf is the nearest quota root that covers the mailbox; empty: none.
func (s *Store) quotaRootOf(name imapdconf.Name) (string, error) {
	for _, root := range imapdconf.QuotaRoots(name) {
		path, err := s.conf.QuotaPath(root)
		if err != nil {
			return "", err
		}
		_, err = os.Stat(path)
		switch {
		case err == nil:
			return root.String(), nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("cyrus: %w", err)
		}
	}
	return "", nil
}

// countFolders adds to the number of a quota root's mailboxes.
func (m *mailbox) countFolders(ctx context.Context, root string, n int64) error {
	path, err := m.quotaPath(root)
	if err != nil {
		return err
	}
	if err := m.store.disk.step("quota", path); err != nil {
		return err
	}
	q, err := cyrusdb.OpenQuota(ctx, path)
	if err != nil {
		return err
	}
	defer q.Close()
	q.Add(m.place.Name.Intname(), cyrusdb.QuotaDelta{cyrusdb.QuotaFolders: n})
	return q.Commit()
}

// Limits are those of a quota root; cyrusdb.Unlimited: none.
type Limits struct {
	StorageKiB int64
	Messages   int64
}

// SetQuota sets the limits of the quota root at a mailbox, makes the root when
// there is none, and counts anew what it covers.
func (s *Store) SetQuota(ctx context.Context, mailbox string, limits Limits) error {
	name, err := s.name(mailbox)
	if err != nil {
		return err
	}
	if s.mode == ReadOnly {
		return fmt.Errorf("cyrus: %w: the spool is served read-only", mailstore.ErrReadOnly)
	}
	root := imapdconf.QuotaRoot(name)
	path, err := s.conf.QuotaPath(root)
	if err != nil {
		return told(err)
	}
	none := int64(cyrusdb.Unlimited)
	q := cyrusdb.Quota{Limit: cyrusdb.QuotaDelta{limits.StorageKiB, limits.Messages, none, none}}
	if err := cyrusdb.CreateQuota(path, &q); err != nil && !errors.Is(err, fs.ErrExist) {
		return told(err)
	}
	tx, err := cyrusdb.OpenQuota(ctx, path)
	if err != nil {
		return told(err)
	}
	tx.Limit[cyrusdb.QuotaStorage], tx.Limit[cyrusdb.QuotaMessages] = limits.StorageKiB, limits.Messages
	if err := errors.Join(tx.Commit(), tx.Close()); err != nil {
		return told(err)
	}
	return s.RecountQuota(ctx, mailbox)
}

// RecountQuota counts what the quota root at a mailbox covers and corrects its
// file, as Cyrus's "quota -f" does. The user's namespace is locked meanwhile,
// so that no mail comes between counting and writing.
func (s *Store) RecountQuota(ctx context.Context, mailbox string) error {
	name, err := s.name(mailbox)
	if err != nil {
		return err
	}
	m, err := s.begin(ctx, name, toChange)
	if err != nil {
		return err
	}
	defer m.release()
	list, err := s.below(ctx, name)
	if err != nil {
		return told(err)
	}
	root := imapdconf.QuotaRoot(name).String()
	var used cyrusdb.QuotaDelta
	for _, entry := range list {
		if nearest, err := s.quotaRootOf(entry.Name); err != nil || nearest != root {
			if err != nil {
				return told(err)
			}
			continue
		}
		if err := s.countMailbox(ctx, entry, root, &used); err != nil {
			return told(err)
		}
	}
	path, err := m.quotaPath(root)
	if err != nil {
		return err
	}
	tx, err := cyrusdb.OpenQuota(ctx, path)
	if err != nil {
		return told(err)
	}
	tx.Used = used
	tx.ModSeq++
	return told(errors.Join(tx.Commit(), tx.Close()))
}

// below lists a mailbox and those under it, without placeholders.
func (s *Store) below(ctx context.Context, name imapdconf.Name) ([]cyrusdb.MailboxEntry, error) {
	var list []cyrusdb.MailboxEntry
	top := name.Intname()
	err := cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes}.All(ctx, func(e cyrusdb.MailboxEntry) error {
		each := e.Name.Intname()
		if ok, _ := e.Serves(s.conf.ServerName); ok && (each == top || strings.HasPrefix(each, top+".")) {
			list = append(list, e.Clone())
		}
		return nil
	}, func(key string, err error) error {
		s.log.Warn("entry of mailboxes.db passed over", "key", key, "error", err)
		return nil
	})
	return list, err
}

// countMailbox adds a mailbox to used, and writes the quota root into its
// header where that has another. The namespace is locked already.
func (s *Store) countMailbox(ctx context.Context, e cyrusdb.MailboxEntry, root string, used *cyrusdb.QuotaDelta) error {
	m := &mailbox{store: s, purpose: toChange, entry: e, place: e.Mailbox()}
	defer m.release()
	if err := m.open(ctx); err != nil {
		return err
	}
	c, err := s.changeOf(ctx, m)
	if err != nil {
		return err
	}
	used[cyrusdb.QuotaStorage] += int64(c.x.header.QuotaUsed)
	used[cyrusdb.QuotaMessages] += int64(c.x.header.Exists)
	used[cyrusdb.QuotaAnnotation] += int64(c.x.header.QuotaAnnot)
	used[cyrusdb.QuotaFolders]++
	if c.head.QuotaRoot == root {
		return nil
	}
	c.head.QuotaRoot = root
	return c.rewriteHeader()
}

// rewriteHeader replaces cyrus.header and stores its CRC in the index. A kill in
// between leaves a journal, whose undoing takes the CRC of the file there is.
func (c *change) rewriteHeader() error {
	octets := c.head.Append(nil)
	c.x.header.HeaderFileCRC = uint64(crc32.ChecksumIEEE(octets))
	raw := c.x.raw
	if err := c.x.header.encode(c.x.layout, c.x.path, raw[:]); err != nil {
		return err
	}
	if err := c.forceJournal(raw[:]); err != nil {
		return err
	}
	if err := c.m.replaceMeta(imapdconf.HeaderFile, octets); err != nil {
		return err
	}
	return c.write()
}
