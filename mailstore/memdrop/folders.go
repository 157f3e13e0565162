package memdrop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/mailstore"
)

// folderKey is what a folder is called among the store's maildrops; the inbox
// has the mailbox's own name.
func folderKey(mailbox, folder string) string {
	if folder == mailstore.Inbox {
		return mailbox
	}
	return mailbox + "\x00" + folder
}

// checked is a folder's name in its one form.
func checked(name string) (string, error) {
	if strings.EqualFold(name, mailstore.Inbox) {
		return mailstore.Inbox, nil
	}
	for i, level := range strings.Split(name, "/") {
		if level == "" || level == "." || level == ".." || strings.ContainsAny(level, "\x00^%") || i == 0 && strings.EqualFold(level, mailstore.Inbox) {
			return "", fmt.Errorf("memdrop: %w: %q", mailstore.ErrFolderName, name)
		}
	}
	return name, nil
}

// find gives a folder's drop; the store is locked.
func (d *maildrop) find(name string) (string, *drop, error) {
	name, err := checked(name)
	if err != nil {
		return "", nil, err
	}
	found := d.store.drops[folderKey(d.mailbox, name)]
	if found == nil {
		return name, nil, fmt.Errorf("memdrop: %w: %q", mailstore.ErrNoFolder, name)
	}
	return name, found, nil
}

// Folders implements mailstore.Folders.
func (d *maildrop) Folders(context.Context) ([]mailstore.Folder, error) {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	list := []mailstore.Folder{d.summary(mailstore.Inbox)}
	for _, name := range d.below("") {
		list = append(list, d.summary(name))
	}
	return list, nil
}

// below lists the folders whose names begin with prefix, sorted; not the inbox.
func (d *maildrop) below(prefix string) []string {
	var names []string
	for key := range maps.Keys(d.store.drops) {
		if name, ok := strings.CutPrefix(key, d.mailbox+"\x00"); ok && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (d *maildrop) summary(name string) mailstore.Folder {
	f := mailstore.Folder{Name: name}
	for _, m := range d.store.drops[folderKey(d.mailbox, name)].messages {
		f.Messages++
		f.Octets += int64(len(m.octets))
	}
	return f
}

// Select implements mailstore.Folders.
func (d *maildrop) Select(_ context.Context, folder string) (mailstore.Folders, error) {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	name, found, err := d.find(folder)
	switch {
	case err != nil:
		return nil, err
	case found == d.drop:
		d.closed = true
	case found.holder != nil:
		return nil, &mailstore.InUseError{Holder: *found.holder}
	}
	return d.store.hold(found, d.mailbox, name, *d.drop.holder), nil
}

// CreateFolder implements mailstore.Folders.
func (d *maildrop) CreateFolder(_ context.Context, folder string) error {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	name, err := d.vacant(folder)
	if err != nil {
		return err
	}
	d.store.drops[folderKey(d.mailbox, name)] = &drop{nextUID: 1}
	return nil
}

// vacant is a name that a folder may be given: free, and its parent is there.
func (d *maildrop) vacant(folder string) (string, error) {
	name, err := checked(folder)
	if err != nil {
		return "", err
	}
	if d.store.drops[folderKey(d.mailbox, name)] != nil {
		return "", fmt.Errorf("memdrop: %w: %q", mailstore.ErrFolderExists, name)
	}
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		if _, _, err := d.find(name[:i]); err != nil {
			return "", err
		}
	}
	return name, nil
}

// DeleteFolder implements mailstore.Folders.
func (d *maildrop) DeleteFolder(_ context.Context, folder string) error {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	name, found, err := d.find(folder)
	switch {
	case err != nil:
		return err
	case name == mailstore.Inbox:
		return fmt.Errorf("memdrop: %w: the inbox", mailstore.ErrFolderName)
	case found.holder != nil:
		return &mailstore.InUseError{Holder: *found.holder}
	case len(found.messages) > 0 || len(d.below(name+"/")) > 0:
		return fmt.Errorf("memdrop: %w: %q", mailstore.ErrFolderInUse, name)
	}
	delete(d.store.drops, folderKey(d.mailbox, name))
	return nil
}

// RenameFolder implements mailstore.Folders.
func (d *maildrop) RenameFolder(_ context.Context, from, to string) error {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	old, _, err := d.find(from)
	if err != nil {
		return err
	}
	name, err := d.vacant(to)
	switch {
	case old == mailstore.Inbox:
		return fmt.Errorf("memdrop: %w: the inbox", mailstore.ErrFolderName)
	case strings.HasPrefix(to, old+"/") && !errors.Is(err, mailstore.ErrFolderExists):
		return fmt.Errorf("memdrop: %w: %q would lie below itself", mailstore.ErrFolderName, to)
	case err != nil:
		return err
	}
	moved := append([]string{old}, d.below(old+"/")...)
	for _, each := range moved {
		if h := d.store.drops[folderKey(d.mailbox, each)].holder; h != nil {
			return &mailstore.InUseError{Holder: *h}
		}
	}
	for _, each := range moved {
		key := folderKey(d.mailbox, each)
		d.store.drops[folderKey(d.mailbox, name+each[len(old):])] = d.store.drops[key]
		delete(d.store.drops, key)
	}
	return nil
}

// Copy implements mailstore.Folders.
func (d *maildrop) Copy(_ context.Context, ns []mailstore.Number, folder string) error {
	var copies []message
	for _, n := range ns {
		if _, err := d.alive(n); err != nil {
			return err
		}
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	_, found, err := d.find(folder)
	if err != nil {
		return err
	}
	for _, n := range ns {
		copies = append(copies, *d.stored(n))
	}
	for _, m := range copies {
		m.uid = found.nextUID
		found.nextUID++
		found.messages = append(found.messages, m)
	}
	return nil
}

// stored is message n between sessions; nil when it is gone.
func (d *maildrop) stored(n mailstore.Number) *message {
	uid := d.list[n-1].uid
	for i := range d.drop.messages {
		if d.drop.messages[i].uid == uid {
			return &d.drop.messages[i]
		}
	}
	return nil
}

// Append implements mailstore.Folders.
func (d *maildrop) Append(_ context.Context, folder string, m io.Reader) error {
	octets, err := io.ReadAll(m)
	if err != nil {
		return fmt.Errorf("memdrop: %w", err)
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	_, found, err := d.find(folder)
	if err != nil {
		return err
	}
	found.messages = append(found.messages, message{uid: found.nextUID, octets: octets})
	found.nextUID++
	return nil
}

// Flags implements mailstore.Folders.
func (d *maildrop) Flags(ctx context.Context, n mailstore.Number) (mailstore.Flags, error) {
	return d.SetFlags(ctx, n, 0, 0)
}

// SetFlags implements mailstore.Folders.
func (d *maildrop) SetFlags(_ context.Context, n mailstore.Number, set, clear mailstore.Flags) (mailstore.Flags, error) {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	m := d.stored(n)
	if m == nil {
		return 0, fmt.Errorf("memdrop: %w", mailstore.ErrGone)
	}
	m.flags = m.flags&^clear | set
	return m.flags, nil
}
