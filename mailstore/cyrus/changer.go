package cyrus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A Changer is a Remover that also has Cyrus make and rename mailboxes and add
// messages, for a spool that Cyrus owns. Each call does all or nothing. It knows
// no deleting: Cyrus would delete a mailbox with the mail that has just come.
//
// Errors have the meanings of mailstore.Folders.
type Changer interface {
	Remover

	Create(ctx context.Context, mailbox imapdconf.Name) error
	Rename(ctx context.Context, from, to imapdconf.Name) error
	Append(ctx context.Context, mailbox imapdconf.Name, message []byte) error
	Copy(ctx context.Context, from imapdconf.Name, uidValidity uint32, messages []Removed, to imapdconf.Name) error
}

// changer is who changes the folders of a spool that Cyrus owns; nil: nobody.
func (s *Store) changer() Changer {
	if s.mode != Shared {
		return nil
	}
	c, _ := s.remover.(Changer)
	return c
}

// createThrough has Cyrus make a folder.
func (d *maildrop) createThrough(ctx context.Context, c Changer, name imapdconf.Name) error {
	parent, _ := name.Parent()
	if _, err := d.store.serving(ctx, parent); err != nil {
		return err
	}
	if _, err := d.store.serving(ctx, name); err == nil {
		return fmt.Errorf("cyrus: %w: %s", mailstore.ErrFolderExists, name)
	}
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	return c.Create(ctx, name)
}

// renameThrough has Cyrus rename a folder and all below it. Sessions of ours
// that have one of them selected keep it.
func (d *maildrop) renameThrough(ctx context.Context, c Changer, old, name imapdconf.Name) (err error) {
	entries, err := d.renamable(ctx, old, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		m := &mailbox{store: d.store, entry: e, place: e.Mailbox()}
		key := m.holdKey()
		if err := d.store.holds.acquire(key, e.Name.Intname(), d.holder); err != nil {
			return told(err)
		}
		defer func() { err = errors.Join(err, d.store.holds.give(key)) }()
	}
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	return c.Rename(ctx, old, name)
}

// renamable lists a folder and those below it, when they can come to be called
// so.
func (d *maildrop) renamable(ctx context.Context, old, name imapdconf.Name) ([]cyrusdb.MailboxEntry, error) {
	s := d.store
	if old.Equal(d.root) || name.Equal(d.root) {
		return nil, fmt.Errorf("cyrus: %w: %s is the session's own", mailstore.ErrFolderName, d.root)
	}
	top, err := s.serving(ctx, old)
	if err != nil {
		return nil, err
	}
	switch _, err := s.serving(ctx, name); {
	case err == nil:
		return nil, fmt.Errorf("cyrus: %w: %s", mailstore.ErrFolderExists, name)
	case !errors.Is(err, mailstore.ErrNoFolder):
		return nil, err
	}
	n := len(old.Parts)
	if len(name.Parts) > n && slices.Equal(name.Parts[:n], old.Parts) {
		return nil, fmt.Errorf("cyrus: %w: %s would lie below itself", mailstore.ErrFolderName, name)
	}
	parent, _ := name.Parent()
	above, err := s.serving(ctx, parent)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.may(&above, "k"), s.may(&top, "x")); err != nil {
		return nil, err
	}
	below, err := s.belowOf(ctx, old)
	return append([]cyrusdb.MailboxEntry{top}, below...), err
}

// appendThrough has Cyrus add a message, which it wants to know whole.
func (d *maildrop) appendThrough(ctx context.Context, c Changer, name imapdconf.Name, message io.Reader) error {
	text, err := io.ReadAll(message)
	if err != nil {
		return err
	}
	if bytes.Count(text, []byte("\n")) != bytes.Count(text, []byte("\r\n")) {
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	}
	if len(text) == 0 {
		text = []byte("\r\n") // as copyIn has it: Cyrus takes no literal without octets
	}
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	return c.Append(ctx, name, text)
}

// copyThrough has Cyrus copy messages, each looked at once more before.
func (d *maildrop) copyThrough(ctx context.Context, c Changer, ns []mailstore.Number, name imapdconf.Name) error {
	if err := d.wake(); err != nil {
		return err
	}
	ns = slices.Clone(ns)
	slices.Sort(ns)
	messages := make([]Removed, len(ns))
	for i, n := range ns {
		messages[i] = Removed{UID: d.list.uids[n-1], Size: d.list.sizes[n-1], Tag: d.list.tags[n-1]}
	}
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	return c.Copy(ctx, d.place.Name, d.uidValidity, messages, name)
}
