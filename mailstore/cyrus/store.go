package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// Options are for New. Config, StateDir and Log are required.
type Options struct {
	Config   *imapdconf.Config
	StateDir string           // for session locks and sizes; outside Cyrus's directories
	UIDStyle string           // unique-id format in place of uidl_format; empty: that
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger
}

// A Store is a Cyrus spool. It is safe for concurrent use and, under Cyrus's own
// locks, beside other programs.
type Store struct {
	options   Options
	config    *imapdconf.Config
	exclusion exclusion
	locations mailboxes
}

type mailboxes = cyrusdb.MailboxList

// New makes a store of the spool that c describes.
func New(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{
		options: o, config: o.Config,
		exclusion: exclusion{dir: filepath.Join(o.StateDir, "sessions")},
		locations: mailboxes{Database: o.Config.Databases.Mailboxes},
	}
}

// lockWait bounds the wait for another program's locks, at login and for
// deliveries; UPDATE brings a deadline of its own.
const lockWait = 10 * time.Second

// Open implements mailstore.Store.
func (s *Store) Open(ctx context.Context, mailbox string, h mailstore.Holder) (mailstore.Maildrop, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	box, err := s.locate(ctx, mailbox)
	if err != nil {
		return nil, err
	}
	if err := s.exclusion.acquire(box.UniqueID, h); err != nil {
		return nil, err
	}
	d := &maildrop{store: s, box: box, login: s.options.Now(), style: s.style(h.UIDStyle)}
	if err := d.load(ctx); err != nil {
		return nil, errors.Join(err, s.exclusion.release(box.UniqueID))
	}
	return d, nil
}

func (s *Store) style(account string) string {
	if account != "" {
		return account
	}
	return s.options.UIDStyle
}

// locate finds a mailbox by its login name. Names that no mailbox can have are
// unknown like any other.
func (s *Store) locate(ctx context.Context, mailbox string) (imapdconf.Mailbox, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return imapdconf.Mailbox{}, fmt.Errorf("cyrus: %w: %w", mailstore.ErrUnknown, err)
	}
	entry, err := s.locations.Lookup(ctx, name)
	switch {
	case errors.Is(err, cyrusdb.ErrNoMailbox):
		return imapdconf.Mailbox{}, fmt.Errorf("cyrus: %s: %w", name, mailstore.ErrUnknown)
	case errors.Is(err, cyrusdb.ErrCorrupt), errors.Is(err, cyrusdb.ErrFormat):
		return imapdconf.Mailbox{}, fmt.Errorf("cyrus: %w: %w", mailstore.ErrDamaged, err)
	case err != nil:
		return imapdconf.Mailbox{}, fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	if ok, why := entry.Serves(s.config.ServerName); !ok {
		return imapdconf.Mailbox{}, fmt.Errorf("cyrus: %s is not served here: %s: %w", name, why, mailstore.ErrUnknown)
	}
	return entry.Mailbox(), nil
}

func (s *Store) name(mailbox string) (imapdconf.Name, error) {
	if strings.Contains(mailbox, "+") {
		return s.config.Names.ParseLogin(mailbox)
	}
	return s.config.Names.ParseUserid(mailbox)
}

// lockMode says which of Cyrus's locks are exclusive.
type lockMode struct{ namespace, mailbox, index bool }

var (
	toRead   = lockMode{}
	toChange = lockMode{namespace: true, index: true}
)

// An opened mailbox is its index, and the files locked for as long as it is
// worked on.
type opened struct {
	held
	file   *os.File // cyrus.index, writable when it is to be changed
	index  *index
	header mailboxHeader
}

// open locks a mailbox in Cyrus's order and reads its index. cyrus.header may
// be parsed only under the index's lock.
func (s *Store) open(ctx context.Context, box imapdconf.Mailbox, mode lockMode) (o *opened, err error) {
	o = &opened{}
	defer func() {
		if err != nil {
			o.release()
		}
	}()
	namespace, err := s.config.NamespaceLock(box.Name)
	if err != nil {
		return o, err
	}
	if namespace != "" {
		if err := o.lockPath(ctx, namespace, mode.namespace); err != nil {
			return o, err
		}
	}
	mailbox, err := s.config.MailboxLock(box)
	if err != nil {
		return o, err
	}
	if err := o.lockPath(ctx, mailbox, mode.mailbox); err != nil {
		return o, err
	}
	if err := o.lockIndex(ctx, s.config, box, mode.index); err != nil {
		return o, err
	}
	return o, o.read(s.config, box)
}

// lockIndex opens and locks cyrus.index. With the mailbox lock held nobody
// replaces it.
func (o *opened) lockIndex(ctx context.Context, c *imapdconf.Config, box imapdconf.Mailbox, exclusive bool) error {
	path, err := c.Path(box, imapdconf.IndexFile)
	if err != nil {
		return err
	}
	flags := os.O_RDONLY
	if exclusive {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(path, flags, 0) //nolint:gosec // G304: a path of the spool's
	if err != nil {
		return &FaultError{path, 0, err.Error()}
	}
	o.file = f
	return o.lock(ctx, f, exclusive)
}

func (o *opened) read(c *imapdconf.Config, box imapdconf.Mailbox) error {
	info, err := o.file.Stat()
	if err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(o.file, b); err != nil {
		return &FaultError{o.file.Name(), 0, err.Error()}
	}
	h, err := parseIndex(o.file.Name(), b, info.Size())
	if err != nil {
		return err
	}
	if h.u32(hOptions)&optionDeleted != 0 {
		return errNoMailbox
	}
	o.index = &index{h, b[h.layout.start:], o.file.Name()}
	if err := o.index.check(); err != nil {
		return err
	}
	path, err := c.Path(box, imapdconf.HeaderFile)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path) //nolint:gosec // G304: a path of the spool's
	if err != nil {
		return &FaultError{path, 0, err.Error()}
	}
	if o.header, err = parseHeader(path, text); err != nil {
		return err
	}
	if box.UniqueID != "" && o.header.uniqueID != box.UniqueID {
		return &FaultError{path, int64(len(headerMagic)), "unique id differs from mailboxes.db"}
	}
	return nil
}
