package cyrusdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// ErrNoMailbox is a mailbox that mailboxes.db does not have.
var ErrNoMailbox = errors.New("cyrusdb: no such mailbox")

// ErrMailboxExists is a mailbox that cannot be made because it is there.
var ErrMailboxExists = errors.New("cyrusdb: the mailbox exists")

// A MailboxList is mailboxes.db, in either of its two schemes: the keys N and
// I of 3.6, or plain internal names of 3.4 and before.
type MailboxList struct {
	Database imapdconf.Database
	Places   *Places // for Lookup; nil: each search begins at the top
}

// Lookup finds a mailbox by name: one search, no reading of the whole file. When
// the list is not there, because a file system is not mounted or somebody is
// replacing it, nothing is known of any mailbox: that is no ErrNoMailbox, for which
// mail would bounce.
func (l MailboxList) Lookup(ctx context.Context, name imapdconf.Name) (MailboxEntry, error) {
	var e MailboxEntry
	err := View(ctx, l.Database, func(r Reader) (err error) {
		e, err = lookup(l.Places.of(r), name)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("cyrusdb: there is no list of mailboxes: %w", err)
	}
	return e, err
}

func lookup(r Reader, name imapdconf.Name) (MailboxEntry, error) {
	var buf [256]byte
	value, found, err := r.Get(name.AppendDBName(append(buf[:0], 'N')))
	if err != nil {
		return MailboxEntry{}, err
	}
	legacy := false
	if !found {
		value, found, err = r.Get([]byte(name.Intname()))
		if err != nil {
			return MailboxEntry{}, err
		}
		legacy = true
	}
	if !found {
		return MailboxEntry{}, fmt.Errorf("%w: %s", ErrNoMailbox, name)
	}
	return parseNamed(name, value, legacy)
}

func parseNamed(name imapdconf.Name, value []byte, legacy bool) (MailboxEntry, error) {
	e, err := ParseMailboxEntry(string(value))
	if err != nil {
		return MailboxEntry{}, fmt.Errorf("%s: %w", name, err)
	}
	e.Name = name
	if legacy {
		e.Flags |= TypeLegacyDirs
	}
	return e, nil
}

// All calls do with every mailbox in the order of the file. Entries whose
// name or value cannot be read are given to bad, which may end the walk.
func (l MailboxList) All(ctx context.Context, do func(MailboxEntry) error, bad func(key string, err error) error) error {
	err := View(ctx, l.Database, func(r Reader) error {
		modern, err := hasPrefix(r, "N")
		if err != nil {
			return err
		}
		prefix, parse := "", imapdconf.ParseIntname
		if modern {
			prefix, parse = "N", imapdconf.ParseDBName
		}
		return r.Range([]byte(prefix), func(key, value []byte) error {
			if !modern && len(key) > 0 && key[0] == '$' {
				return nil // $RACL and the like of 3.0 to 3.4
			}
			name, err := parse(string(key[len(prefix):]))
			if err != nil {
				return bad(string(key), err)
			}
			e, err := parseNamed(name, value, !modern)
			if err != nil {
				return bad(string(key), err)
			}
			return do(e)
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

var errStop = errors.New("stop")

func hasPrefix(r Reader, prefix string) (bool, error) {
	err := r.Range([]byte(prefix), func([]byte, []byte) error { return errStop })
	if errors.Is(err, errStop) {
		return true, nil
	}
	return false, err
}

// Create adds a mailbox: its N and I records in one transaction. The list
// must exist (see Create) and be of the 3.6 scheme or empty. prepare runs
// under the list's lock once the name is known to be free, and may refuse.
//
// A placeholder of the same name (type flag "i" or "d") is replaced, as Cyrus
// does.
func (l MailboxList) Create(ctx context.Context, e MailboxEntry, prepare func() error) error {
	return Update(ctx, l.Database, func(tx Tx) error {
		if err := l.vacant(tx, &e); err != nil {
			return err
		}
		if prepare != nil {
			if err := prepare(); err != nil {
				return err
			}
		}
		return putEntry(tx, &e)
	})
}

func (l MailboxList) vacant(tx Tx, e *MailboxEntry) error {
	old, err := lookup(tx, e.Name)
	switch {
	case errors.Is(err, ErrNoMailbox):
		modern, err := hasPrefix(tx, "N")
		if err != nil || modern {
			return err
		}
		return tx.Range(nil, func(key, _ []byte) error {
			return fmt.Errorf("%w: the list is of Cyrus 3.4 or before (key %q): let Cyrus create mailboxes", ErrFormat, key)
		})
	case err != nil:
		return err
	case old.Flags&(TypeIntermediate|TypeDeleted) == 0:
		return fmt.Errorf("%w: %s", ErrMailboxExists, e.Name)
	}
	if old.UniqueID == e.UniqueID || old.UniqueID == "" {
		return nil
	}
	return forget(tx, &old)
}

// forget removes the I record of a placeholder, unless it is that of a mailbox
// which was renamed from there: Cyrus leaves the placeholder its uniqueid.
func forget(tx Tx, old *MailboxEntry) error {
	key := []byte("I" + old.UniqueID)
	value, found, err := tx.Get(key)
	if err != nil || !found {
		return err
	}
	e, err := ParseMailboxEntry(string(value))
	if err != nil || !e.Name.Equal(old.Name) {
		return err
	}
	return tx.Delete(key)
}

func putEntry(tx Tx, e *MailboxEntry) error {
	if err := tx.Put(e.Name.AppendDBName([]byte{'N'}), e.AppendNameValue(nil)); err != nil {
		return err
	}
	return tx.Put(append([]byte{'I'}, e.UniqueID...), e.AppendIDValue(nil))
}

// Remove takes a mailbox out of the list.
func (l MailboxList) Remove(ctx context.Context, name imapdconf.Name) error {
	return Update(ctx, l.Database, func(tx Tx) error {
		e, err := lookup(tx, name)
		if err != nil {
			return err
		}
		if e.UniqueID != "" {
			if err := tx.Delete([]byte("I" + e.UniqueID)); err != nil {
				return err
			}
		}
		return tx.Delete(name.AppendDBName([]byte{'N'}))
	})
}

// Below calls do with every mailbox below another, placeholders too, in the
// order of the file. Entries that cannot be read are passed over.
func (l MailboxList) Below(ctx context.Context, top imapdconf.Name, do func(MailboxEntry) error) error {
	err := View(ctx, l.Database, func(r Reader) error {
		modern, err := hasPrefix(r, "N")
		if err != nil {
			return err
		}
		prefix, key, parse := "", top.Intname()+".", imapdconf.ParseIntname
		if modern {
			prefix, key, parse = "N", "N"+top.DBName()+"\x1f", imapdconf.ParseDBName
		}
		return r.Range([]byte(key), func(key, value []byte) error {
			name, err := parse(string(key[len(prefix):]))
			if err != nil {
				return nil //nolint:nilerr // Check tells of it
			}
			e, err := parseNamed(name, value, !modern)
			if err != nil {
				return nil //nolint:nilerr // as above
			}
			return do(e.Clone())
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// modern refuses the scheme of Cyrus 3.4 and before.
func modern(tx Tx) error {
	ok, err := hasPrefix(tx, "N")
	if err == nil && !ok {
		err = fmt.Errorf("%w: the list is of Cyrus 3.4 or before", ErrFormat)
	}
	return err
}

// Bury makes a mailbox a placeholder, as Cyrus does with one that is deleted: a
// later one of the name gets a greater UIDVALIDITY.
func (l MailboxList) Bury(ctx context.Context, name imapdconf.Name, now int64) error {
	return Update(ctx, l.Database, func(tx Tx) error {
		if err := modern(tx); err != nil {
			return err
		}
		e, err := lookup(tx, name)
		if err != nil {
			return err
		}
		e.Flags |= TypeDeleted
		e.Partition, e.ACL, e.MTime = "", nil, now
		return putEntry(tx, &e)
	})
}

// Rename gives mailboxes other names, in one transaction. No name may be taken,
// but by a placeholder.
func (l MailboxList) Rename(ctx context.Context, old, renamed []MailboxEntry) error {
	return Update(ctx, l.Database, func(tx Tx) error {
		if err := modern(tx); err != nil {
			return err
		}
		for i := range renamed {
			if err := l.vacant(tx, &renamed[i]); err != nil {
				return err
			}
		}
		for i := range old {
			if err := tx.Delete(old[i].Name.AppendDBName([]byte{'N'})); err != nil {
				return err
			}
		}
		for i := range renamed {
			if err := putEntry(tx, &renamed[i]); err != nil {
				return err
			}
		}
		return nil
	})
}
