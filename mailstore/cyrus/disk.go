package cyrus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A disk makes the changes to files. Its zero value does so plainly. Tests set
// before, which is called ahead of every step and can refuse it; a write that
// is refused stores the first n octets, as a full disk or a crash may.
type disk struct {
	before func(step, path string, size int) (n int, err error)
}

func (d *disk) step(name, path string) error {
	if d.before == nil {
		return nil
	}
	_, err := d.before(name, path, 0)
	return err
}

// create opens a new file, or an old one emptied; never through a symlink.
func (d *disk) create(path string, mode fs.FileMode) (*ofd.File, error) {
	return d.openFor(path, os.O_TRUNC, mode)
}

// createNew opens a new file. One that is there goes: it may have other names,
// and is not written to.
func (d *disk) createNew(path string, mode fs.FileMode) (*ofd.File, error) {
	f, err := d.openFor(path, os.O_EXCL, mode)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := d.remove(path); err != nil {
		return nil, err
	}
	return d.openFor(path, os.O_EXCL, mode)
}

// open opens an old file as it is, or a new one; never through a symlink.
func (d *disk) open(path string, mode fs.FileMode) (*ofd.File, error) {
	return d.openFor(path, 0, mode)
}

func (d *disk) openFor(path string, flags int, mode fs.FileMode) (*ofd.File, error) {
	if err := d.step("create", path); err != nil {
		return nil, err
	}
	f, err := ofd.Open(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|flags, mode)
	if err != nil {
		return nil, fmt.Errorf("cyrus: %w", err)
	}
	if flags != 0 {
		err = setMode(f, mode)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// setMode gives a new file its mode where the process's own umask, which may be
// stricter than imapd.conf's, could have taken some of it.
func setMode(f *ofd.File, mode fs.FileMode) error {
	if mode == ownerOnly {
		return nil
	}
	if err := f.Chmod(mode); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

// ownerOnly is the mode of files that are nobody's affair but ours, and of all files
// under the usual umask.
const ownerOnly = 0o600

func (d *disk) writeAt(f *ofd.File, b []byte, at int64) error {
	if d.before != nil {
		if n, err := d.before("write", f.Name(), len(b)); err != nil {
			if n > 0 {
				_, _ = f.WriteAt(b[:n], at) // what a test lets through of a write that fails
			}
			return err
		}
	}
	if _, err := f.WriteAt(b, at); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

func (d *disk) truncate(f *ofd.File, size int64) error {
	if err := d.step("truncate", f.Name()); err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

func (d *disk) sync(f *ofd.File) error {
	if err := d.step("fsync", f.Name()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

func (d *disk) rename(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	// os.Rename would look at both names first.
	for {
		switch err := unix.Rename(from, to); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("cyrus: %w", &os.LinkError{Op: "rename", Old: from, New: to, Err: err})
		default:
			return nil
		}
	}
}

func (d *disk) link(from, to string) error {
	if err := d.step("link", to); err != nil {
		return err
	}
	if err := os.Link(from, to); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

// remove unlinks a file; one that is not there is no error.
func (d *disk) remove(path string) error {
	if err := d.step("unlink", path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

// mkdirAll makes a directory and those above it that are missing, durably.
func (d *disk) mkdirAll(path string, mode fs.FileMode) error {
	if err := d.step("mkdir", path); err != nil {
		return err
	}
	missing := missingDirs(path)
	if err := os.MkdirAll(path, mode); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	for _, dir := range missing {
		if mode != ownerOnly|0o100 {
			if err := os.Chmod(dir, mode); err != nil {
				return fmt.Errorf("cyrus: %w", err)
			}
		}
		if err := d.syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) chtimes(path string, t time.Time) error {
	if err := d.step("utime", path); err != nil {
		return err
	}
	if err := os.Chtimes(path, t, t); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

// syncDir makes the names in a directory durable.
func (d *disk) syncDir(path string) error {
	if err := d.step("fsync", path); err != nil {
		return err
	}
	f, err := ofd.Open(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

// replace writes a small file whole: a crash leaves the old one or the new
// one. Only a durable one survives a loss of power.
func (d *disk) replace(path, temporary string, b []byte, mode fs.FileMode, durable bool) error {
	f, err := d.create(temporary, mode)
	if err != nil {
		return err
	}
	err = d.writeAt(f, b, 0)
	if err == nil && durable {
		err = d.sync(f)
	}
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("cyrus: %w", closeErr)
	}
	if err == nil {
		err = d.rename(temporary, path)
	}
	if err == nil && durable {
		err = d.syncDir(filepath.Dir(path))
	}
	return err
}
