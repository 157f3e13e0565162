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

// A staged message lies complete and durable on the mailbox's partition, not
// yet under its name: the mailbox is locked only for the renaming.
type staged struct {
	path       string
	file       *ofd.File
	size       int64
	headerSize int64
	guid       GUID
	flags      Flags  // that its record gets
	header     []byte // the first maxParsedHeader octets of the header
	parsed     bodycache.Record
	named      bool // it is no longer at path
	arrived    time.Time
}

const (
	// maxParsedHeader is how much of a header is looked through for its date.
	maxParsedHeader = 1 << 20

	// maxParsed is the largest message that is held in memory to make its cache
	// record; Cyrus does that for larger ones.
	maxParsed = 64 << 20
)

// stage takes in a message in the form that Cyrus stores: CRLF line ends only.
// A bare line feed becomes CRLF and a last line gets its end, as RETR would
// send them anyway. NUL octets stay.
//
// Deviation: Cyrus has no message of no octets (its index refuses size 0), so
// an empty one is stored as one empty line, and that is what RETR sends; for
// an empty file Dovecot's pop3 sends the same.
func (s *Store) stage(place imapdconf.Mailbox, message io.Reader, arrived time.Time) (*staged, error) {
	partition, found := s.conf.Layout.Partitions[place.Partition]
	if !found {
		return nil, told(imapdconf.ErrPartition)
	}
	dir := filepath.Join(partition.Root, "stage.") // where Cyrus's lmtpd does it
	t := &staged{path: filepath.Join(dir, stagedName+rand.Text()), arrived: arrived}
	var err error
	t.file, err = s.disk.create(t.path, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.disk.mkdirAll(dir); err != nil {
			return nil, told(err)
		}
		t.file, err = s.disk.create(t.path, 0o600)
	}
	if err != nil {
		return nil, told(err)
	}
	if err = s.copyIn(t, message); err == nil {
		err = s.disk.chtimes(t.path, arrived)
	}
	if err == nil {
		err = s.disk.sync(t.file)
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

// parse makes what the index and the cache say of the message's text.
func (s *Store) parse(t *staged, arrived time.Time) (err error) {
	o := bodycache.Options{Received: arrived, Location: s.location, MaxHeaderLines: s.conf.MaxHeaderLines}
	text := t.header
	if t.size <= maxParsed {
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
	t.file.Close()
	if t.named {
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

func (s *Store) copyIn(t *staged, message io.Reader) error {
	pooled := s.blocks.Get().(*[]byte)
	defer s.blocks.Put(pooled)
	w := &stager{disk: &s.disk, t: t, sum: sha1.New(), end: len("\r\n")}
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
	if err := w.disk.writeAt(w.t.file, b, w.t.size); err != nil {
		return err
	}
	w.sum.Write(b)
	w.findHeader(b)
	w.t.size += int64(len(b))
	return nil
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
