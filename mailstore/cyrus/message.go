package cyrus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A message is one file. The kernel may send from it.
type message struct {
	dots      dottedFile
	file      *os.File
	stored    int64
	canonical bool
}

func (m *message) Read(p []byte) (int, error) { return m.file.Read(p) }
func (m *message) Close() error               { return m.file.Close() }
func (m *message) Stored() int64              { return m.stored }
func (m *message) Canonical() bool            { return m.canonical }
func (m *message) File() *os.File             { return m.file }
func (m *message) NoteDots(at []int64)        { m.dots.NoteDots(at) }

func (m *message) Dots() (at []int64, ok bool) {
	defer runtime.KeepAlive(m.file) // the descriptor is used without it
	return m.dots.Dots()
}

// openFlags: a file that somebody has replaced by a link, a FIFO or a device
// neither leads elsewhere nor blocks.
const openFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// Open implements mailstore.Maildrop.
func (d *maildrop) Open(n mailstore.Number) (mailstore.Message, error) {
	fd, err := d.openMessage(n)
	if err != nil {
		return nil, err
	}
	size := int64(d.list.sizes[n-1])
	f := os.NewFile(uintptr(fd), d.messagePath(int(n-1)))
	return &message{dots: d.store.dots.file(fd, size), file: f, stored: size, canonical: d.canonical(n)}, nil
}

// AppendMessage implements mailstore.Appender: a small message costs three
// system calls and no os.File (BenchmarkAppendMessage). One octet more is asked
// for than there should be: that tells a longer file without a call for its size.
func (d *maildrop) AppendMessage(dst []byte, n mailstore.Number, limit int64) ([]byte, bool, bool, error) {
	if err := d.wake(); err != nil {
		return dst, false, false, err
	}
	size := int(d.list.sizes[n-1])
	if int64(size) > limit {
		return dst, false, false, nil
	}
	fd, err := d.openUnchecked(n)
	if err != nil {
		return dst, false, false, err
	}
	defer unix.Close(fd)
	out := slices.Grow(dst, size+1)
	got, err := readMost(fd, out[len(dst):len(dst)+size+1], size)
	if got != size {
		return dst, false, false, d.misread(fd, int(n-1), err)
	}
	return out[:len(dst)+size], d.canonical(n), true, nil
}

// misread says why another number of octets was read than the record of the
// message at position i says: the file is not what it should be, or reading failed.
func (d *maildrop) misread(fd, i int, err error) error {
	if fault := d.checkFile(fd, i); fault != nil {
		return fault
	}
	return fmt.Errorf("cyrus: %s: %w: %w", d.messagePath(i), mailstore.ErrTemporary, cmp.Or(err, errShorter))
}

// readMost reads from the beginning of the file until b is full, enough octets
// have been read, or the file ends. Of what is not a file it reads nothing
// (pread(2), ESPIPE).
func readMost(fd int, b []byte, enough int) (n int, err error) {
	for n < len(b) {
		got, err := ofd.Pread(fd, b[n:], int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return -1, err
		}
		n += got
		if got == 0 || n == enough {
			break
		}
	}
	return n, nil
}

var errShorter = errors.New("the file got shorter")

// readFull reads all of b from an octet of the file on.
func readFull(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := ofd.Pread(fd, b, at)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return errShorter
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// canonical is true when the message is known to have CRLF line ends only.
func (d *maildrop) canonical(n mailstore.Number) bool {
	if !d.measured || d.blind {
		return false
	}
	o, odd := d.oddSize(d.list.uids[n-1])
	return !odd || o.octets == o.stored
}

// openMessage opens message n's file and checks that it is what the record
// says.
func (d *maildrop) openMessage(n mailstore.Number) (int, error) {
	fd, err := d.openUnchecked(n)
	if err != nil {
		return -1, err
	}
	if err := d.checkFile(fd, int(n-1)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openUnchecked opens what has the name of message n's file. When it is not
// there the mailbox may have been renamed, moved to another partition or
// archived meanwhile: that is looked up once.
func (d *maildrop) openUnchecked(n mailstore.Number) (int, error) {
	if err := d.wake(); err != nil {
		return -1, err
	}
	i := int(n - 1)
	if hasBit(d.list.gone, i) {
		return -1, fmt.Errorf("cyrus: %w: %s, UID %d", mailstore.ErrGone, d.place.Name, d.list.uids[i])
	}
	fd, err := d.openInPlace(i)
	if errors.Is(err, unix.ENOENT) {
		fd, err = d.openElsewhere(i)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return -1, fmt.Errorf("cyrus: %w: %s, UID %d", mailstore.ErrGone, d.place.Name, d.list.uids[i])
	case errors.Is(err, unix.ELOOP):
		return -1, fault(d.messagePath(i), -1, "a symbolic link instead of a message")
	case err != nil:
		return -1, fmt.Errorf("cyrus: %s: %w: %w", d.messagePath(i), mailstore.ErrTemporary, err)
	}
	return fd, nil
}

// openInPlace opens the file at position i where it was last known to lie. The
// directory stays open while the client is busy and few others are, which saves a
// fifth of the time and more where paths are long (BenchmarkAppendMessage); it is
// this mailbox's own even when another has got its name meanwhile.
func (d *maildrop) openInPlace(i int) (int, error) {
	if hasBit(d.list.archived, i) {
		return openFile(d.messagePath(i))
	}
	if d.open == nil {
		if !d.store.open.take() {
			return openFile(d.messagePath(i))
		}
		fd, err := openAt(unix.AT_FDCWD, d.directory, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
		if err != nil {
			d.store.open.give()
			return -1, err
		}
		d.open = &fd
	}
	var name [16]byte // ten digits, a dot, and the end that the kernel looks for
	imapdconf.AppendMessageName(name[:0], d.list.uids[i])
	return openNamed(*d.open, &name)
}

// openNamed opens a file of a directory. It is openAt for a name in octets: a
// string would be copied for each message (BenchmarkAppendMessage).
func openNamed(dir int, name *[16]byte) (int, error) {
	for {
		fd, err := ofd.OpenName(dir, name[:], openFlags)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// closeDirectory gives the directory's descriptor back, if there is one.
func (d *maildrop) closeDirectory() {
	if d.open != nil {
		unix.Close(*d.open)
		d.open = nil
		d.store.open.give()
	}
}

func openFile(path string) (int, error) { return openAt(unix.AT_FDCWD, path, openFlags) }

func openAt(dir int, path string, flags int) (int, error) {
	for {
		fd, err := ofd.OpenAt(dir, path, flags)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func (d *maildrop) checkFile(fd, i int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("cyrus: %s: %w: %w", d.messagePath(i), mailstore.ErrTemporary, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return fault(d.messagePath(i), -1, "not a regular file")
	}
	if stat.Size != int64(d.list.sizes[i]) {
		return fault(d.messagePath(i), -1, "%d octets, its record says %d", stat.Size, d.list.sizes[i])
	}
	return nil
}

// messagePath is where the message at position i was last known to lie.
func (d *maildrop) messagePath(i int) string {
	directory := d.directory
	if hasBit(d.list.archived, i) {
		directory = d.archive
	}
	var buf [256]byte
	b := append(append(buf[:0], directory...), '/')
	return string(imapdconf.AppendMessageName(b, d.list.uids[i]))
}

// openElsewhere looks for a file that was not in its place.
func (d *maildrop) openElsewhere(i int) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openWait)
	defer cancel()
	entry, err := cyrusdb.MailboxList{Database: d.store.conf.Databases.Mailboxes}.Lookup(ctx, d.place.Name)
	switch {
	case errors.Is(err, cyrusdb.ErrNoMailbox):
		return -1, unix.ENOENT
	case err != nil:
		return -1, err
	}
	// A mailbox that was deleted or renamed leaves an entry with its uniqueid.
	if served, _ := entry.Serves(d.store.conf.ServerName); !served || entry.UniqueID != d.place.UniqueID {
		return -1, unix.ENOENT
	}
	if err := d.setPlace(entry.Mailbox()); err != nil {
		return -1, err
	}
	fd, err := openFile(d.messagePath(i))
	if errors.Is(err, fs.ErrNotExist) && d.archive != d.directory {
		d.list.archived = flipBit(d.list.archived, i) // cyr_expire moves messages both ways
		fd, err = openFile(d.messagePath(i))
	}
	return fd, err
}
