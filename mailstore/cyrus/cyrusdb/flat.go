package cyrusdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// maxFlat bounds what is read whole.
const maxFlat = 256 << 20

// A flatDB is a database of lines, "key<tab>value", in order. It is small and
// kept in memory.
type flatDB struct {
	file    *ofd.File
	lines   []flatLine
	changed bool
}

type flatLine struct {
	key, value []byte
}

func readFlat(f *ofd.File, size int64) (*flatDB, error) {
	if size > maxFlat {
		return nil, fmt.Errorf("%w: flat database of %d octets", ErrCorrupt, size)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, fmt.Errorf("cyrusdb: %w", err)
	}
	return parseFlat(data)
}

func parseFlat(data []byte) (*flatDB, error) {
	db := &flatDB{}
	for line := range bytes.Lines(data) {
		text, ended := bytes.CutSuffix(line, []byte{'\n'})
		key, value, found := bytes.Cut(text, []byte{'\t'})
		if !ended || !found {
			return nil, fmt.Errorf("%w: flat line %d", ErrCorrupt, len(db.lines)+1)
		}
		if n := len(db.lines); n > 0 && bytes.Compare(db.lines[n-1].key, key) >= 0 {
			return nil, fmt.Errorf("%w: flat line %d is out of order", ErrCorrupt, n+1)
		}
		db.lines = append(db.lines, flatLine{key, value})
	}
	return db, nil
}

func beginFlat(f *ofd.File, size int64) (*flatDB, error) {
	db, err := readFlat(f, size)
	if err == nil {
		db.file = f
	}
	return db, err
}

func (db *flatDB) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(db.lines, key, func(l flatLine, key []byte) int { return bytes.Compare(l.key, key) })
}

// Get implements Reader.
func (db *flatDB) Get(key []byte) (value []byte, found bool, err error) {
	i, found := db.find(key)
	if !found {
		return nil, false, nil
	}
	return db.lines[i].value, true, nil
}

// Range implements Reader.
func (db *flatDB) Range(prefix []byte, do func(key, value []byte) error) error {
	start, _ := db.find(prefix)
	for _, l := range db.lines[start:] {
		if !bytes.HasPrefix(l.key, prefix) {
			return nil
		}
		if err := do(l.key, l.value); err != nil {
			return err
		}
	}
	return nil
}

// Put implements Tx.
func (db *flatDB) Put(key, value []byte) error {
	if len(key) == 0 || bytes.ContainsAny(key, "\t\n") || bytes.ContainsAny(value, "\n") {
		return fmt.Errorf("%w: not a line of a flat database", errors.ErrUnsupported)
	}
	db.changed = true
	l := flatLine{bytes.Clone(key), bytes.Clone(value)}
	i, found := db.find(key)
	if found {
		db.lines[i] = l
	} else {
		db.lines = slices.Insert(db.lines, i, l)
	}
	return nil
}

// Delete implements Tx.
func (db *flatDB) Delete(key []byte) error {
	if i, found := db.find(key); found {
		db.lines = slices.Delete(db.lines, i, i+1)
		db.changed = true
	}
	return nil
}

// commit replaces the file, under the lock of the old one.
func (db *flatDB) commit() error {
	if !db.changed {
		return nil
	}
	var out []byte
	for _, l := range db.lines {
		out = append(append(append(append(out, l.key...), '\t'), l.value...), '\n')
	}
	f, err := replaceFile(db.file, db.file.Name(), out)
	if f != nil {
		err = errors.Join(err, f.Close())
	}
	return err
}

func (db *flatDB) abort() error { return nil }

// replaceFile puts data in old's place under the name path, durably. Whoever
// holds the lock goes on holding it: the new file has it before it has its name.
// The new file is open when it is in place, even with an error.
func replaceFile(old *ofd.File, path string, data []byte) (f *ofd.File, err error) {
	info, err := old.Stat()
	if err != nil {
		return nil, fmt.Errorf("cyrusdb: %w", err)
	}
	f, err = ofd.Open(path+".NEW", os.O_RDWR|os.O_CREATE|os.O_TRUNC, info.Perm)
	if err != nil {
		return nil, fmt.Errorf("cyrusdb: %w", err)
	}
	_, err = ofd.TryLock(f, true) // nobody else may have this name open
	if err == nil {
		err = f.Chmod(info.Perm) // the process's umask may be stricter than Cyrus's
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(path+".NEW", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cyrusdb: %w", errors.Join(err, f.Close(), os.Remove(path+".NEW")))
	}
	return f, syncDir(filepath.Dir(path))
}
