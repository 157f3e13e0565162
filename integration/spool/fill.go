package spool

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/bodycache"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A filling is one replacement of all of a mailbox's messages.
type filling struct {
	dir         string // of the messages
	index       *bufio.Writer
	cache       *bufio.Writer
	cacheOffset uint64
	header      header
	now         time.Time
}

// lockWait is how long other programs are waited for.
const lockWait = 30 * time.Second

// Fill makes a maildrop exactly the messages of a tar archive, in its order and
// with their octets as they are. Unique-ids are never used twice. Only a message
// without any octet is stored as one empty line: Cyrus knows none of size 0.
func (s *Spool) Fill(ctx context.Context, user string, archive io.Reader) error {
	place, err := s.place(ctx, user)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	locks, err := s.lock(ctx, place)
	defer closeAll(locks)
	if err == nil {
		err = s.replace(place, archive)
	}
	closeAll(locks)
	if err != nil {
		return fmt.Errorf("spool: filling %s: %w", user, err)
	}
	return s.recount(user, place)
}

// recount corrects the quota's file when the mailbox is under one.
func (s *Spool) recount(user string, place imapdconf.Mailbox) error {
	path, err := s.conf.Path(place, imapdconf.HeaderFile)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(path) //nolint:gosec // G304: our own spool
	if err != nil {
		return err
	}
	h, err := cyrus.ParseMailboxHeader(path, b)
	if err != nil || h.QuotaRoot == "" {
		return err
	}
	return s.store.RecountQuota(context.Background(), user)
}

func (s *Spool) place(ctx context.Context, user string) (imapdconf.Mailbox, error) {
	name, err := s.conf.Names.ParseUserid(user)
	if err != nil {
		return imapdconf.Mailbox{}, fmt.Errorf("spool: %w", err)
	}
	entry, err := cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes}.Lookup(ctx, name)
	if err != nil {
		return imapdconf.Mailbox{}, fmt.Errorf("spool: %w", err)
	}
	return entry.Mailbox(), nil
}

// lock takes Cyrus's locks for replacing an index, outermost first: the user's,
// the mailbox's, the index.
func (s *Spool) lock(ctx context.Context, place imapdconf.Mailbox) (locks []*os.File, err error) {
	user, err := s.conf.NamespaceLock(place.Name)
	if err != nil {
		return nil, err
	}
	mailbox, err := s.conf.MailboxLock(place)
	if err != nil {
		return nil, err
	}
	index, err := s.conf.Path(place, imapdconf.IndexFile)
	if err != nil {
		return nil, err
	}
	for _, path := range []string{user, mailbox, index} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return locks, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // G304: our own spool
		if err != nil {
			return locks, err
		}
		locks = append(locks, f)
		if err := ofd.Lock(ctx, f, true); err != nil {
			return locks, err
		}
	}
	return locks, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // a second time does nothing
	}
}

// replace writes a new index and a new cache beside the old ones, puts them in
// place and removes the old messages.
func (s *Spool) replace(place imapdconf.Mailbox, archive io.Reader) (err error) {
	paths := map[imapdconf.File]string{}
	for _, file := range []imapdconf.File{imapdconf.IndexFile, imapdconf.CacheFile, imapdconf.AnnotationsFile, imapdconf.HeaderFile} {
		if paths[file], err = s.conf.Path(place, file); err != nil {
			return err
		}
	}
	first, err := s.conf.MessagePath(place, 1, false)
	if err != nil {
		return err
	}
	f := &filling{dir: filepath.Dir(first), now: time.Now()}
	old, err := messageFiles(f.dir)
	if err != nil {
		return err
	}
	if err := f.header.read(paths[imapdconf.IndexFile]); err != nil {
		return err
	}
	if err := f.write(paths[imapdconf.IndexFile], paths[imapdconf.CacheFile], archive); err != nil {
		return err
	}
	if err := os.Remove(paths[imapdconf.AnnotationsFile]); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// messageFiles lists the files <uid>. of a mailbox.
func messageFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		number, dotted := strings.CutSuffix(e.Name(), ".")
		if _, err := strconv.ParseUint(number, 10, 32); err == nil && dotted {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

func (f *filling) write(indexPath, cachePath string, archive io.Reader) error {
	index, err := create(indexPath + ".NEW")
	if err != nil {
		return err
	}
	defer index.Close() //nolint:errcheck // closed below; this is for errors
	cache, err := create(cachePath + ".NEW")
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // closed below; this is for errors
	f.index, f.cache = bufio.NewWriterSize(index, 1<<20), bufio.NewWriterSize(cache, 1<<20)
	f.header.renew(f.now)
	if _, err := f.index.Write(f.header[:]); err != nil { // its place; filled in at the end
		return err
	}
	if _, err := f.cache.Write(f.header[:4]); err != nil { // the generation
		return err
	}
	f.cacheOffset = 4
	if err := eachMessage(archive, f.add); err != nil {
		return err
	}
	f.header.seal()
	err = errors.Join(f.index.Flush(), f.cache.Flush())
	if err == nil {
		_, err = index.WriteAt(f.header[:], 0)
	}
	return errors.Join(err, index.Close(), cache.Close(), os.Rename(indexPath+".NEW", indexPath), os.Rename(cachePath+".NEW", cachePath))
}

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // G304: our own spool
}

// add takes the next message in.
func (f *filling) add(size int64, text io.Reader) error {
	message := make([]byte, size)
	if _, err := io.ReadFull(text, message); err != nil {
		return err
	}
	if size == 0 {
		message = []byte("\r\n")
	}
	uid := f.header.nextUID()
	path := filepath.Join(f.dir, strconv.FormatUint(uint64(uid), 10)+".")
	if err := os.WriteFile(path, message, 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(path, f.now, f.now); err != nil {
		return err
	}
	parsed := parse(message, f.now)
	r := newRecord(&f.header, uid, parsed, f.now)
	if len(parsed.Cache) > 0 {
		r.cached(f.cacheOffset, parsed.CRC)
		f.cacheOffset += uint64(len(parsed.Cache))
		if _, err := f.cache.Write(parsed.Cache); err != nil {
			return err
		}
	}
	r.seal()
	_, err := f.index.Write(r[:])
	return err
}

// parse makes what index and cache say of a message. One whose lines do not all
// end in CRLF has no cache record; Cyrus makes it when it wants it.
func parse(message []byte, now time.Time) bodycache.Record {
	r, err := bodycache.Build(message, bodycache.Options{Received: now})
	if err != nil || bytes.Count(message, []byte("\n")) != bytes.Count(message, []byte("\r\n")) {
		r.Cache, r.CRC = nil, 0
	}
	return r
}

// big-endian fields of a fixed layout.
func get32(b []byte, at int) uint32    { return binary.BigEndian.Uint32(b[at:]) }
func put32(b []byte, at int, v uint32) { binary.BigEndian.PutUint32(b[at:], v) }
func get64(b []byte, at int) uint64    { return binary.BigEndian.Uint64(b[at:]) }
func put64(b []byte, at int, v uint64) { binary.BigEndian.PutUint64(b[at:], v) }
