package cyrus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// Expired is what Expire has done.
type Expired struct {
	Messages int   `json:"messages"` // records and files dropped
	Octets   int64 `json:"octets"`   // of their files
	Kept     int   `json:"kept"`     // expunged, but not for long enough
}

// Expire drops what has been expunged for at least retention, or was marked
// for it by expunge_mode: the files, their annotations, and their records in
// index and cache. Sessions go on: one that has listed such a message is told
// that it is gone. It is for a spool without Cyrus, whose cyr_expire does this
// otherwise.
func (s *Store) Expire(ctx context.Context, mailbox string, retention time.Duration) (Expired, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return Expired{}, err
	}
	m, err := s.lockMailbox(ctx, name, toReplace)
	if err != nil {
		return Expired{}, err
	}
	defer m.release()
	c, err := s.changeOf(ctx, m)
	if err != nil {
		return Expired{}, told(err)
	}
	e := &expiry{change: c, before: uint64(s.now().Add(-retention).Unix())}
	if err := e.run(ctx); err != nil {
		return Expired{}, told(err)
	}
	return e.done, nil
}

// An expiry rewrites a mailbox's index and cache without some records.
type expiry struct {
	*change
	before uint64
	done   Expired
	drop   []Record
	keep   [][]byte
}

func (e *expiry) run(ctx context.Context) error {
	if err := e.choose(); err != nil {
		return err
	}
	if len(e.drop) == 0 {
		if e.healed {
			return e.write()
		}
		return nil
	}
	// As in Cyrus: mark the records, unlink the files, drop the records. A
	// marked record may have lost its file already, while reconstruct would
	// take a file without a record for new mail.
	if err := e.mark(); err != nil {
		return err
	}
	if err := e.unlink(ctx); err != nil {
		return err
	}
	return e.repack()
}

// mark notes on disk that the chosen messages' files may be gone. Nothing that
// clients see changes, and so no modseq does.
func (e *expiry) mark() error {
	if len(e.altered) == 0 {
		return nil
	}
	e.x.header.Options |= OptionNeedsUnlink | OptionNeedsRepack
	if err := e.write(); err != nil {
		return errors.Join(err, e.abandon(e.restore()))
	}
	e.altered, e.old, e.new = nil, nil, nil
	return e.x.header.encode(e.x.layout, e.x.path, e.x.raw[:])
}

func (e *expiry) choose() error {
	l := e.x.layout
	return e.m.store.scan(e.x, func(i uint64, b []byte) error {
		r := l.decodeRecord(b)
		expunged := r.Flags&FlagExpunged != 0
		if expunged && (r.Flags&FlagUnlinked != 0 || r.LastUpdated <= e.before) {
			e.drop = append(e.drop, r)
			if r.Flags&FlagUnlinked != 0 {
				return nil
			}
			r.Flags |= FlagUnlinked
			if l.minor >= 13 {
				r.Flags |= FlagNeedsCleanup
			}
			return e.alter(i, b, &r)
		}
		if expunged {
			e.done.Kept++
		}
		e.keep = append(e.keep, append([]byte(nil), b...))
		return nil
	})
}

func (e *expiry) unlink(ctx context.Context) error {
	s := e.m.store
	for i := range e.drop {
		r := &e.drop[i]
		for _, archived := range []bool{false, true} {
			path, err := s.conf.MessagePath(e.m.place, r.UID, archived)
			if err != nil {
				return err
			}
			if err := s.disk.remove(path); err != nil {
				return err
			}
		}
		e.done.Messages++
		e.done.Octets += int64(r.Size)
	}
	return e.dropAnnotations(ctx)
}

func (e *expiry) dropAnnotations(ctx context.Context) error {
	s := e.m.store
	path, err := s.conf.Path(e.m.place, imapdconf.AnnotationsFile)
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err := s.disk.step("annotations", path); err != nil {
		return err
	}
	dropped := make(map[uint32]bool, len(e.drop))
	for i := range e.drop {
		dropped[e.drop[i].UID] = true
	}
	db := imapdconf.Database{Backend: s.conf.Databases.Annotation, Path: path}
	var keys [][]byte
	err = cyrusdb.View(ctx, db, func(r cyrusdb.Reader) error {
		return r.Range(nil, func(key, _ []byte) error {
			if uid, _, _, ok := splitAnnotationKey(key); ok && dropped[uid] {
				keys = append(keys, append([]byte(nil), key...))
			}
			return nil
		})
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	return cyrusdb.Update(ctx, db, func(tx cyrusdb.Tx) error {
		for _, key := range keys {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// repack writes index and cache anew under the next generation, and puts them
// into place: first the index, then the cache.
func (e *expiry) repack() error {
	h := &e.x.header
	h.Generation++
	h.Records = uint64(len(e.keep))
	h.Leaked = 0
	h.Options &^= OptionNeedsUnlink | OptionNeedsRepack
	h.LastRepack, h.FirstExpunged = e.now, 0
	for i := range e.drop {
		if r := &e.drop[i]; r.ModSeq > h.DeletedModSeq {
			h.DeletedModSeq, h.ChangesEpoch = r.ModSeq, r.LastUpdated
		}
	}
	cachePath, err := e.copyCache()
	if err != nil {
		return err
	}
	b := make([]byte, 0, e.x.offset(h.Records))
	b = append(b, e.x.raw[:e.x.layout.headerSize]...)
	for _, record := range e.keep {
		r := e.x.layout.decodeRecord(record)
		if r.Flags&FlagExpunged != 0 && (h.FirstExpunged == 0 || r.LastUpdated < h.FirstExpunged) {
			h.FirstExpunged = r.LastUpdated
		}
		b = append(b, record...)
	}
	if err := h.encode(e.x.layout, e.x.path, b); err != nil {
		return err
	}
	// The journal makes a kill between the two known, and the second is done then.
	if err := e.forceJournal(b); err != nil {
		return err
	}
	if err := e.m.replaceMeta(imapdconf.IndexFile, b); err != nil {
		return err
	}
	if cachePath != "" {
		if err := e.m.store.disk.rename(cachePath+".NEW", cachePath); err != nil {
			return err
		}
	}
	return e.dropJournal()
}

// copyCache writes cyrus.cache.NEW with the records that are kept, and their
// new places into e.keep; "" when there is no cache. A cache record that is
// not what the index says is left out: Cyrus parses that message again.
func (e *expiry) copyCache() (path string, err error) {
	s := e.m.store
	old, err := e.m.openCache(imapdconf.CacheFile)
	if old == nil || err != nil {
		return "", err
	}
	defer old.close()
	if path, err = s.conf.Path(e.m.place, imapdconf.CacheFile); err != nil {
		return "", err
	}
	archive, err := s.conf.Path(e.m.place, imapdconf.ArchiveCacheFile)
	if err != nil {
		return "", err
	}
	f, err := s.disk.create(path+".NEW", s.fileMode())
	if err != nil {
		return "", err
	}
	defer f.Close()
	out := &blockWriter{disk: &s.disk, f: f}
	if err := out.write(binary.BigEndian.AppendUint32(nil, uint32(e.x.header.Generation))); err != nil {
		return "", err
	}
	var buf []byte
	for _, record := range e.keep {
		r := e.x.layout.decodeRecord(record)
		if r.Flags&FlagArchived != 0 && archive != path {
			continue // what it points to is in the other file, which stays
		}
		octets := old.record(&r, buf)
		r.CacheOffset = uint64(out.end())
		if octets == nil {
			r.CacheOffset, r.CacheCRC, r.CacheVersion = 0, 0, 0
		} else {
			buf = octets
		}
		if err := out.write(octets); err != nil {
			return "", err
		}
		if err := e.x.layout.encodeRecord(e.x.path, &r, record); err != nil {
			return "", err
		}
	}
	if err := out.flush(); err != nil {
		return "", err
	}
	return path, s.disk.sync(f)
}

// A blockWriter gathers small pieces.
type blockWriter struct {
	disk   *disk
	f      *ofd.File
	buf    []byte
	before int64 // octets written
}

func (w *blockWriter) end() int64 { return w.before + int64(len(w.buf)) }

func (w *blockWriter) write(b []byte) error {
	w.buf = append(w.buf, b...)
	if len(w.buf) < blockSize {
		return nil
	}
	return w.flush()
}

func (w *blockWriter) flush() error {
	err := w.disk.writeAt(w.f, w.buf, w.before)
	w.before += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

// Undelete brings back messages that were expunged and whose files are still
// there, as messages with new UIDs: one that clients believe gone may not come
// back under its old one (RFC 3501 section 2.3.1.1). It tells their number.
// Flags come back, \Deleted excepted; annotations do not.
func (s *Store) Undelete(ctx context.Context, mailbox string, since time.Time) (int, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return 0, err
	}
	m, c, err := s.change(ctx, name)
	if err != nil {
		return 0, err
	}
	defer m.release()
	back, err := c.undelete(uint64(max(since.Unix(), 0)))
	if err != nil || len(back) == 0 {
		return 0, told(err)
	}
	if err := c.journalNames(); err != nil {
		return 0, errors.Join(told(err), c.dropJournal())
	}
	files, err := s.linkAll(back)
	if err == nil {
		err = c.commit(ctx)
	}
	if err != nil {
		return 0, errors.Join(told(err), c.giveUp(files...))
	}
	return len(files), nil
}

// A returning message's file gets a new name besides its old.
type returning struct{ from, to string }

// linkAll gives the names, durably.
func (s *Store) linkAll(back []returning) (done []string, err error) {
	for _, r := range back {
		if err := s.disk.remove(r.to); err != nil {
			return done, fmt.Errorf("cyrus: a stale file: %w", err)
		}
		if err := s.disk.link(r.from, r.to); err != nil {
			return done, err
		}
		done = append(done, r.to)
	}
	var dirs []string // two, where messages are archived
	for _, path := range done {
		if dir := filepath.Dir(path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := s.disk.syncDir(dir); err != nil {
			return done, err
		}
	}
	return done, nil
}

// undelete notes the changes of all records, old and new.
func (c *change) undelete(since uint64) (files []returning, err error) {
	var back []Record
	err = c.m.store.scan(c.x, func(i uint64, b []byte) error {
		r := c.x.layout.decodeRecord(b)
		if r.Flags&FlagExpunged == 0 || r.Flags&FlagUnlinked != 0 || r.LastUpdated < since {
			return nil
		}
		path, err := c.m.store.conf.MessagePath(c.m.place, r.UID, r.Flags&FlagArchived != 0)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(path); err != nil {
			return nil // unlinked by somebody else
		}
		back = append(back, r)
		r.Flags |= FlagUnlinked | FlagNeedsCleanup
		c.x.header.Options |= OptionNeedsUnlink
		c.touch(&r)
		return c.alter(i, b, &r)
	})
	for i := range back {
		if err != nil {
			break
		}
		var f returning
		f, err = c.comeBack(&back[i])
		files = append(files, f)
	}
	return files, err
}

func (c *change) comeBack(r *Record) (f returning, err error) {
	conf := c.m.store.conf
	if f.from, err = conf.MessagePath(c.m.place, r.UID, r.Flags&FlagArchived != 0); err != nil {
		return f, err
	}
	fresh, err := c.nextRecord()
	if err != nil {
		return f, err
	}
	uid, modSeq, updated := fresh.UID, fresh.ModSeq, fresh.LastUpdated
	*fresh = *r
	fresh.UID, fresh.ModSeq, fresh.LastUpdated, fresh.CreatedModSeq = uid, modSeq, updated, modSeq
	fresh.Flags &^= FlagExpunged | FlagDeleted | FlagNeedsCleanup
	fresh.SaveDate = c.now
	if f.to, err = conf.MessagePath(c.m.place, uid, r.Flags&FlagArchived != 0); err != nil {
		return f, err
	}
	return f, c.add(fresh)
}
