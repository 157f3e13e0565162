package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// DeleteFolder implements mailstore.Folders. First the mailbox leaves the list;
// what a kill leaves after that are files that no mailbox has.
func (d *maildrop) DeleteFolder(ctx context.Context, folder string) error {
	s := d.store
	if err := s.owned(); err != nil {
		return err
	}
	name, err := d.folderName(folder)
	if err != nil {
		return err
	}
	if name.Equal(d.root) {
		return fmt.Errorf("cyrus: %w: %s is the session's own", mailstore.ErrFolderName, name)
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	m, err := s.lockMailbox(ctx, name, toReplace)
	if err != nil {
		return noFolder(err)
	}
	defer m.release()
	key := m.holdKey()
	if err := s.holds.acquire(key, name.Intname(), d.holder); err != nil {
		return told(err)
	}
	err = m.delete(ctx)
	return errors.Join(told(err), s.holds.give(key))
}

func (m *mailbox) delete(ctx context.Context) error {
	s, name := m.store, m.place.Name
	if err := s.may(&m.entry, "x"); err != nil {
		return err
	}
	c, err := s.changeOf(ctx, m)
	if err != nil {
		return err
	}
	children, err := s.belowOf(ctx, name)
	if err != nil {
		return err
	}
	if len(children) > 0 || c.x.header.Exists > 0 {
		return fmt.Errorf("cyrus: %w: %s", mailstore.ErrFolderInUse, name)
	}
	if err := s.movable(&m.entry); err != nil {
		return err
	}
	if err := m.announce(ctx, false); err != nil {
		return err
	}
	if err := s.disk.step("mailboxes", s.conf.Databases.Mailboxes.Path); err != nil {
		return err
	}
	if err := s.mailboxes().Bury(ctx, name, s.now().Unix()); err != nil {
		return err
	}
	if root := c.head.QuotaRoot; root != "" {
		if err := m.countFolders(ctx, root, -1); err != nil {
			return err
		}
	}
	return m.unlink()
}

// unlink removes the files of a mailbox that is no longer listed.
func (m *mailbox) unlink() error {
	s := m.store
	var dirs []string
	for _, f := range []imapdconf.File{
		imapdconf.MessageFile, imapdconf.HeaderFile, imapdconf.IndexFile, imapdconf.CacheFile, imapdconf.AnnotationsFile, imapdconf.ArchiveCacheFile, imapdconf.ArchivedFile,
	} {
		dir, err := s.conf.Directory(m.place, f)
		if err != nil {
			return err
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := s.removeFiles(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeFiles removes the plain files of a directory and, when nothing else is
// in it, the directory.
func (s *Store) removeFiles(dir string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	kept := false
	for _, f := range files {
		if !f.Type().IsRegular() {
			kept = true
			continue
		}
		if err := s.disk.remove(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	if kept {
		return nil
	}
	return s.disk.remove(dir)
}

// movable refuses mailboxes that are more than an entry, files under a
// uniqueid and a name in cyrus.header.
func (s *Store) movable(e *cyrusdb.MailboxEntry) error {
	if e.Flags&cyrusdb.TypeLegacyDirs != 0 || e.UniqueID == "" {
		return fmt.Errorf("cyrus: %w: %s lies by its name (mailbox_legacy_dirs)", mailstore.ErrReadOnly, e.Name)
	}
	path, err := s.conf.QuotaPath(imapdconf.QuotaRoot(e.Name))
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cyrus: %w: %s has a quota of its own (%v)", mailstore.ErrReadOnly, e.Name, err)
	}
	return nil
}

// A renaming gives a mailbox and those below it other names.
type renaming struct {
	store   *Store
	old     []cyrusdb.MailboxEntry
	renamed []cyrusdb.MailboxEntry
	held    []uint64
	boxes   []*mailbox
}

// RenameFolder implements mailstore.Folders. The list of mailboxes changes in
// one transaction. Then each cyrus.header is given its new name; where a kill
// prevents that, the next change of the mailbox does it (changeOf).
func (d *maildrop) RenameFolder(ctx context.Context, from, to string) error {
	s := d.store
	if err := s.changesFolders(); err != nil {
		return err
	}
	old, err := d.folderName(from)
	if err != nil {
		return err
	}
	name, err := d.folderName(to)
	if err != nil {
		return err
	}
	if c := s.changer(); c != nil {
		return d.renameThrough(ctx, c, old, name)
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	m, err := s.begin(ctx, d.root, toReplace) // nobody comes to the user's mailboxes meanwhile
	if err != nil {
		return err
	}
	defer m.release()
	r := &renaming{store: s}
	defer r.release()
	if err := r.plan(ctx, d, old, name); err != nil {
		return err
	}
	if err := r.lock(ctx, d.holder); err != nil {
		return told(err)
	}
	return told(r.run(ctx))
}

// plan finds out what is renamed, and whether that can be done.
func (r *renaming) plan(ctx context.Context, d *maildrop, old, name imapdconf.Name) error {
	entries, err := d.renamable(ctx, old, name)
	if err != nil {
		return err
	}
	r.old = entries
	n := len(old.Parts)
	for i := range r.old {
		if err := r.planOne(&r.old[i], name, n); err != nil {
			return err
		}
	}
	return nil
}

// planOne makes the new entry of a mailbox whose first n parts become name.
func (r *renaming) planOne(e *cyrusdb.MailboxEntry, name imapdconf.Name, n int) error {
	s := r.store
	if err := s.movable(e); err != nil {
		return err
	}
	next := e.Clone()
	next.Name = imapdconf.Name{Domain: name.Domain, Parts: slices.Concat(name.Parts, e.Name.Parts[n:])}
	if _, err := imapdconf.ParseIntname(next.Name.Intname()); err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrFolderName, err)
	}
	before, err := s.quotaRootOf(e.Name)
	if err != nil {
		return err
	}
	after, err := s.quotaRootOf(next.Name)
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("cyrus: %w: the quota root of %s would change from %q to %q", mailstore.ErrReadOnly, e.Name, before, after)
	}
	next.MTime = s.now().Unix()
	r.renamed = append(r.renamed, next)
	return nil
}

// serving looks a folder up.
func (s *Store) serving(ctx context.Context, name imapdconf.Name) (cyrusdb.MailboxEntry, error) {
	e, err := s.mailboxes().Lookup(ctx, name)
	if err != nil {
		return e, noFolder(err)
	}
	if ok, why := e.Serves(s.conf.ServerName); !ok {
		return e, fmt.Errorf("cyrus: %w: %s: %s", mailstore.ErrNoFolder, name, why)
	}
	return e, nil
}

// lock takes the mailboxes from sessions and from all who write.
func (r *renaming) lock(ctx context.Context, h *mailstore.Holder) error {
	for _, e := range r.old {
		m := &mailbox{store: r.store, purpose: toReplace, entry: e, place: e.Mailbox()}
		key := m.holdKey()
		if err := r.store.holds.acquire(key, e.Name.Intname(), h); err != nil {
			return err
		}
		r.held = append(r.held, key)
		r.boxes = append(r.boxes, m)
		if err := m.open(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *renaming) run(ctx context.Context) error {
	s := r.store
	for i, m := range r.boxes {
		if err := m.announce(ctx, false); err != nil {
			return err
		}
		renamed := *m
		renamed.place.Name = r.renamed[i].Name
		if err := renamed.announce(ctx, false); err != nil {
			return err
		}
	}
	if err := s.disk.step("mailboxes", s.conf.Databases.Mailboxes.Path); err != nil {
		return err
	}
	if err := s.mailboxes().Rename(ctx, r.old, r.renamed); err != nil {
		return err
	}
	for i, m := range r.boxes {
		m.entry, m.place = r.renamed[i], r.renamed[i].Mailbox()
		if _, err := s.changeOf(ctx, m); err != nil {
			s.log.Warn("cyrus.header keeps a former name", "mailbox", m.place.Name.Intname(), "error", err)
		}
	}
	return nil
}

func (r *renaming) release() {
	for _, m := range r.boxes {
		m.release()
	}
	for _, key := range r.held {
		if err := r.store.holds.give(key); err != nil {
			r.store.log.Warn("hold not given back", "error", err)
		}
	}
}

// rename writes the mailbox's name into cyrus.header, where it has another.
func (c *change) rename() error {
	c.head.Name = c.m.place.Name.Intname()
	return c.rewriteHeader()
}
