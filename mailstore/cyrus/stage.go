package cyrus

import (
	"crypto/rand"
	"crypto/sha1"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/bodycache"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A staged message has been taken in whole. A small one is held in memory and
// written where it belongs, with the mailbox locked, as Cyrus's lmtpd does: that
// saves a name, a renaming and what the disk does for both. A larger one lies
// durable on the mailbox's partition, and only gets its name under the lock.
type staged struct {
	text       []byte // nil: it lies at path
	path       string
	file       *ofd.File // nil: there is none yet
	size       int64
	headerSize int64
	guid       GUID
	flags      Flags  // that its record gets
	header     []byte // the first maxParsedHeader octets of the header
	parsed     bodycache.Record
	named      bool // it is no longer at path
	synced     bool
	arrived    time.Time
}

const (
	// maxParsedHeader is how much of a header is looked through for its date.
	maxParsedHeader = 1 << 20

	// maxParsed is the largest message that is held in memory to make its cache
	// record; Cyrus does that for larger ones.
	maxParsed = 64 << 20

	// maxHeld is the largest message that is held in memory until it is written:
	// few milliseconds for most disks.
	maxHeld = 256 << 10
)

// stage takes in a message in the form that Cyrus stores: CRLF line ends only.
// A bare line feed becomes CRLF and a last line gets its end, as RETR would
// send them anyway. NUL octets stay. With more than held octets it goes to the
// partition of the mailbox that place tells.
//
// Deviation: Cyrus has no message of no octets (its index refuses size 0), so
// an empty one is stored as one empty line, and that is what RETR sends; for
// an empty file Dovecot's pop3 sends the same.
func (s *Store) stage(place func() (imapdconf.Mailbox, error), message io.Reader, arrived time.Time, held int) (*staged, error) {
	t := &staged{arrived: arrived}
	w := &stager{t: t, sum: sha1.New(), end: len("\r\n"), held: held}
	w.open = func() error { return s.openStaged(t, place) }
	w.disk = &s.disk
	err := s.copyIn(w, message)
	if err == nil && t.file != nil {
		err = s.disk.chtimes(t.path, arrived)
	}
	if err == nil {
		err = t.sync(s)
	}
	if err == nil {
		err = s.parse(t, arrived)
	}
	if err != nil {
		t.drop(s)
		return nil, told(err)
	}
	return t, nil
}

// openStaged makes a staged message's file.
func (s *Store) openStaged(t *staged, place func() (imapdconf.Mailbox, error)) error {
	m, err := place()
	if err != nil {
		return err
	}
	partition, found := s.conf.Layout.Partitions[m.Partition]
	if !found {
		return imapdconf.ErrPartition
	}
	dir := filepath.Join(partition.Root, "stage.") // where Cyrus's lmtpd does it
	t.path = filepath.Join(dir, stagedName+rand.Text())
	t.file, err = s.disk.create(t.path, s.fileMode())
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.disk.mkdirAll(dir, s.dirMode()); err != nil {
			return err
		}
		t.file, err = s.disk.create(t.path, s.fileMode())
	}
	return err
}

// place gives the message its name.
func (t *staged) place(s *Store, path string) (err error) {
	if t.text == nil {
		err = s.disk.rename(t.path, path)
		t.named = err == nil
		return err
	}
	if t.file, err = s.disk.createNew(path, s.fileMode()); err != nil {
		return err
	}
	if err := s.disk.writeAt(t.file, t.text, 0); err != nil {
		return err
	}
	return s.disk.chtimes(path, t.arrived)
}

// sync makes what was written to the message's file durable, if anything was
// since the last time.
func (t *staged) sync(s *Store) error {
	if t.file == nil || t.synced {
		return nil
	}
	t.synced = true
	return s.disk.sync(t.file)
}

// parse makes what the index and the cache say of the message's text.
func (s *Store) parse(t *staged, arrived time.Time) (err error) {
	o := bodycache.Options{Received: arrived, Location: s.location, MaxHeaderLines: s.conf.MaxHeaderLines}
	text := t.header
	switch {
	case t.text != nil:
		text = t.text
	case t.size <= maxParsed:
		text = make([]byte, t.size)
		if _, err := t.file.ReadAt(text, 0); err != nil {
			return fmt.Errorf("cyrus: %w", err)
		}
	}
	defer func() {
		// A parser's slip must not lose the message, nor another session.
		if slip := recover(); slip != nil {
			stack := debug.Stack()
			s.log.Error("panic", "in", "cyrus: parsing a message", "value", fmt.Sprint(slip), "stack", string(stack))
			s.panicked(slip, stack)
			t.parsed, err = bodycache.Record{SentDate: uint32(arrived.Unix()), GMTime: uint32(arrived.Unix())}, nil
		}
	}()
	t.parsed, err = s.build(text, o)
	if errors.Is(err, bodycache.ErrDistrusted) {
		err = nil
	}
	if t.size > maxParsed {
		t.parsed.Cache, t.parsed.CRC = nil, 0
	}
	return err
}

// drop closes the file and, unless it has got its name, removes it.
func (t *staged) drop(s *Store) {
	if t.file != nil {
		t.file.Close()
	}
	if t.path == "" || t.named {
		return
	}
	if err := s.disk.remove(t.path); err != nil {
		s.log.Warn("staged message not removed", "path", t.path, "error", err)
	}
}

// A stager writes blocks of a message.
type stager struct {
	disk   *disk
	t      *staged
	held   int          // more than that goes to the file
	open   func() error // makes the file
	lines  lineCounter
	sum    hash.Hash
	end    int // how much of the blank line that ends the header was seen
	buffer []byte
}

// readBlock fills b. A message's end is io.EOF itself: a reader that breaks off
// may say io.ErrUnexpectedEOF, or have an io.EOF within its error.
func readBlock(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var more int
		more, err = r.Read(b[n:])
		n += more
	}
	return n, err
}

func (s *Store) copyIn(w *stager, message io.Reader) error {
	t := w.t
	pooled := s.blocks.Get().(*[]byte)
	defer s.blocks.Put(pooled)
	for {
		n, err := readBlock(message, *pooled)
		if err := w.add((*pooled)[:n]); err != nil {
			return err
		}
		if err == io.EOF { //nolint:errorlint // see readBlock
			break
		}
		if err != nil {
			return fmt.Errorf("cyrus: reading the message: %w", err)
		}
	}
	if t.size == 0 || w.lines.last != '\n' {
		if err := w.write([]byte("\r\n")); err != nil {
			return err
		}
	}
	if t.headerSize == 0 {
		t.headerSize = t.size // there is no blank line
	}
	if t.size > math.MaxUint32 {
		return fmt.Errorf("cyrus: %w: of %d octets", mailstore.ErrMessage, t.size)
	}
	t.header = t.header[:min(int64(len(t.header)), t.headerSize)]
	w.sum.Sum(t.guid[:0])
	return nil
}

// add writes a block with its bare line feeds made CRLF.
func (w *stager) add(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	before := w.lines
	w.lines.count(b)
	if w.lines.bare == before.bare {
		return w.write(b)
	}
	out, last := w.buffer[:0], before.last
	for _, c := range b {
		if c == '\n' && last != '\r' {
			out = append(out, '\r')
		}
		out, last = append(out, c), c
	}
	w.buffer = out
	return w.write(out)
}

func (w *stager) write(b []byte) error {
	if err := w.keep(b); err != nil {
		return err
	}
	w.sum.Write(b)
	w.findHeader(b)
	w.t.size += int64(len(b))
	return nil
}

// keep adds to what is held in memory or, when that is too much, to the file.
func (w *stager) keep(b []byte) error {
	t := w.t
	if t.file == nil && len(t.text)+len(b) <= w.held {
		t.text = append(t.text, b...)
		return nil
	}
	if t.file == nil {
		if err := w.open(); err != nil {
			return err
		}
		if err := w.disk.writeAt(t.file, t.text, 0); err != nil {
			return err
		}
		t.text = nil
	}
	return w.disk.writeAt(t.file, b, t.size)
}

// findHeader looks for the end of the header: CRLF CRLF, or CRLF at the very
// beginning, which is why a message begins as if after a line.
func (w *stager) findHeader(b []byte) {
	const blank = "\r\n\r\n"
	if w.t.headerSize > 0 {
		return
	}
	for i, c := range b {
		switch {
		case c == blank[w.end]:
			w.end++
		case c == '\r':
			w.end = 1
		default:
			w.end = 0
		}
		if w.end == len(blank) {
			w.t.headerSize = w.t.size + int64(i) + 1
			b = b[:i+1]
			break
		}
	}
	room := maxParsedHeader - len(w.t.header)
	w.t.header = append(w.t.header, b[:min(room, len(b))]...)
}
