package cyrus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
)

// An oddSize is a message that is not stored as it is sent: a line feed in it
// stands alone, or its last line has no end, or a header of it has octets above
// 0x7F (mailstore.EightBiter).
type oddSize struct {
	uid      uint32
	stored   int64 // the file's size
	octets   int64 // as RETR sends it; 0: not known yet
	eightBit bool
}

// A sizeFile is what is kept of a mailbox between sessions: up to which UID
// messages have been read through, and which of them are odd. It is a cache:
// without it, or when anything about it is wrong, messages are read again.
//
//	magic 8 | uidvalidity 4 | through 4 | modseq 8 | count 4 | (uid 4, stored 8, octets 8, 8-bit 1)* | CRC 4
type sizeFile struct {
	uidValidity uint32
	through     uint32
	modSeq      uint64 // when it was written; a spool from a backup has a lower one
	odd         []oddSize
}

const (
	sizeMagic = "kpopoct2"
	sizeHead  = 28
	sizeEntry = 21

	maxSizeFile = 256 << 20
)

func (s *Store) sizePath(key uint64) string {
	b := append(make([]byte, 0, len(s.stateDir)+len("/octets/")+16+len(".journal")), s.stateDir...)
	return string(appendHex(appendHex(append(b, "/octets/"...), uint32(key>>32)), uint32(key)))
}

// loadSizes gives what is known of a mailbox.
func (s *Store) loadSizes(key uint64) (z sizeFile, ok bool) {
	if z, ok = s.plain.load(key); ok {
		return z, true
	}
	if z, ok = s.readSizes(key); ok {
		s.plain.store(key, &z)
	}
	return z, ok
}

func (s *Store) readSizes(key uint64) (z sizeFile, ok bool) {
	fd, err := openFile(s.sizePath(key))
	if err != nil {
		return z, false
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Size > maxSizeFile {
		return z, false
	}
	b := make([]byte, stat.Size)
	if err := readFull(fd, b, 0); err != nil {
		return z, false
	}
	return parseSizes(b)
}

func parseSizes(b []byte) (z sizeFile, ok bool) {
	if len(b) < sizeHead+4 || string(b[:len(sizeMagic)]) != sizeMagic {
		return z, false
	}
	body := b[:len(b)-4]
	n := uint64(binary.BigEndian.Uint32(body[24:]))
	if binary.BigEndian.Uint32(b[len(body):]) != crc32.ChecksumIEEE(body) || uint64(len(body)) != sizeHead+n*sizeEntry {
		return z, false
	}
	z.uidValidity = binary.BigEndian.Uint32(body[8:])
	z.through = binary.BigEndian.Uint32(body[12:])
	z.modSeq = binary.BigEndian.Uint64(body[16:])
	for e := body[sizeHead:]; len(e) > 0; e = e[sizeEntry:] {
		z.odd = append(z.odd, oddSize{
			uid:    binary.BigEndian.Uint32(e),
			stored: int64(binary.BigEndian.Uint64(e[4:])),
			octets: int64(binary.BigEndian.Uint64(e[12:])),

			eightBit: e[20] != 0,
		})
	}
	return z, true
}

func (z *sizeFile) append(b []byte) []byte {
	b = append(b, sizeMagic...)
	b = binary.BigEndian.AppendUint32(b, z.uidValidity)
	b = binary.BigEndian.AppendUint32(b, z.through)
	b = binary.BigEndian.AppendUint64(b, z.modSeq)
	b = binary.BigEndian.AppendUint32(b, uint32(len(z.odd)))
	for _, o := range z.odd {
		b = binary.BigEndian.AppendUint32(b, o.uid)
		b = binary.BigEndian.AppendUint64(b, uint64(o.stored))
		b = binary.BigEndian.AppendUint64(b, uint64(o.octets))
		b = append(b, oneIf(o.eightBit))
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func oneIf(yes bool) byte {
	if yes {
		return 1
	}
	return 0
}

func (s *Store) saveSizes(key uint64, z *sizeFile) error {
	path := s.sizePath(key)
	// Sessions exclude each other, so one name for the new file will do.
	err := s.inState(func() error { return s.disk.replace(path, path+".new", z.append(nil), ownerOnly, false) })
	if err != nil {
		return err
	}
	return adopt(path, s.stateDir)
}

func findOdd(odd []oddSize, uid uint32) (int, bool) {
	return slices.BinarySearchFunc(odd, uid, func(o oddSize, uid uint32) int { return int(int64(o.uid) - int64(uid)) })
}

func (d *maildrop) oddSize(uid uint32) (oddSize, bool) {
	if i, found := findOdd(d.odd, uid); found {
		return d.odd[i], true
	}
	return oddSize{}, false
}

// Writing what was learnt costs as much as reading this much again.
const (
	worthSavingMessages = 4
	worthSavingOctets   = 128 << 10
)

// measure finds the messages that are odd. Each is read through once in its
// life.
func (d *maildrop) measure() error {
	if d.measured {
		return nil
	}
	known, ok := d.store.loadSizes(d.key)
	if !ok || known.uidValidity != d.uidValidity || known.through > d.lastUID || known.modSeq > d.modSeq {
		known = sizeFile{uidValidity: d.uidValidity}
	}
	if len(known.odd) == 0 && len(d.hidden) == 0 && (d.count == 0 || d.uid(mailstore.Number(d.count)) <= known.through) {
		d.measured = true // nothing is new and nothing odd
		return nil
	}
	if err := d.wake(); err != nil {
		return err
	}
	next := sizeFile{uidValidity: d.uidValidity, through: d.lastUID, modSeq: d.modSeq}
	work, err := d.measureAll(&known, &next)
	if err != nil {
		return err
	}
	d.measured = true
	d.store.plain.store(d.key, &next)
	if work.messages >= worthSavingMessages || work.octets >= worthSavingOctets || work.odd {
		if err := d.store.saveSizes(d.key, &next); err != nil {
			d.store.log.Warn("message sizes not saved", "mailbox", d.place.Name.Intname(), "error", err)
		}
	}
	return nil
}

type measuring struct {
	messages int
	octets   int64
	odd      bool
}

// measureAll fills d.odd, and next with what is to be kept.
func (d *maildrop) measureAll(known, next *sizeFile) (work measuring, err error) {
	hidden := d.hidden
	var odd []oddSize
	for i, uid := range d.list.uids {
		for ; len(hidden) > 0 && hidden[0] < uid; hidden = hidden[1:] {
			next.keepHidden(known, hidden[0])
		}
		o, found := known.get(uid)
		if found && o.stored == int64(d.list.sizes[i]) && o.octets != 0 {
			next.odd, odd = append(next.odd, o), append(odd, o)
			continue
		}
		if !found && uid <= known.through {
			continue // read before, and as it should be
		}
		o, err = d.measureFile(i)
		if err != nil {
			return work, err
		}
		work.messages++
		work.octets += o.stored
		if o.octets != o.stored || o.eightBit {
			work.odd = true
			next.odd = append(next.odd, o)
			if o.octets != 0 {
				odd = append(odd, o)
			} else {
				d.blind = true
			}
		}
	}
	for _, uid := range hidden {
		next.keepHidden(known, uid)
	}
	d.odd = odd
	return work, nil
}

func (z *sizeFile) get(uid uint32) (oddSize, bool) {
	if i, found := findOdd(z.odd, uid); found {
		return z.odd[i], true
	}
	return oddSize{}, false
}

// keepHidden takes over what is known of a message that this session does not
// see, so that the mark may pass it.
func (z *sizeFile) keepHidden(known *sizeFile, uid uint32) {
	if o, found := known.get(uid); found {
		z.odd = append(z.odd, o)
	} else if uid > known.through {
		z.odd = append(z.odd, oddSize{uid: uid})
	}
}

// measureFile reads the message at position i. One whose file is not there, not
// of its record's size, or not to be read, stays unknown: opening it will tell.
func (d *maildrop) measureFile(i int) (oddSize, error) {
	o := oddSize{uid: d.list.uids[i], stored: int64(d.list.sizes[i])}
	fd, err := d.openMessage(mailstore.Number(i + 1))
	if errors.Is(err, mailstore.ErrGone) || errors.Is(err, mailstore.ErrDamaged) || unreadable(err) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	defer unix.Close(fd)
	pooled := d.store.blocks.Get().(*[]byte)
	defer d.store.blocks.Put(pooled)
	file := d.store.dots.file(fd, o.stored)
	lines := lineCounter{last: '\n', dots: &dotList{}}
	file.Dots() // notes the state that the file is in before it is read
	if err := o.measure(fd, *pooled, &lines); unreadable(err) {
		return o, nil
	} else if err != nil {
		return o, fmt.Errorf("cyrus: %s: %w: %w", d.messagePath(i), mailstore.ErrTemporary, err)
	}
	if !lines.dots.many && lines.last == '\n' {
		file.NoteDots(lines.dots.at)
	}
	return o, nil
}

// unreadable says whether an error is that file's own, and not a want of memory or
// descriptors that would befall the next one too: one bad sector, or one file with
// another owner, keeps nobody from his other messages.
func unreadable(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG) ||
		errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
}

// measure reads the message in fd through.
func (o *oddSize) measure(fd int, block []byte, lines *lineCounter) error {
	var scan mailstore.EightBitScan
	for at := int64(0); at < o.stored; {
		b := block[:min(o.stored-at, int64(len(block)))]
		if err := readFull(fd, b, at); err != nil {
			return err
		}
		lines.count(b)
		scan.Add(b)
		at += int64(len(b))
	}
	o.octets, o.eightBit = o.stored+lines.added(o.stored), scan.Found
	return nil
}

// A lineCounter counts what RETR adds to a message (RFC 1939 section 11).
type lineCounter struct {
	bare int64    // line feeds without a carriage return
	last byte     // the last octet; a line feed before the first
	dots *dotList // nil: nobody asks for them
}

func (c *lineCounter) count(b []byte) {
	c.dots.advance(len(b))
	for len(b) > 0 {
		if b[0] == '.' && c.last == '\n' {
			c.dots.add(len(b))
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.last = b[len(b)-1]
			return
		}
		if i > 0 {
			c.last = b[i-1]
		}
		if c.last != '\r' {
			c.bare++
		}
		c.last = '\n'
		b = b[i+1:]
	}
}

// added is the carriage returns, and the line end that a last line without one
// is given.
func (c *lineCounter) added(size int64) int64 {
	if size > 0 && c.last != '\n' {
		return c.bare + 2
	}
	return c.bare
}
