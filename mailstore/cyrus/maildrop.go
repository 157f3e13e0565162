package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A maildrop is a snapshot: which messages there were at login, by UID and
// GUID.
type maildrop struct {
	store *Store
	box   imapdconf.Mailbox
	login time.Time
	style string

	validity uint32
	newUIDL  bool
	messages []entry
	octets   int64 // as stored
	sizes    *sizes
}

// An entry is one message of the snapshot.
type entry struct {
	uid      uint32
	size     uint32
	guid     [20]byte
	archived bool
}

// load takes the snapshot under shared locks, which are given back before it
// returns.
func (d *maildrop) load(ctx context.Context) error {
	o, err := d.store.open(ctx, d.box, toRead)
	if err != nil {
		return err
	}
	defer o.release()
	h := o.index.header
	pop := d.store.config.POP
	if pop.MinPoll > 0 && d.login.Before(time.Unix(int64(h.u32(hPOP3Login)), 0).Add(pop.MinPoll)) {
		return fmt.Errorf("cyrus: last login was at %d: %w", h.u32(hPOP3Login), mailstore.ErrLoginDelay)
	}
	d.validity, d.newUIDL = h.u32(hUIDValidity), h.options()&optionNewUIDL != 0
	hidden := uint32(flagExpunged)
	if pop.UseIMAPFlags {
		hidden |= flagDeleted
	}
	after := h.u32(hPOP3After)
	d.messages = make([]entry, 0, h.u32(hExists))
	for i := range o.index.len() {
		r := o.index.record(i)
		if r.has(hidden) || after != 0 && r.u32(rDate) <= after {
			continue
		}
		d.messages = append(d.messages, entry{r.u32(rUID), r.u32(rSize), r.guid(), r.has(flagArchived)})
		d.octets += int64(r.u32(rSize))
	}
	return nil
}

// Len implements mailstore.Maildrop.
func (d *maildrop) Len() int { return len(d.messages) }

// Octets implements mailstore.Maildrop.
func (d *maildrop) Octets() (int64, error) {
	d.measure()
	total := d.octets
	for uid, m := range d.sizes.odd {
		if i := d.find(uid); i >= 0 {
			total += m.sent - int64(d.messages[i].size)
		}
	}
	return total, nil
}

// Size implements mailstore.Maildrop.
func (d *maildrop) Size(n mailstore.Number) (int64, error) {
	d.measure()
	m := &d.messages[n-1]
	if odd, ok := d.sizes.odd[m.uid]; ok {
		return odd.sent, nil
	}
	return int64(m.size), nil
}

// canonical says whether nothing but dots changes when a message is sent.
func (d *maildrop) canonical(uid uint32) bool {
	d.measure()
	_, odd := d.sizes.odd[uid]
	return !odd
}

// find gives a message's place by UID, or -1.
func (d *maildrop) find(uid uint32) int {
	low, high := 0, len(d.messages)
	for low < high {
		if mid := (low + high) / 2; d.messages[mid].uid < uid {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < len(d.messages) && d.messages[low].uid == uid {
		return low
	}
	return -1
}

// AppendUniqueID implements mailstore.Maildrop, in the format of Cyrus's
// uidl_format. Mailboxes of very old servers keep the bare UID (header option
// POP3_NEW_UIDL).
func (d *maildrop) AppendUniqueID(dst []byte, n mailstore.Number) []byte {
	uid, validity := uint64(d.messages[n-1].uid), uint64(d.validity)
	style := d.style
	if style == "" {
		style = uidlStyles[d.store.config.POP.UIDL]
	}
	if !d.newUIDL {
		style = "uidonly"
	}
	switch style {
	case "uidonly":
		return strconv.AppendUint(dst, uid, 10)
	case "dovecot":
		return appendHex8(appendHex8(dst, uid), validity)
	case "courier":
		return strconv.AppendUint(append(strconv.AppendUint(dst, validity, 10), '-'), uid, 10)
	}
	return strconv.AppendUint(append(strconv.AppendUint(dst, validity, 10), '.'), uid, 10)
}

func appendHex8(dst []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return dst
}

// path is where a message's file lies.
func (d *maildrop) path(m *entry) (string, error) {
	return d.store.config.MessagePath(d.box, m.uid, m.archived)
}

// Open implements mailstore.Maildrop. Symbolic links and whatever is no plain
// file are damage; a file that is gone was expunged and cleaned up by another
// program.
func (d *maildrop) Open(n mailstore.Number) (mailstore.Message, error) {
	m := &d.messages[n-1]
	path, err := d.path(m)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) //nolint:gosec // G304: a path of the spool's
	if err != nil {
		return nil, openFault(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(openFault(path, err), f.Close())
	}
	if !info.Mode().IsRegular() || info.Size() != int64(m.size) {
		return nil, errors.Join(&FaultError{path, info.Size(), fmt.Sprintf("not a plain file of the %d octets the index has", m.size)}, f.Close())
	}
	return &message{f, int64(m.size), d.canonical(m.uid)}, nil
}

func openFault(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("cyrus: %s: %w", path, mailstore.ErrGone)
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENXIO):
		return &FaultError{path, 0, "not a plain file"}
	default:
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
}

// AppendMessage implements mailstore.Appender with bare system calls: no
// *os.File, no poller, nothing to collect (BenchmarkAppendMessage).
func (d *maildrop) AppendMessage(dst []byte, n mailstore.Number, limit int64) (out []byte, canonical, ok bool, err error) {
	m := &d.messages[n-1]
	if int64(m.size) > limit {
		return dst, false, false, nil
	}
	path, err := d.path(m)
	if err != nil {
		return dst, false, false, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return dst, false, false, openFault(path, err)
	}
	defer unix.Close(fd) //nolint:errcheck // read only
	out, err = readExactly(fd, dst, int(m.size))
	if err != nil {
		return dst, false, false, &FaultError{path, 0, fmt.Sprintf("not a plain file of the %d octets the index has: %v", m.size, err)}
	}
	return out, d.canonical(m.uid), true, nil
}

var errLength = errors.New("cyrus: length differs")

// readExactly appends size octets and makes sure that the file ends there. A
// FIFO or a directory fails to read.
func readExactly(fd int, dst []byte, size int) ([]byte, error) {
	start := len(dst)
	for cap(dst)-start < size+1 {
		dst = append(dst[:cap(dst)], 0)
	}
	dst = dst[:start+size+1] // one more octet than there may be
	got := 0
	for got <= size {
		n, err := unix.Read(fd, dst[start+got:])
		if err == unix.EINTR { //nolint:errorlint // errno from the system call itself
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		got += n
	}
	if got != size {
		return nil, errLength
	}
	return dst[:start+size], nil
}

// Close implements mailstore.Maildrop.
func (d *maildrop) Close() error { return d.store.exclusion.release(d.box.UniqueID) }

// A message is a message file.
type message struct {
	file *os.File
	size int64
	text bool // all lines end in CRLF
}

func (m *message) Read(b []byte) (int, error) { return m.file.Read(b) }
func (m *message) Close() error               { return m.file.Close() }
func (m *message) Stored() int64              { return m.size }
func (m *message) Canonical() bool            { return m.text }
func (m *message) File() *os.File             { return m.file }

var (
	_ mailstore.FileMessage = (*message)(nil)
	_ mailstore.Appender    = (*maildrop)(nil)
	_ io.Reader             = (*message)(nil)
)

// uidlStyles names the formats of uidl_format.
var uidlStyles = map[imapdconf.UIDLFormat]string{
	imapdconf.UIDLCyrus: "cyrus", imapdconf.UIDLUIDOnly: "uidonly",
	imapdconf.UIDLDovecot: "dovecot", imapdconf.UIDLCourier: "courier",
}
