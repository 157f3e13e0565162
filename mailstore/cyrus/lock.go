package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A purpose is what a mailbox is locked for.
type purpose int

const (
	toRead    purpose = iota // namespace shared, mailbox shared, index shared
	toChange                 // namespace exclusive, mailbox shared, index exclusive
	toReplace                // all exclusive: for repacking and unlinking
)

// A mailbox is one under Cyrus's locks. They are taken in Cyrus's order:
// namespace by begin, then mailbox and index by open.
type mailbox struct {
	store   *Store
	purpose purpose
	entry   cyrusdb.MailboxEntry
	place   imapdconf.Mailbox
	locks   []*ofd.File
	index   *ofd.File
	path    string    // the index's
	cache   *ofd.File // to be added to; nil: nothing was
	journal *ofd.File // nil: not written yet
}

// begin takes the lock of the user's namespace and finds the mailbox.
func (s *Store) begin(ctx context.Context, name imapdconf.Name, p purpose) (*mailbox, error) {
	m := &mailbox{store: s, purpose: p}
	done := false
	defer m.releaseUnless(&done)
	path, err := s.conf.NamespaceLock(name)
	if err == nil && path != "" {
		err = m.lock(ctx, path, p != toRead)
	}
	if err == nil {
		m.entry, err = s.mailboxes().Lookup(ctx, name)
	}
	if err == nil {
		m.place = m.entry.Mailbox()
		err = s.serves(&m.entry)
	}
	if err != nil {
		return nil, told(err)
	}
	done = true
	return m, nil
}

// serves is nil for a mailbox of mail that lies here.
func (s *Store) serves(e *cyrusdb.MailboxEntry) error {
	ok, why := e.Serves(s.conf.ServerName)
	if ok {
		return nil
	}
	meaning := mailstore.ErrUnknown
	if e.Passing() {
		meaning = mailstore.ErrTemporary
	}
	return fmt.Errorf("cyrus: %w: %s: %s", meaning, e.Name, why)
}

// releaseUnless is deferred: it gives the locks back also when a panic comes
// before done, for nothing else would.
func (m *mailbox) releaseUnless(done *bool) {
	if !*done {
		m.release()
	}
}

// replaceTry is how long a namespace's lock is held while the mailbox's is waited
// for.
const replaceTry = 200 * time.Millisecond

// lockToReplace is lockMailbox for replacing the index. Who has the mailbox's lock
// may have it for long, as Cyrus's pop3d does all session, or may be waiting for
// the namespace's, which the kernel would not find out: it knows deadlocks of
// processes' locks only. So the namespace's is given back between the tries, and
// mail comes in and users log in meanwhile.
func (s *Store) lockToReplace(ctx context.Context, name imapdconf.Name) (*mailbox, error) {
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	for {
		m, err := s.begin(ctx, name, toReplace)
		if err != nil {
			return nil, err
		}
		if err = m.openWithin(ctx, replaceTry); err == nil {
			return m, nil
		}
		m.release()
		if !errors.Is(err, context.DeadlineExceeded) {
			return nil, told(err)
		}
		select {
		case <-ctx.Done():
			return nil, told(err)
		case <-time.After(replaceTry):
		}
	}
}

func (m *mailbox) openWithin(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return m.open(ctx)
}

// lockMailbox is begin and open.
func (s *Store) lockMailbox(ctx context.Context, name imapdconf.Name, p purpose) (*mailbox, error) {
	if p == toReplace {
		return s.lockToReplace(ctx, name)
	}
	m, err := s.begin(ctx, name, p)
	if err != nil {
		return nil, err
	}
	if err := m.open(ctx); err != nil {
		m.release()
		return nil, told(err)
	}
	return m, nil
}

// open takes the mailbox's lock, then the index's.
func (m *mailbox) open(ctx context.Context) error {
	path, err := m.store.conf.MailboxLock(m.place)
	if err != nil {
		return err
	}
	if err := m.lock(ctx, path, m.purpose == toReplace); err != nil {
		return err
	}
	m.path, err = m.store.conf.Path(m.place, imapdconf.IndexFile)
	if err != nil {
		return err
	}
	return m.openIndex(ctx)
}

func (m *mailbox) openIndex(ctx context.Context) error {
	flags := os.O_RDONLY
	if m.purpose != toRead {
		flags = os.O_RDWR
	}
	for {
		f, err := ofd.Open(m.path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
			return fault(m.path, -1, "there is no index: %v", err)
		}
		if err != nil {
			return err
		}
		if err := m.store.await(ctx, f, m.purpose != toRead); err != nil {
			f.Close()
			return err
		}
		// Under the mailbox's lock nobody of 2.4 and later replaces the
		// file; looking costs little and covers those who do not know it.
		info, same, err := f.Named(m.path)
		if err == nil && !info.Regular {
			err = fault(m.path, -1, "not a regular file")
		}
		if same && err == nil {
			m.index = f
			return nil
		}
		f.Close()
		if err != nil {
			return err
		}
	}
}

// await locks f, and tells how long that took when somebody else held it.
func (s *Store) await(ctx context.Context, f *ofd.File, exclusive bool) error {
	if ok, err := ofd.TryLock(f, exclusive); ok || err != nil {
		return err
	}
	if s.waited == nil {
		return ofd.Lock(ctx, f, exclusive)
	}
	began := time.Now()
	err := ofd.Lock(ctx, f, exclusive)
	s.waited(time.Since(began))
	return err
}

// lock takes one of the lock files, which are made on demand and never
// removed: Debian's lock tree is on a tmpfs that a boot empties.
func (m *mailbox) lock(ctx context.Context, path string, exclusive bool) error {
	f, err := ofd.Open(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = m.store.makeLock(path)
	}
	if err != nil {
		return err
	}
	if err := m.store.await(ctx, f, exclusive); err != nil {
		f.Close()
		return err
	}
	m.locks = append(m.locks, f)
	return nil
}

// makeLock makes a lock file, and leaves it to the spool's owner.
func (s *Store) makeLock(path string) (*ofd.File, error) {
	if err := makeDir(filepath.Dir(path), s.conf.Dir); err != nil {
		return nil, err
	}
	f, err := ofd.Open(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := adopt(path, s.conf.Dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// release gives all locks back, the innermost first. It may be called twice.
func (m *mailbox) release() {
	for _, f := range []**ofd.File{&m.journal, &m.cache, &m.index} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
	for len(m.locks) > 0 {
		last := len(m.locks) - 1
		m.locks[last].Close()
		m.locks = m.locks[:last]
	}
}

// told gives an error one of the meanings of package mailstore.
func told(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{
		mailstore.ErrUnknown, mailstore.ErrInUse, mailstore.ErrLoginDelay, mailstore.ErrDamaged, mailstore.ErrReadOnly,
		mailstore.ErrTemporary, mailstore.ErrGone, mailstore.ErrOverQuota, mailstore.ErrMessage,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	meaning := mailstore.ErrTemporary
	switch {
	case errors.Is(err, cyrusdb.ErrNoMailbox), errors.Is(err, imapdconf.ErrName):
		meaning = mailstore.ErrUnknown
	case errors.Is(err, cyrusdb.ErrCorrupt), errors.Is(err, cyrusdb.ErrFormat), errors.Is(err, imapdconf.ErrPartition):
		meaning = mailstore.ErrDamaged
	}
	return fmt.Errorf("cyrus: %w: %w", meaning, err)
}
