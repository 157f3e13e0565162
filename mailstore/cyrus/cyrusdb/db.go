// Package cyrusdb reads Cyrus's databases, writes those that a maildrop's
// life touches, and knows what stands in mailboxes.db and in quota files.
//
//   - twoskip (the default since 2.5): read, and written in transactions of
//     several keys that a crash cannot tear;
//   - skiplist (the default of 2.4, conversations.db since): read;
//   - flat: read, and replaced whole;
//   - quotalegacy, a file per quota root: see OpenQuota.
//
// A call opens the file, locks it, compares it with the path (a checkpoint
// renames a new file into place), works, and lets go. Nothing is kept
// between calls, for the lock belongs to the open file and Cyrus waits for it;
// Places may remember where something was found, not what.
package cyrusdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// What a database can be refused with.
var (
	ErrCorrupt = errors.New("cyrusdb: damaged database")
	ErrFormat  = errors.New("cyrusdb: format not supported")
)

// A Reader is a database under its read lock. Slices it gives are valid until
// the next call.
type Reader interface {
	// Get is the key's value; found is false when it is not there.
	Get(key []byte) (value []byte, found bool, err error)

	// Range calls do with every key that begins with prefix, in order, and
	// ends early with do's error.
	Range(prefix []byte, do func(key, value []byte) error) error
}

// A Tx is one transaction: all of it happens or nothing.
type Tx interface {
	Reader
	Put(key, value []byte) error
	Delete(key []byte) error // of a key that is not there: no error
}

// backend is a database whose file is open and locked.
type backend interface {
	Tx
	commit() error
	abort() error
}

// View opens a database for reading and calls do with it.
func View(ctx context.Context, db imapdconf.Database, do func(Reader) error) error {
	f, info, err := openLocked(ctx, db.Path, false)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := newReader(f, &info, db.Backend)
	if err == nil {
		err = do(r)
	}
	return at(db.Path, err)
}

// Update opens a database for writing and calls do with a transaction, which
// is committed when do returns nil and forgotten else. The file must exist.
func Update(ctx context.Context, db imapdconf.Database, do func(Tx) error) error {
	f, info, err := openLocked(ctx, db.Path, true)
	if err != nil {
		return err
	}
	defer f.Close()
	return at(db.Path, update(f, info.Size, db.Backend, do))
}

func update(f *ofd.File, size int64, name string, do func(Tx) error) error {
	tx, err := newTx(f, size, name)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.abort())
	}
	if err := tx.commit(); err != nil {
		return errors.Join(err, tx.abort())
	}
	return nil
}

// Create makes an empty database when there is none; its directory must be
// there.
func Create(ctx context.Context, db imapdconf.Database) error {
	f, err := os.OpenFile(db.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	f.Close()
	if err := Update(ctx, db, func(Tx) error { return nil }); err != nil {
		return err
	}
	return syncDir(filepath.Dir(db.Path))
}

// at names the file in a database's own errors, not in those of callers.
func at(path string, err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// openLocked opens the file that the path names once the lock is held, and
// describes it. It is opened anew while another process has put a different one
// there meanwhile.
func openLocked(ctx context.Context, path string, exclusive bool) (*ofd.File, ofd.Info, error) {
	mode := os.O_RDONLY
	if exclusive {
		mode = os.O_RDWR
	}
	for {
		f, err := ofd.Open(path, mode, 0)
		if err != nil {
			return nil, ofd.Info{}, err // not dressed up: user_deny.db is hardly ever there
		}
		if err := ofd.Lock(ctx, f, exclusive); err != nil {
			f.Close()
			return nil, ofd.Info{}, fmt.Errorf("cyrusdb: %w", err)
		}
		info, same, err := f.Named(path)
		if same && err == nil {
			return f, info, nil
		}
		f.Close()
		if err != nil {
			return nil, ofd.Info{}, fmt.Errorf("cyrusdb: %w", err)
		}
	}
}

func newReader(f *ofd.File, info *ofd.Info, name string) (Reader, error) {
	switch format, err := detect(f, name); {
	case err != nil:
		return nil, err
	case info.Size == 0:
		return &flatDB{}, nil // Cyrus creates it empty and writes at its first change
	case format == "twoskip":
		return openTwoskip(f, info)
	case format == "skiplist":
		return openSkiplist(f, info.Size)
	default:
		return readFlat(f, info.Size)
	}
}

func newTx(f *ofd.File, size int64, name string) (backend, error) {
	switch format, err := detect(f, name); {
	case err != nil:
		return nil, err
	case format == "twoskip":
		return beginTwoskip(f, size)
	case format == "flat":
		return beginFlat(f, size)
	default:
		return nil, fmt.Errorf("%w: %s is read only here; convert it with cvt_cyrusdb to twoskip", ErrFormat, format)
	}
}

// The first octets of the formats that have some.
const (
	magicSize     = 20
	twoskipMagic  = "\xa1\x02\x8b\x0dtwoskip file\x00\x00\x00\x00"
	skiplistMagic = "\xa1\x02\x8b\x0dskiplist file\x00\x00\x00"
)

// detect believes the file before the configuration, as Cyrus does: it may
// have been converted since. A flat file has no magic.
func detect(f *ofd.File, name string) (format string, err error) {
	var magic [magicSize]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("cyrusdb: %w", err)
	}
	switch {
	case string(magic[:]) == twoskipMagic:
		return "twoskip", nil
	case string(magic[:]) == skiplistMagic:
		return "skiplist", nil
	case n == 0 && (name == "twoskip" || name == "skiplist"), name == "flat":
		return name, nil
	}
	return "", fmt.Errorf("%w: not twoskip, skiplist or flat (configured: %q); convert it with cvt_cyrusdb to twoskip",
		ErrFormat, name)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	return nil
}
