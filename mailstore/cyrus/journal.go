package cyrus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A journal lies in the state directory while records of an index are altered
// in place: the octets before. When it is found later, a kill has cut the
// change off, perhaps within a record, and the records are put back as they
// were. So is it while a message is added, from before its file has its name:
// a file without a record is taken away, which reconstruct would take for mail.
// It is not made durable: after a loss of power what it says is not relied on,
// and heal does what can be done.
//
// The file stays and is empty between changes: to make one and to remove it was
// a sixth of what a delivery cost (BenchmarkAppend). When more becomes known of a
// change, a second journal follows the first: the last one that is whole counts.
//
//	magic 8 | length of all 4 | width of records 4 | length of header 4 | length of quota's part 4 |
//	header before | header after | quota's part | (number 8, record before)* | CRC 4
type journal struct {
	before, after []byte
	quota         quotaNote
	numbers       []uint64
	records       []byte
	width         int
}

const (
	journalMagic = "kpopjrn3"
	journalHead  = 24
	maxJournal   = 1 << 30
)

func (m *mailbox) journalPath() string { return m.store.sizePath(m.holdKey()) + ".journal" }

// isTorn reports whether a change was cut off.
func (m *mailbox) isTorn() bool {
	var stat unix.Stat_t
	return unix.Lstat(m.journalPath(), &stat) == nil && stat.Size > 0
}

// encode gives the journal's octets.
func (j *journal) encode() []byte {
	quota := j.quota.append(nil)
	length := journalHead + len(j.before) + len(j.after) + len(quota) + 8*len(j.numbers) + len(j.records) + crc32.Size
	b := append(make([]byte, 0, length), journalMagic...)
	for _, n := range []int{length, j.width, len(j.before), len(quota)} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	b = append(append(append(b, j.before...), j.after...), quota...)
	for i, n := range j.numbers {
		b = binary.BigEndian.AppendUint64(b, n)
		b = append(b, j.records[i*j.width:(i+1)*j.width]...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// lastJournal is the last one in b that is whole.
func lastJournal(b []byte) (last journal, ok bool) {
	for len(b) >= journalHead+crc32.Size {
		length := uint64(binary.BigEndian.Uint32(b[len(journalMagic):]))
		if length > uint64(len(b)) {
			break
		}
		j, whole := parseJournal(b[:length])
		if !whole {
			break
		}
		last, ok, b = j, true, b[length:]
	}
	return last, ok
}

func parseJournal(b []byte) (j journal, ok bool) {
	if len(b) < journalHead+crc32.Size || string(b[:len(journalMagic)]) != journalMagic {
		return j, false
	}
	body := b[:len(b)-crc32.Size]
	if binary.BigEndian.Uint32(b[len(body):]) != crc32.ChecksumIEEE(body) {
		return j, false
	}
	length, width := binary.BigEndian.Uint32(body[8:]), binary.BigEndian.Uint32(body[12:])
	header, quota := binary.BigEndian.Uint32(body[16:]), binary.BigEndian.Uint32(body[20:])
	rest := body[journalHead:]
	if uint64(length) != uint64(len(b)) || width == 0 || width > maxHeaderSize || header > maxHeaderSize ||
		uint64(len(rest)) < 2*uint64(header)+uint64(quota) {
		return j, false
	}
	j.width = int(width)
	j.before, j.after, rest = rest[:header], rest[header:2*header], rest[2*header:]
	if j.quota, ok = parseQuotaNote(rest[:quota]); !ok {
		return j, false
	}
	if rest = rest[quota:]; len(rest)%(8+j.width) != 0 {
		return j, false
	}
	for ; len(rest) > 0; rest = rest[8+j.width:] {
		j.numbers = append(j.numbers, binary.BigEndian.Uint64(rest))
		j.records = append(j.records, rest[8:8+j.width]...)
	}
	return j, true
}

// writeJournal comes before the first octet of the index is written, unless
// that has been done already. What is only added needs none for the index: it
// does not count until the header says so.
func (c *change) writeJournal(after []byte) error {
	if c.journaled || len(c.altered) == 0 || c.altered[0] >= c.x.recordsBefore() {
		return nil
	}
	return c.forceJournal(after)
}

// journalNames comes before files are given the names of new messages, when all
// that the change will write to the index is known.
func (c *change) journalNames() error {
	c.named = true
	return c.journal()
}

// journal notes the change as it is known now.
func (c *change) journal() error {
	raw := c.x.raw
	if err := c.x.header.encode(c.x.layout, c.x.path, raw[:]); err != nil {
		return err
	}
	return c.forceJournal(raw[:])
}

func (c *change) forceJournal(after []byte) error {
	size, width := c.x.layout.headerSize, c.x.layout.recordSize
	existing, _ := slices.BinarySearch(c.altered, c.x.recordsBefore())
	j := journal{
		before: c.x.raw[:size], after: after[:size], quota: c.quotaNote, width: width,
		numbers: c.altered[:existing], records: c.old[:existing*width],
	}
	c.journaled = true
	return c.m.appendJournal(j.encode())
}

// appendJournal writes behind what is there: the change's own journal as it was
// known before, or one that undo has left for heal. A kill within it leaves that.
func (m *mailbox) appendJournal(b []byte) (err error) {
	d := &m.store.disk
	if m.journal == nil {
		err = m.store.inState(func() (err error) {
			m.journal, err = d.open(m.journalPath(), 0o600)
			return err
		})
		if err != nil {
			return err
		}
	}
	info, err := m.journal.Stat()
	if err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return d.writeAt(m.journal, b, info.Size)
}

func (c *change) dropJournal() error {
	switch d := &c.m.store.disk; {
	case c.journaled && c.m.journal != nil:
		return d.truncate(c.m.journal, 0)
	case c.healed:
		return d.remove(c.m.journalPath())
	}
	return nil
}

// recover undoes a change that was cut off.
func (s *Store) recover(ctx context.Context, name imapdconf.Name) error {
	m, err := s.lockMailbox(ctx, name, toChange)
	if err != nil {
		return err
	}
	defer m.release()
	return told(m.undo())
}

// undo puts an index back as the journal has it, under the locks of a change.
// It leaves the journal, for heal, when another program has written since.
func (m *mailbox) undo() error {
	b, err := readSmall(m.journalPath(), maxJournal)
	if err != nil {
		return err
	}
	d := &m.store.disk
	j, ok := lastJournal(b)
	if !ok {
		return d.remove(m.journalPath()) // cut off before the index was touched
	}
	head := make([]byte, maxHeaderSize) // of a version with a longer one, perhaps
	n, err := m.index.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head = head[:n]
	_, now, err := decodeHeader(m.path, head)
	switch {
	case n > 0 && bytes.HasPrefix(head, j.after):
		if err := m.finishRename(now.Generation); err != nil {
			return err
		}
		return d.remove(m.journalPath())
	case err == nil && !bytes.HasPrefix(head, j.before):
		return m.undoBehind(&now, &j)
	case n < len(j.before):
		return err // somebody else's doing, and reconstruct's to mend
	}
	m.store.log.Warn("a change that was cut off is undone", "mailbox", m.place.Name.Intname())
	for i, n := range j.numbers {
		at := int64(len(j.before)) + int64(n)*int64(j.width)
		if err := d.writeAt(m.index, j.records[i*j.width:(i+1)*j.width], at); err != nil {
			return err
		}
	}
	if err := m.undoHeader(j.before); err != nil {
		return err
	}
	if _, before, err := decodeHeader(m.path, j.before); err == nil {
		if err := m.removeAdded(&before, &j); err != nil {
			return err
		}
	}
	if err := errors.Join(d.sync(m.index), m.undoQuota(&j.quota)); err != nil {
		return err
	}
	return d.remove(m.journalPath())
}

// undoBehind is undo when another program has written the index since, whose
// header is now. Altered records are heal's to account for. Messages that were being
// added are all in the index by now, or none is: when they are, or others have
// got their UIDs, the quota counts them.
func (m *mailbox) undoBehind(now *IndexHeader, j *journal) error {
	if len(j.numbers) > 0 {
		return nil
	}
	if _, after, err := decodeHeader(m.path, j.after); err == nil && now.LastUID < after.LastUID {
		if err := errors.Join(m.removeAdded(now, j), m.undoQuota(&j.quota)); err != nil {
			return err
		}
	}
	return m.store.disk.remove(m.journalPath())
}

// removeAdded removes the files of messages that the journal's change was adding
// and the index does not know: their UIDs are above its last. Nobody else can be
// adding them now, under the index's exclusive lock. The UIDs of what is added in
// one change follow each other, though perhaps not the last before.
func (m *mailbox) removeAdded(now *IndexHeader, j *journal) error {
	_, before, err1 := decodeHeader(m.path, j.before)
	_, after, err2 := decodeHeader(m.path, j.after)
	if err1 != nil || err2 != nil || after.Records < before.Records || after.Records-before.Records > after.LastUID {
		return nil // nothing can be told from it
	}
	first := max(now.LastUID, after.LastUID-(after.Records-before.Records)) + 1
	for uid := first; uid <= after.LastUID; uid++ {
		for _, archived := range []bool{false, true} {
			path, err := m.store.conf.MessagePath(m.place, uint32(uid), archived)
			if err != nil {
				return err
			}
			if err := m.store.disk.remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// undoHeader writes the former header, with the CRC of the cyrus.header that is
// there: rewriteHeader replaces that file first.
func (m *mailbox) undoHeader(before []byte) error {
	l, h, err := decodeHeader(m.path, before)
	if err != nil {
		return err
	}
	path, err := m.store.conf.Path(m.place, imapdconf.HeaderFile)
	if err != nil {
		return err
	}
	octets, err := readSmall(path, maxMailboxHeader)
	if err != nil {
		return err
	}
	if _, err := ParseMailboxHeader(path, octets); err != nil {
		return err
	}
	raw := bytes.Clone(before)
	if sum := uint64(crc32.ChecksumIEEE(octets)); sum != h.HeaderFileCRC {
		h.HeaderFileCRC = sum
		if err := h.encode(l, m.path, raw); err != nil {
			return err
		}
	}
	return m.store.disk.writeAt(m.index, raw, 0)
}

// finishRename completes a repack that was cut off between its two renames:
// the index is of the next generation, and so is the cache's new file.
func (m *mailbox) finishRename(generation uint64) error {
	cache, err := m.openCache(imapdconf.CacheFile)
	if cache == nil || err != nil {
		return err
	}
	cache.close()
	if uint64(cache.generation) == generation {
		return nil
	}
	path, err := m.store.conf.Path(m.place, imapdconf.CacheFile)
	if err != nil {
		return err
	}
	b := make([]byte, 4)
	f, err := os.OpenFile(path+".NEW", openFlags, 0)
	if err != nil {
		return nil // nothing to put right with; records without a cache will do
	}
	_, err = f.ReadAt(b, 0)
	f.Close()
	if err != nil || uint64(binary.BigEndian.Uint32(b)) != generation {
		return nil
	}
	return m.store.disk.rename(path+".NEW", path)
}
