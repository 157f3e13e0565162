package cyrus

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A change is one writing of a mailbox under its locks: records altered in
// place or added, then the header. Nothing is written before commit.
type change struct {
	m     *mailbox
	x     *indexFile
	head  *MailboxHeader
	tally tally
	now   uint64
	added bool // records were added: for the sync log

	journaled, healed bool // see forceJournal, heal
	unrestored        bool // a failed write could not be taken back
	named             bool // files have got the names of new messages
	quotaNote         quotaNote

	annotations map[uint32]annotated
	quota       cyrusdb.QuotaDelta

	// Altered records, ascending, and their octets before and after.
	altered  []uint64
	old, new []byte
}

// newChange reads what a change needs besides the index.
func (s *Store) newChange(m *mailbox, x *indexFile) (*change, error) {
	if err := s.changeable(m, x); err != nil {
		return nil, err
	}
	return s.headerChange(m, x)
}

// headerChange is a change of the index's header alone, which touches neither
// conversations nor quota.
func (s *Store) headerChange(m *mailbox, x *indexFile) (*change, error) {
	if err := s.headerChangeable(m, x); err != nil {
		return nil, err
	}
	head, err := m.readHeader(x)
	if err != nil {
		return nil, err
	}
	return &change{m: m, x: x, head: head, tally: newTally(x.layout, head.Flags), now: uint64(s.now().Unix())}, nil
}

// loadAnnotations reads them unless that has been done.
func (c *change) loadAnnotations(ctx context.Context) (err error) {
	if c.annotations == nil {
		c.annotations, err = c.m.annotations(ctx, c.x.layout)
	}
	return err
}

// restart forgets what has been noted, and goes on with the next modseq after
// highest.
func (c *change) restart(highest uint64) {
	_, c.x.header, _ = decodeHeader(c.x.path, c.x.raw[:]) // was read before
	c.x.header.HighestModSeq = max(c.x.header.HighestModSeq, highest)
	c.altered, c.old, c.new, c.quota = nil, nil, nil, cyrusdb.QuotaDelta{}
}

// changeable tells why a mailbox must not be changed here.
func (s *Store) changeable(m *mailbox, x *indexFile) error {
	if err := s.headerChangeable(m, x); err != nil {
		return err
	}
	switch {
	case s.conf.Conversations:
		return refuseChange(m, "conversations is set in imapd.conf: a change would have to be written to conversations.db")
	case s.conf.Databases.Quota.Backend != "quotalegacy":
		return refuseChange(m, "quota_db %s is not written", s.conf.Databases.Quota.Backend)
	}
	return nil
}

// headerChangeable tells why not even the index's header may be.
func (s *Store) headerChangeable(m *mailbox, x *indexFile) error {
	switch {
	case s.mode == ReadOnly:
		return refuseChange(m, "the spool is served read-only")
	case s.conf.ReadOnly:
		return refuseChange(m, "readonly is set in imapd.conf")
	case !x.layout.writable:
		return refuseChange(m, "index version %d is only read", x.layout.minor)
	case s.conf.StatusCache && s.conf.Databases.StatusCache.Backend != "twoskip":
		return refuseChange(m, "statuscache_db %s is not written", s.conf.Databases.StatusCache.Backend)
	}
	return nil
}

func refuseChange(m *mailbox, format string, args ...any) error {
	return fmt.Errorf("cyrus: %w: %s: %s", mailstore.ErrReadOnly, m.place.Name, fmt.Sprintf(format, args...))
}

// readHeader reads cyrus.header, and compares it with its CRC in the index.
func (m *mailbox) readHeader(x *indexFile) (*MailboxHeader, error) {
	path, err := m.store.conf.Path(m.place, imapdconf.HeaderFile)
	if err != nil {
		return nil, told(err)
	}
	b, err := readSmall(path, maxMailboxHeader)
	if err != nil {
		return nil, err
	}
	h, err := ParseMailboxHeader(path, b)
	if err != nil {
		return nil, err
	}
	// 0 is none: an index that "reconstruct -V" has made of one of Cyrus 2.3 has it
	// until the file is written the next time.
	if x.layout.hasCRC() && x.header.HeaderFileCRC != 0 {
		sum := uint64(crc32.ChecksumIEEE(b))
		if sum != x.header.HeaderFileCRC {
			return nil, fault(path, -1, "CRC in the index is %08x, the file's octets give %08x", x.header.HeaderFileCRC, sum)
		}
	}
	if m.place.UniqueID != "" && h.UniqueID != "" && h.UniqueID != m.place.UniqueID {
		return nil, fault(path, -1, "uniqueid %q, mailboxes.db says %q", h.UniqueID, m.place.UniqueID)
	}
	return h, nil
}

func readSmall(path string, limit int64) ([]byte, error) {
	f, err := ofd.Open(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault(path, -1, "there is no such file")
	}
	if err != nil {
		return nil, told(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, told(err)
	}
	if info.Size > limit {
		return nil, fault(path, limit, "longer than %d octets", limit)
	}
	b := make([]byte, info.Size)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF { //nolint:errorlint // a File says it plainly
		return nil, told(err)
	}
	return b[:n], nil
}

// reserve makes room for n altered records.
func (c *change) reserve(n int) {
	c.altered = slices.Grow(c.altered, n)
	c.old = slices.Grow(c.old, n*c.x.layout.recordSize)
	c.new = slices.Grow(c.new, n*c.x.layout.recordSize)
}

// alter notes a new state of record i, whose octets are b now.
func (c *change) alter(i uint64, b []byte, r *Record) error {
	c.altered = append(c.altered, i)
	c.old = append(c.old, b...)
	start := len(c.new)
	c.new = append(c.new, b...)
	return c.x.layout.encodeRecord(c.x.path, r, c.new[start:])
}

// touch gives a record the next modseq, by which other programs see that it
// has changed.
func (c *change) touch(r *Record) {
	c.x.header.HighestModSeq++
	r.ModSeq, r.LastUpdated = c.x.header.HighestModSeq, c.now
}

// commit writes everything: the quota, the records, the header last, and one
// fsync of the index. After an error the files are as they were, as far as the
// disk lets them be.
func (c *change) commit(ctx context.Context) error {
	if err := c.m.announce(ctx, c.added); err != nil {
		return err
	}
	quota, err := c.openQuota(ctx)
	if err != nil {
		return err
	}
	if quota != nil {
		defer quota.Close()
		if err := c.commitQuota(quota); err != nil {
			return errors.Join(told(err), c.abandon(c.takeBack(quota)))
		}
	}
	if err := c.write(); err != nil {
		return errors.Join(told(err), c.abandon(errors.Join(c.restore(), c.takeBack(quota))))
	}
	return nil
}

// abandon ends a change that failed and was taken back, unless that failed too:
// then the journal stays for whoever opens the mailbox next. So it does while
// files have names that are still to go.
func (c *change) abandon(err error) error {
	c.unrestored = err != nil
	if c.unrestored || c.named {
		return err
	}
	return c.dropJournal()
}

// openQuota locks the quota root's file and adds the change to it; nil when
// the mailbox has none, or nothing changes in it.
func (c *change) openQuota(ctx context.Context) (*cyrusdb.QuotaTx, error) {
	if c.head.QuotaRoot == "" || c.quota == (cyrusdb.QuotaDelta{}) {
		return nil, nil
	}
	path, err := c.m.quotaPath(c.head.QuotaRoot)
	if err != nil {
		return nil, err
	}
	if err := c.m.store.disk.step("quota", path); err != nil {
		return nil, err
	}
	q, err := cyrusdb.OpenQuota(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		// Cyrus goes on without one too.
		c.m.store.log.Warn("quota root is missing", "mailbox", c.m.place.Name.Intname(), "root", c.head.QuotaRoot)
		return nil, nil
	}
	if err != nil {
		return nil, told(err)
	}
	if q.Over(c.quota) {
		return nil, errors.Join(fmt.Errorf("cyrus: %w: %s", mailstore.ErrOverQuota, c.head.QuotaRoot), q.Close())
	}
	q.Add(c.m.place.Name.Intname(), c.quota)
	return q, nil
}

func (m *mailbox) quotaPath(root string) (string, error) {
	q, err := imapdconf.ParseQuotaRoot(root)
	if err != nil {
		return "", fault(m.path, -1, "quota root %q is not a mailbox name", root)
	}
	path, err := m.store.conf.QuotaPath(q)
	return path, told(err)
}

// write stores runs of adjacent records, ascending, each by one call.
func (c *change) write() error {
	d := &c.m.store.disk
	raw := c.x.raw
	if err := c.x.header.encode(c.x.layout, c.x.path, raw[:]); err != nil {
		return err
	}
	if err := c.writeJournal(raw[:]); err != nil {
		return err
	}
	if err := c.writeRuns(c.new); err != nil {
		return err
	}
	if err := d.writeAt(c.x.f, raw[:c.x.layout.headerSize], 0); err != nil {
		return err
	}
	if err := d.sync(c.x.f); err != nil {
		return err
	}
	if err := c.dropJournal(); err != nil {
		// The change is on disk, and the journal says what the index says.
		c.m.store.log.Warn("journal not removed", "mailbox", c.m.place.Name.Intname(), "error", err)
	}
	return nil
}

func (c *change) writeRuns(octets []byte) error {
	width := uint64(c.x.layout.recordSize)
	for from := 0; from < len(c.altered); {
		to := from + 1
		for to < len(c.altered) && c.altered[to] == c.altered[to-1]+1 {
			to++
		}
		b := octets[uint64(from)*width : uint64(to)*width]
		if err := c.m.store.disk.writeAt(c.x.f, b, c.x.offset(c.altered[from])); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// restore writes the former octets back after a failure.
func (c *change) restore() error {
	d := &c.m.store.disk
	err := c.writeRuns(c.old)
	err = errors.Join(err, d.writeAt(c.x.f, c.x.raw[:c.x.layout.headerSize], 0))
	if info, statErr := c.x.f.Stat(); statErr == nil && info.Size > c.x.size {
		err = errors.Join(err, d.truncate(c.x.f, c.x.size))
	}
	return errors.Join(err, d.sync(c.x.f))
}
