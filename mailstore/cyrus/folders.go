package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/utf7"
)

// Folders are the mailboxes below the one that the session opened. On a spool
// that Cyrus owns they are read here, and changed by Cyrus only (Changer).
var _ mailstore.Folders = (*maildrop)(nil)

// folderName is the mailbox of a folder. It lies below the session's own
// whatever the name holds: the parts are put together here, and each is checked
// as a part.
func (d *maildrop) folderName(folder string) (imapdconf.Name, error) {
	if strings.EqualFold(folder, mailstore.Inbox) {
		return d.root, nil
	}
	refuse := func(why string) (imapdconf.Name, error) {
		return imapdconf.Name{}, fmt.Errorf("cyrus: %w: %.64q: %s", mailstore.ErrFolderName, folder, why)
	}
	name := imapdconf.Name{Domain: d.root.Domain, Parts: slices.Clone(d.root.Parts)}
	for i, level := range strings.Split(folder, "/") {
		switch {
		case i == 0 && strings.EqualFold(level, mailstore.Inbox):
			return refuse("INBOX is above all")
		case !utf8.ValidString(level) || strings.ContainsFunc(level, unicode.IsControl):
			return refuse("a control character, or not UTF-8")
		case strings.Contains(level, ".") && !d.store.conf.Names.UnixHierarchySep:
			return refuse("a dot, and unixhierarchysep is off")
		}
		name.Parts = append(name.Parts, utf7.Encode(level))
	}
	// Read back it is another one where a part could be taken for two, or a
	// dot for what stands for dots.
	again, err := imapdconf.ParseIntname(name.Intname())
	if err != nil {
		return refuse(err.Error())
	}
	if !again.Equal(name) {
		return refuse("it would be another mailbox's")
	}
	return name, nil
}

// shown is what a mailbox is called among the folders.
func (d *maildrop) shown(name imapdconf.Name) string {
	if name.Equal(d.root) {
		return mailstore.Inbox
	}
	levels := slices.Clone(name.Parts[len(d.root.Parts):])
	for i, part := range levels {
		if decoded, err := utf7.Decode(part); err == nil {
			levels[i] = decoded
		}
	}
	return strings.Join(levels, "/")
}

func (s *Store) mailboxes() cyrusdb.MailboxList {
	return cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes, Places: &s.places}
}

// belowOf lists the mailboxes below one, without placeholders.
func (s *Store) belowOf(ctx context.Context, name imapdconf.Name) ([]cyrusdb.MailboxEntry, error) {
	var list []cyrusdb.MailboxEntry
	err := s.mailboxes().Below(ctx, name, func(e cyrusdb.MailboxEntry) error {
		if ok, _ := e.Serves(s.conf.ServerName); ok {
			list = append(list, e)
		}
		return nil
	})
	return list, told(err)
}

// Folders implements mailstore.Folders. A folder that cannot be read is listed
// without messages; selecting it tells why.
func (d *maildrop) Folders(ctx context.Context) ([]mailstore.Folder, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	m, err := d.store.begin(ctx, d.root, toRead)
	if err != nil {
		return nil, err
	}
	defer m.release()
	entries, err := d.store.belowOf(ctx, d.root)
	if err != nil {
		return nil, err
	}
	var list []mailstore.Folder
	for _, e := range append([]cyrusdb.MailboxEntry{m.entry}, entries...) {
		f := mailstore.Folder{Name: d.shown(e.Name)}
		if h, err := d.store.headerOf(ctx, e); err == nil {
			f.Messages, f.Octets = int(h.Exists), int64(h.QuotaUsed)
		} else {
			d.store.log.Warn("folder cannot be read", "mailbox", e.Name.Intname(), "error", err)
		}
		list = append(list, f)
	}
	slices.SortFunc(list[1:], func(a, b mailstore.Folder) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// headerOf reads a mailbox's index header; the namespace is locked.
func (s *Store) headerOf(ctx context.Context, e cyrusdb.MailboxEntry) (IndexHeader, error) {
	m := &mailbox{store: s, purpose: toRead, entry: e, place: e.Mailbox()}
	defer m.release()
	if err := m.open(ctx); err != nil {
		return IndexHeader{}, err
	}
	x, err := m.readIndex()
	if err != nil {
		return IndexHeader{}, err
	}
	return x.header, nil
}

// Select implements mailstore.Folders.
func (d *maildrop) Select(ctx context.Context, folder string) (mailstore.Folders, error) {
	name, err := d.folderName(folder)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	s := d.store
	m, err := s.beginSession(ctx, name)
	if err != nil {
		return nil, noFolder(err)
	}
	defer m.release()
	if err := s.mayLogin(m); err != nil {
		return nil, noFolder(err)
	}
	key := m.holdKey()
	if key != d.key {
		if err := s.holds.acquire(key, name.Intname(), d.holder); err != nil {
			return nil, told(err)
		}
	}
	next, err := s.snapshot(ctx, m, d.holder, 0)
	switch {
	case err != nil && key != d.key:
		return nil, errors.Join(told(err), s.holds.give(key))
	case err != nil:
		return nil, told(err)
	}
	if key == d.key { // the hold is next's now
		d.closeDirectory()
		d.closed = true
	}
	next.key, next.root = key, d.root
	return next, nil
}

// noFolder makes an unknown mailbox an unknown folder.
func noFolder(err error) error {
	if errors.Is(err, mailstore.ErrUnknown) || errors.Is(err, cyrusdb.ErrNoMailbox) {
		return fmt.Errorf("%w: %w", mailstore.ErrNoFolder, err)
	}
	return told(err)
}

// owned refuses changes that are Cyrus's to make.
func (s *Store) owned() error {
	switch s.mode {
	case Embedded:
		return nil
	case Shared:
		return fmt.Errorf("cyrus: %w: Cyrus owns the spool", mailstore.ErrElsewhere)
	}
	return fmt.Errorf("cyrus: %w: the spool is served read-only", mailstore.ErrReadOnly)
}

// changesFolders is owned, where Cyrus cannot be asked.
func (s *Store) changesFolders() error {
	if s.changer() != nil {
		return nil
	}
	return s.owned()
}

// may applies popuseacl to what the mailbox's own user wants to do.
func (s *Store) may(e *cyrusdb.MailboxEntry, right string) error {
	if s.conf.POP.UseACL && !strings.Contains(rights(e), right) {
		return fmt.Errorf("cyrus: %w: %s: its owner lacks the right %s", mailstore.ErrReadOnly, e.Name, right)
	}
	return nil
}

// CreateFolder implements mailstore.Folders.
func (d *maildrop) CreateFolder(ctx context.Context, folder string) error {
	if err := d.store.changesFolders(); err != nil {
		return err
	}
	name, err := d.folderName(folder)
	if err != nil {
		return err
	}
	parent, ok := name.Parent()
	if !ok || name.Equal(d.root) {
		return fmt.Errorf("cyrus: %w: %s", mailstore.ErrFolderExists, name)
	}
	if c := d.store.changer(); c != nil {
		return d.createThrough(ctx, c, name)
	}
	above, err := d.store.mailboxes().Lookup(ctx, parent)
	if err == nil {
		err = d.store.may(&above, "k")
	}
	if err == nil {
		err = d.store.createMailbox(ctx, name, 0)
	}
	if errors.Is(err, cyrusdb.ErrMailboxExists) {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrFolderExists, err)
	}
	return noFolder(err)
}

// Append implements mailstore.Folders.
func (d *maildrop) Append(ctx context.Context, folder string, message io.Reader) error {
	name, err := d.target(ctx, folder)
	if err != nil {
		return err
	}
	if c := d.store.changer(); c != nil {
		return d.appendThrough(ctx, c, name, message)
	}
	_, err = d.store.appendTo(ctx, name, message, Foreign{})
	return noFolder(err)
}

// target is the mailbox of a folder that messages are added to.
func (d *maildrop) target(ctx context.Context, folder string) (imapdconf.Name, error) {
	if err := d.store.changesFolders(); err != nil {
		return imapdconf.Name{}, err
	}
	name, err := d.folderName(folder)
	if err != nil {
		return name, err
	}
	entry, err := d.store.serving(ctx, name)
	if err != nil {
		return name, err
	}
	return name, d.store.may(&entry, "i")
}

// Copy implements mailstore.Folders. Flags and the time of arrival are copied,
// keywords and annotations are not.
func (d *maildrop) Copy(ctx context.Context, ns []mailstore.Number, folder string) (err error) {
	name, err := d.target(ctx, folder)
	if err != nil {
		return err
	}
	if c := d.store.changer(); c != nil {
		return d.copyThrough(ctx, c, ns, name)
	}
	records, err := d.records(ctx, ns)
	if err != nil {
		return err
	}
	entry, err := d.store.mailboxes().Lookup(ctx, name)
	if err != nil {
		return noFolder(err)
	}
	var all []*staged
	defer func() {
		for _, t := range all {
			t.drop(d.store)
		}
	}()
	for i, n := range ns {
		t, err := d.stageCopy(entry.Mailbox(), n, &records[i])
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	m, c, err := d.store.change(ctx, name)
	if err != nil {
		return noFolder(err)
	}
	defer m.release()
	return c.appendAll(ctx, all)
}

// copiedFlags are the flags of a copy.
const copiedFlags = FlagAnswered | FlagFlagged | FlagDraft | FlagSeen

func (d *maildrop) stageCopy(place imapdconf.Mailbox, n mailstore.Number, r *Record) (*staged, error) {
	message, err := d.Open(n)
	if err != nil {
		return nil, err
	}
	defer message.Close()
	arrived := time.Unix(int64(r.InternalDate), 0)
	// Many may wait for their names: none is held in memory.
	t, err := d.store.stage(func() (imapdconf.Mailbox, error) { return place, nil }, message, arrived, 0)
	if err != nil {
		return nil, err
	}
	t.file.Close() // it is durable
	t.flags = r.Flags & copiedFlags
	return t, nil
}

// records reads the index records of messages, in their order.
func (d *maildrop) records(ctx context.Context, ns []mailstore.Number) ([]Record, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	if err := d.wake(); err != nil {
		return nil, err
	}
	m, x, err := d.reread(ctx, toRead)
	if err != nil {
		return nil, err
	}
	defer m.release()
	places := make(map[uint32]int, len(ns)) // in ns, by UID
	for i, n := range ns {
		places[d.list.uids[n-1]] = i
	}
	found := make([]Record, len(ns))
	err = d.store.scan(x, func(_ uint64, b []byte) error {
		r := x.layout.decodeRecord(b)
		i, wanted := places[r.UID]
		if wanted && r.Flags&FlagExpunged == 0 && x.layout.tag(b) == d.list.tags[ns[i]-1] {
			found[i] = r
		}
		return nil
	})
	if err != nil {
		return nil, told(err)
	}
	for i := range found {
		if found[i].UID == 0 {
			return nil, fmt.Errorf("cyrus: %w: %s, UID %d", mailstore.ErrGone, d.place.Name, d.list.uids[ns[i]-1])
		}
	}
	return found, nil
}
