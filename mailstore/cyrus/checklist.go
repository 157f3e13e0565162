package cyrus

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// CheckList examines what is between mailboxes: the list of them, whose two
// records of each must tell the same (Cyrus 3.6), and the partitions, whose
// directories must be in it. Mailboxes themselves are Check's.
func (s *Store) CheckList(ctx context.Context) ([]FaultError, error) {
	l := newListChecker(s)
	err := cyrusdb.View(ctx, s.conf.Databases.Mailboxes, l.records)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil // nobody has a mailbox yet
	case errors.Is(err, cyrusdb.ErrCorrupt), errors.Is(err, cyrusdb.ErrFormat):
		return []FaultError{*fault(l.path, -1, "%v", err)}, nil
	case err != nil:
		return nil, told(err)
	}
	return l.faults, told(l.directories(ctx))
}

// A listChecker collects the faults.
type listChecker struct {
	store  *Store
	path   string
	byID   map[string]imapdconf.Name // from the records by name
	known  map[string]bool           // uniqueids of any record
	faults []FaultError
}

func newListChecker(s *Store) *listChecker {
	return &listChecker{store: s, path: s.conf.Databases.Mailboxes.Path, byID: map[string]imapdconf.Name{}, known: map[string]bool{}}
}

func (l *listChecker) faulty(path, format string, args ...any) {
	l.faults = append(l.faults, *fault(path, -1, format, args...))
}

// records walks the records by name, then those by uniqueid. A list of Cyrus 3.4
// and before has one record for each mailbox, under its name alone.
func (l *listChecker) records(r cyrusdb.Reader) error {
	modern := false
	err := r.Range([]byte("N"), func(key, value []byte) error {
		modern = true
		l.byName(string(key[1:]), value)
		return nil
	})
	if err != nil || !modern {
		return err
	}
	listed := map[string]bool{}
	err = r.Range([]byte("I"), func(key, value []byte) error {
		id := string(key[1:])
		listed[id], l.known[id] = true, true
		l.byUniqueID(id, value)
		return nil
	})
	for _, id := range slices.Sorted(maps.Keys(l.byID)) {
		if !listed[id] {
			l.faulty(l.path, "%s has no record under its uniqueid %s", l.byID[id], id)
		}
	}
	return err
}

func (l *listChecker) byName(key string, value []byte) {
	name, err := imapdconf.ParseDBName(key)
	if err != nil {
		l.faulty(l.path, "key %q: %v", "N"+key, err)
		return
	}
	e, err := cyrusdb.ParseMailboxEntry(string(value))
	if err != nil {
		l.faulty(l.path, "%s: %v", name, err)
		return
	}
	// Cyrus leaves a record of a former name behind, with the uniqueid of the
	// mailbox that has another name now.
	if e.UniqueID == "" || e.Flags&(cyrusdb.TypeIntermediate|cyrusdb.TypeDeleted) != 0 {
		return
	}
	if other, twice := l.byID[e.UniqueID]; twice {
		l.faulty(l.path, "%s and %s have the same uniqueid %s", other, name, e.UniqueID)
	}
	l.byID[e.UniqueID], l.known[e.UniqueID] = name, true
}

func (l *listChecker) byUniqueID(id string, value []byte) {
	e, err := cyrusdb.ParseMailboxEntry(string(value))
	if err != nil {
		l.faulty(l.path, "record of the uniqueid %s: %v", id, err)
		return
	}
	if e.Flags&cyrusdb.TypeDeleted != 0 {
		return // the trace of a former mailbox
	}
	switch name, found := l.byID[id]; {
	case !found && len(e.Name.Parts) > 0 && e.Name.Parts[0] == l.store.conf.Names.DeletedPrefix:
		// Of a mailbox that cyr_expire has dropped after its DELETE nothing
		// is left but this record (Cyrus 3.6).
	case !found:
		l.faulty(l.path, "the uniqueid %s is said to be %s, which has no such record", id, e.Name)
	case !name.Equal(e.Name):
		l.faulty(l.path, "the uniqueid %s is said to be %s, but is that of %s", id, e.Name, name)
	}
}

// directories looks for those of mailboxes that nobody knows, where directories
// are named by uniqueid.
func (l *listChecker) directories(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(l.store.conf.Layout.Partitions)) {
		root := filepath.Join(l.store.conf.Layout.Partitions[name].Root, "uuid")
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile, or there is none
			}
			if err != nil {
				return err
			}
			rest, _ := filepath.Rel(root, path) // it is below root
			if !d.IsDir() || strings.Count(rest, "/") < 2 {
				return nil
			}
			if !l.known[d.Name()] && !l.madeMeanwhile(ctx, path, d.Name()) {
				l.directory(path)
			}
			return fs.SkipDir
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// madeMeanwhile tells whether a directory is of a mailbox that was made or
// dropped after the list had been read: whoever does that holds the mailbox's
// lock until the list says so.
func (l *listChecker) madeMeanwhile(ctx context.Context, path, id string) (made bool) {
	lock, err := l.store.conf.MailboxLock(imapdconf.Mailbox{UniqueID: id})
	if err != nil {
		return false // no mailbox has such an id
	}
	m := &mailbox{store: l.store}
	defer m.release()
	if err := m.lock(ctx, lock, false); err != nil {
		return false
	}
	err = cyrusdb.View(ctx, l.store.conf.Databases.Mailboxes, func(r cyrusdb.Reader) error {
		_, made, err = r.Get([]byte("I" + id))
		return err
	})
	if _, gone := os.Lstat(path); errors.Is(gone, fs.ErrNotExist) {
		return true
	}
	return made && err == nil
}

func (l *listChecker) directory(path string) {
	what := "empty"
	if head, err := os.ReadFile(filepath.Join(path, "cyrus.header")); err == nil {
		what = "of an unreadable header"
		if h, err := ParseMailboxHeader(path, bytes.Clone(head)); err == nil {
			what = "of " + h.Name
		}
	}
	l.faulty(path, "mailboxes.db has no such mailbox (%s)", what)
}
