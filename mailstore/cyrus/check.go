package cyrus

import (
	"bufio"
	"context"
	"crypto/sha1"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// Check recomputes all that a mailbox says of itself and tells every fault. It
// changes nothing; the mailbox is locked for reading meanwhile. The error is
// for a mailbox that could not be examined.
func (s *Store) Check(ctx context.Context, mailbox string) ([]FaultError, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return nil, err
	}
	c := &checker{store: s}
	c.m, err = s.lockMailbox(ctx, name, toRead)
	if err == nil {
		defer c.m.release()
		err = c.run(ctx)
	}
	if err = c.note(err); err != nil {
		return nil, told(err)
	}
	return c.faults, nil
}

// A checker collects a mailbox's faults.
type checker struct {
	store       *Store
	m           *mailbox
	x           *indexFile
	head        *MailboxHeader
	annotations map[uint32]annotated
	cache       *cacheFile
	archive     *cacheFile // of archived messages
	faults      []FaultError

	counted IndexHeader // what the header should be
	tally   tally
	octets  int64 // of annotations
	uids    map[uint32]bool
}

// note keeps a fault and gives back any other error.
func (c *checker) note(err error) error {
	if f := (*FaultError)(nil); errors.As(err, &f) {
		c.faults = append(c.faults, *f)
		return nil
	}
	return err
}

func (c *checker) faulty(path string, offset int64, format string, args ...any) {
	c.faults = append(c.faults, *fault(path, offset, format, args...))
}

func (c *checker) run(ctx context.Context) (err error) {
	if c.x, err = c.m.readIndex(); err != nil {
		return err
	}
	if c.head, err = c.m.readHeader(c.x); err != nil {
		c.head = &MailboxHeader{}
		if err = c.note(err); err != nil {
			return err
		}
	}
	if c.annotations, err = c.m.annotations(ctx, c.x.layout); c.note(err) != nil {
		return err
	}
	for which, cache := range map[imapdconf.File]**cacheFile{imapdconf.CacheFile: &c.cache, imapdconf.ArchiveCacheFile: &c.archive} {
		if *cache, err = c.m.openCache(which); c.note(err) != nil {
			return err
		}
		if *cache != nil {
			defer (*cache).close()
		}
	}
	c.tally = newTally(c.x.layout, c.head.Flags)
	c.uids = make(map[uint32]bool)
	if err := c.records(); err != nil {
		return err
	}
	c.counters()
	c.entry()
	if err := c.orphans(); err != nil {
		return err
	}
	return c.quota(ctx)
}

// records examines each record by itself; one that is damaged does not hide
// the next.
func (c *checker) records() error {
	l := c.x.layout
	r := bufio.NewReaderSize(io.NewSectionReader(c.x.f, int64(l.headerSize), c.x.size-int64(l.headerSize)), blockSize)
	b := make([]byte, l.recordSize)
	last := uint32(0)
	for i := range c.x.header.Records {
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if err := l.checkRecord(c.x.path, c.x.offset(i), b); err != nil {
			if err := c.note(err); err != nil {
				return err
			}
			continue
		}
		record := l.decodeRecord(b)
		if record.UID <= last {
			c.faulty(c.x.path, c.x.offset(i), "UID %d after %d", record.UID, last)
		}
		last = max(last, record.UID)
		if err := c.record(&record, c.x.offset(i)); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) record(r *Record, offset int64) error {
	h := &c.counted
	c.uids[r.UID] = true
	c.tally.account(h, r, 1)
	h.HighestModSeq, h.LastUID = max(h.HighestModSeq, r.ModSeq), max(h.LastUID, uint64(r.UID))
	if r.CacheOffset != 0 && r.CacheCRC != 0 {
		c.cacheRecord(r, offset)
	}
	if r.Flags&FlagExpunged != 0 {
		// cyr_expire counts those no more that it has marked to be dropped.
		if r.Flags&FlagUnlinked == 0 && (h.FirstExpunged == 0 || r.LastUpdated < h.FirstExpunged) {
			h.FirstExpunged = r.LastUpdated
		}
		return nil
	}
	if a, found := c.annotations[r.UID]; found {
		h.SyncAnnot ^= uint64(a.sum)
		c.octets += a.octets
	}
	return c.message(r)
}

func (c *checker) cacheRecord(r *Record, offset int64) {
	at, cache := offset+int64(c.x.layout.record.cacheOffset.at), c.cache
	if r.Flags&FlagArchived != 0 {
		cache = c.archive
	}
	switch {
	case cache == nil:
		c.faulty(c.x.path, at, "UID %d has a cache record, and there is no cache", r.UID)
	case cache.record(r, nil) == nil:
		c.faulty(cache.f.Name(), int64(r.CacheOffset), "cache record of UID %d is damaged", r.UID)
	}
}

// message compares a message's file with its record.
func (c *checker) message(r *Record) error {
	path, err := c.store.conf.MessagePath(c.m.place, r.UID, r.Flags&FlagArchived != 0)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, openFlags, 0)
	if err != nil {
		c.faulty(path, -1, "message cannot be opened: %v", errors.Unwrap(err))
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		c.faulty(path, -1, "not a regular file")
		return nil
	}
	if uint64(info.Size()) != r.Size {
		c.faulty(path, -1, "%d octets, its record says %d", info.Size(), r.Size)
		return nil
	}
	if c.x.layout.record.guid == 0 {
		return nil
	}
	sum := sha1.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if guid := GUID(sum.Sum(nil)); guid != r.GUID {
		c.faulty(path, -1, "its SHA-1 is %s, its record's GUID %s", guid, r.GUID)
	}
	return nil
}

// counters compares the header with what the records give.
func (c *checker) counters() {
	h, l := &c.x.header, c.x.layout
	for _, f := range []struct {
		name      string
		slot      slot
		have, due uint64
	}{
		{"exists", l.header.exists, h.Exists, c.counted.Exists},
		{"quota used", l.header.quotaUsed, h.QuotaUsed, c.counted.QuotaUsed},
		{"deleted", l.header.deleted, h.Deleted, c.counted.Deleted},
		{"answered", l.header.answered, h.Answered, c.counted.Answered},
		{"flagged", l.header.flagged, h.Flagged, c.counted.Flagged},
		{"unseen", l.header.unseen, h.Unseen, c.counted.Unseen},
		{"sync CRC", l.header.syncBasic, h.SyncBasic, c.counted.SyncBasic},
		{"annotations' quota", l.header.quotaAnnot, h.QuotaAnnot, uint64(c.octets)},
	} {
		if f.slot.width > 0 && f.have != f.due && l.hasCRC() {
			c.faulty(c.x.path, int64(f.slot.at), "%s is %d, the records give %d", f.name, f.have, f.due)
		}
	}
	if l.header.syncAnnot.width > 0 {
		// The sum began at nothing in 2.5 and 3.0.
		if due := c.counted.SyncAnnot; h.SyncAnnot != due && h.SyncAnnot != due^annotBase {
			c.faulty(c.x.path, int64(l.header.syncAnnot.at), "annotation CRC is %08x, the records give %08x or %08x",
				h.SyncAnnot, due^annotBase, due)
		}
	}
	// A repack of Cyrus's leaves the time of what it has dropped.
	if due := c.counted.FirstExpunged; due != 0 && (h.FirstExpunged == 0 || h.FirstExpunged > due) && l.hasCRC() {
		c.faulty(c.x.path, int64(l.header.firstExpunged.at), "first expunged is %d, the records give %d", h.FirstExpunged, due)
	}
	if l.header.highestModSeq.width > 0 && c.counted.HighestModSeq > h.HighestModSeq {
		c.faulty(c.x.path, int64(l.header.highestModSeq.at), "highest modseq is %d, a record has %d",
			h.HighestModSeq, c.counted.HighestModSeq)
	}
	if c.counted.LastUID > h.LastUID {
		c.faulty(c.x.path, int64(l.header.lastUID.at), "last UID is %d, a record has %d", h.LastUID, c.counted.LastUID)
	}
	if c.cache != nil && uint64(c.cache.generation) != h.Generation && l.hasCRC() {
		c.faulty(c.cache.f.Name(), 0, "generation %d, the index is of %d", c.cache.generation, h.Generation)
	}
}

// entry compares the mailbox with its entry in mailboxes.db.
func (c *checker) entry() {
	list := c.store.conf.Databases.Mailboxes.Path
	if v := c.m.entry.UIDValidity; v != 0 && uint64(v) != c.x.header.UIDValidity {
		c.faulty(list, -1, "uidvalidity of %s is %d, its index says %d", c.m.place.Name, v, c.x.header.UIDValidity)
	}
	if c.head.Name != "" && c.head.Name != c.m.place.Name.Intname() {
		c.faulty(list, -1, "%s calls itself %s", c.m.place.Name, c.head.Name)
	}
}

// orphans are files of messages that the index does not know.
func (c *checker) orphans() error {
	dir, err := c.store.conf.Directory(c.m.place, imapdconf.MessageFile)
	if err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Cyrus makes it for the first message where all else is on a metapartition
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		number, isMessage := strings.CutSuffix(f.Name(), ".")
		uid, err := strconv.ParseUint(number, 10, 32)
		if isMessage && err == nil && !c.uids[uint32(uid)] {
			c.faulty(dir+"/"+f.Name(), -1, "no record has this message")
		}
	}
	return nil
}

// quota compares the quota root with the mailboxes it covers, when this one is
// it. They are read one after the other, so mail that comes meanwhile shows as
// a difference.
func (c *checker) quota(ctx context.Context) error {
	root := c.head.QuotaRoot
	if nearest, err := c.store.quotaRootOf(c.m.place.Name); err == nil && nearest != root {
		c.faulty(c.m.path, -1, "quota root is %q, by the quota files it is %q", root, nearest)
	}
	if root == "" || root != c.m.place.Name.Intname() {
		return nil
	}
	path, err := c.m.quotaPath(root)
	if err != nil {
		return c.note(err)
	}
	q, err := cyrusdb.ReadQuota(ctx, path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, cyrusdb.ErrCorrupt) {
		c.faulty(path, -1, "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	used, err := c.covered(ctx, root)
	if err != nil {
		return err
	}
	for i, name := range []string{"storage", "messages", "annotations", "folders"} {
		if used[i] != q.Used[i] {
			c.faulty(path, -1, "%s used is %d, the mailboxes give %d", name, q.Used[i], used[i])
		}
	}
	return nil
}

func (c *checker) covered(ctx context.Context, root string) (used cyrusdb.QuotaDelta, err error) {
	list, err := c.store.below(ctx, c.m.place.Name)
	if err != nil {
		return used, err
	}
	for _, entry := range list {
		if nearest, err := c.store.quotaRootOf(entry.Name); err != nil || nearest != root {
			continue
		}
		h, err := c.headerOf(ctx, entry)
		if err = c.note(err); err != nil {
			return used, err
		}
		used[cyrusdb.QuotaStorage] += int64(h.QuotaUsed)
		used[cyrusdb.QuotaMessages] += int64(h.Exists)
		used[cyrusdb.QuotaAnnotation] += int64(h.QuotaAnnot)
		used[cyrusdb.QuotaFolders]++
	}
	return used, nil
}

// headerOf reads the index header of a mailbox of the same user.
func (c *checker) headerOf(ctx context.Context, e cyrusdb.MailboxEntry) (IndexHeader, error) {
	if e.Name.Equal(c.m.place.Name) {
		return c.x.header, nil
	}
	m := &mailbox{store: c.store, purpose: toRead, entry: e, place: e.Mailbox()}
	defer m.release()
	if err := m.open(ctx); err != nil {
		return IndexHeader{}, err
	}
	x, err := m.readIndex()
	if err != nil {
		return IndexHeader{}, err
	}
	return x.header, nil
}
