package cyrus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

const (
	newMinor = 17

	// annotBase is where the annotation sum begins since Cyrus 3.2.
	annotBase = 12345678

	ownerRights = "lrswipkxtecdan"
)

// CreateMailbox makes a user's INBOX or, for user+folder under popsubfolders,
// a folder of it, as Cyrus 3.6 would: Cyrus can be started on it later. What
// exists is cyrusdb.ErrMailboxExists.
func (s *Store) CreateMailbox(ctx context.Context, login string) error {
	return s.CreateMailboxWith(ctx, login, 0)
}

// CreateMailboxWith is CreateMailbox with the UIDVALIDITY of a mailbox of another
// server, for messages that are to keep their unique-ids; 0: one of its own. It
// must be greater than that of any former mailbox of the name.
func (s *Store) CreateMailboxWith(ctx context.Context, login string, uidValidity uint32) error {
	if s.mode == ReadOnly {
		return fmt.Errorf("cyrus: %w: the spool is served read-only", mailstore.ErrReadOnly)
	}
	name, err := s.name(login)
	if err != nil {
		return err
	}
	return s.createMailbox(ctx, name, uidValidity)
}

func (s *Store) createMailbox(ctx context.Context, name imapdconf.Name, uidValidity uint32) error {
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	if err := s.prepareConfigDirectory(ctx); err != nil {
		return told(err)
	}
	m := &mailbox{store: s, purpose: toReplace}
	defer m.release()
	path, err := s.conf.NamespaceLock(name)
	if err == nil && path != "" {
		err = m.lock(ctx, path, true)
	}
	if err == nil {
		m.entry, err = s.newEntry(ctx, name, uidValidity)
	}
	if err == nil {
		m.place = m.entry.Mailbox()
		path, err = s.conf.MailboxLock(m.place)
	}
	if err == nil {
		err = m.lock(ctx, path, true)
	}
	if err == nil {
		err = m.create(ctx)
	}
	if err != nil && !errors.Is(err, cyrusdb.ErrMailboxExists) {
		return told(err)
	}
	return err
}

// prepareConfigDirectory makes what Cyrus needs to find in configdirectory,
// when there is no list of mailboxes yet.
func (s *Store) prepareConfigDirectory(ctx context.Context) error {
	db := s.conf.Databases.Mailboxes
	if _, err := os.Stat(db.Path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, dir := range []string{"db", "socket", "quota", "user", "lock", "proc", "log", "msg", "sync"} {
		if err := s.disk.mkdirAll(filepath.Join(s.conf.Dir, dir), s.dirMode()); err != nil {
			return err
		}
	}
	if err := s.disk.step("create", db.Path); err != nil {
		return err
	}
	return cyrusdb.Create(ctx, db)
}

// newEntry is the mailbox's entry-to-be. Its UIDVALIDITY exceeds that of a
// former mailbox of the name (RFC 3501 section 2.3.1.1).
func (s *Store) newEntry(ctx context.Context, name imapdconf.Name, uidValidity uint32) (cyrusdb.MailboxEntry, error) {
	list := cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes}
	now := s.now().Unix()
	e := cyrusdb.MailboxEntry{
		Name: name, Kind: 'e', Partition: s.conf.Layout.DefaultPartition, UIDValidity: uint32(now),
		CreatedModSeq: 1, FolderModSeq: 1, MTime: now, UniqueID: newUniqueID(),
		ACL: []cyrusdb.Right{{Identifier: name.Userid(), Rights: ownerRights}},
	}
	if uidValidity != 0 {
		e.UIDValidity = uidValidity
	}
	if s.conf.Layout.LegacyDirs {
		e.Flags |= cyrusdb.TypeLegacyDirs
	}
	if e.Partition == "" {
		return e, fmt.Errorf("%w: there is no defaultpartition", imapdconf.ErrPartition)
	}
	switch former, err := list.Lookup(ctx, name); {
	case err == nil && uidValidity != 0 && isMailbox(s, &former):
		return e, fmt.Errorf("%w: %s", cyrusdb.ErrMailboxExists, name)
	case err == nil && uidValidity != 0 && uidValidity <= former.UIDValidity:
		return e, fmt.Errorf("%w: %s: a former mailbox had the uidvalidity %d, and %d is not greater", mailstore.ErrReadOnly, name, former.UIDValidity, uidValidity)
	case err == nil:
		e.UIDValidity = max(e.UIDValidity, former.UIDValidity+1)
	case !errors.Is(err, cyrusdb.ErrNoMailbox):
		return e, err
	}
	if parent, ok := name.Parent(); ok {
		above, err := list.Lookup(ctx, parent)
		if err != nil {
			return e, err
		}
		if ok, why := above.Serves(s.conf.ServerName); !ok {
			return e, fmt.Errorf("%w: %s: %s", cyrusdb.ErrNoMailbox, parent, why)
		}
		e.ACL, e.Partition = slices.Clone(above.ACL), above.Partition
		if uidValidity == 0 {
			err = s.outnumber(ctx, &e)
		}
		return e, err
	}
	return e, nil
}

// isMailbox reports whether an entry is more than the trace of a former mailbox.
func isMailbox(s *Store, e *cyrusdb.MailboxEntry) bool {
	ok, _ := e.Serves(s.conf.ServerName)
	return ok
}

// outnumber gives a folder a UIDVALIDITY above those of the user's others: one
// of them may have had its name in this very second.
func (s *Store) outnumber(ctx context.Context, e *cyrusdb.MailboxEntry) error {
	list := cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes}
	return list.Below(ctx, e.Name.Inbox(), func(other cyrusdb.MailboxEntry) error {
		e.UIDValidity = max(e.UIDValidity, other.UIDValidity+1)
		return nil
	})
}

// newUniqueID is 24 letters and digits, as Cyrus 3.6 of Debian makes them.
func newUniqueID() string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	var id []byte
	var random [64]byte
	for len(id) < 24 {
		rand.Read(random[:])
		for _, b := range random {
			if b < 252 && len(id) < 24 { // 7 times 36: each letter is as likely
				id = append(id, letters[b%36])
			}
		}
	}
	return string(id)
}

// create writes the files, then lists the mailbox.
func (m *mailbox) create(ctx context.Context) error {
	s := m.store
	root, err := s.quotaRootOf(m.place.Name)
	if err != nil {
		return err
	}
	if err := s.disk.step("mailboxes", s.conf.Databases.Mailboxes.Path); err != nil {
		return err
	}
	err = cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes}.Create(ctx, m.entry, func() error {
		return m.createFiles(root)
	})
	if err != nil {
		return err
	}
	if root != "" {
		if err := m.countFolders(ctx, root, 1); err != nil {
			return err
		}
	}
	return m.announce(ctx, false)
}

func (m *mailbox) createFiles(root string) error {
	if err := m.makeDirectories(); err != nil {
		return err
	}
	head := MailboxHeader{
		Type: "e", Name: m.place.Name.Intname(), UniqueID: m.place.UniqueID, QuotaRoot: root, ACL: m.entry.ACL,
	}
	if m.place.Legacy {
		head.Type = "el"
	}
	octets := head.Append(nil)
	if err := m.replaceMeta(imapdconf.HeaderFile, octets); err != nil {
		return err
	}
	index, err := newIndex(m.entry.UIDValidity, uint64(m.entry.MTime), crc32.ChecksumIEEE(octets))
	if err != nil {
		return err
	}
	return m.replaceMeta(imapdconf.IndexFile, index)
}

// makeDirectories makes what the mailbox's files lie in, where it is not there.
func (m *mailbox) makeDirectories() error {
	for _, f := range []imapdconf.File{imapdconf.MessageFile, imapdconf.HeaderFile, imapdconf.IndexFile, imapdconf.CacheFile} {
		dir, err := m.store.conf.Directory(m.place, f)
		if err != nil {
			return err
		}
		if err := m.store.disk.mkdirAll(dir, m.store.dirMode()); err != nil {
			return err
		}
	}
	return nil
}

// replaceMeta writes one of the mailbox's cyrus.* files whole.
func (m *mailbox) replaceMeta(f imapdconf.File, b []byte) error {
	path, err := m.store.conf.Path(m.place, f)
	if err != nil {
		return err
	}
	return m.store.disk.replace(path, path+".NEW", b, m.store.fileMode(), true)
}

// newIndex is the cyrus.index of a mailbox without messages.
func newIndex(uidValidity uint32, now uint64, headerCRC uint32) ([]byte, error) {
	l, _ := layoutOf(newMinor)
	h := IndexHeader{
		Minor: newMinor, Start: uint64(l.headerSize), RecordSize: uint64(l.recordSize), UIDValidity: uint64(uidValidity),
		Options: OptionNewUIDL, HighestModSeq: 1, CreatedModSeq: 1, ChangesEpoch: now,
		HeaderFileCRC: uint64(headerCRC), SyncAnnot: annotBase,
	}
	b := make([]byte, l.headerSize)
	return b, h.encode(l, "cyrus.index", b)
}
