package cyrus

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A maildrop is a session's snapshot.
type maildrop struct {
	store       *Store
	key         uint64
	root        imapdconf.Name // what the session opened: its folders lie below
	holder      *mailstore.Holder
	place       imapdconf.Mailbox
	directory   string // of message files
	archive     string // of archived ones; directory where there is no archive
	open        *int   // descriptor of directory; nil: none
	login       time.Time
	minPoll     time.Duration // least time between logins; zero: not counted
	writable    error         // why messages cannot be removed; nil: they can
	kept        error         // why its owner may not remove messages; nil: may
	through     bool          // by the store's Remover
	dated       bool          // the index's header may be written all the same
	style       imapdconf.UIDLFormat
	bareUIDs    bool
	uidValidity uint32
	prefix      prefix // of unique-ids
	lastUID     uint32
	modSeq      uint64

	count  int
	octets int64 // sum of the files' sizes
	list   messages
	rest   *resting // instead of list, while the client is silent

	hidden   []uint32 // messages that are there but not shown
	measured bool     // odd is known
	blind    bool     // some messages could not be read to know whether they are odd
	odd      []oddSize
	closed   bool
}

// The maildrop's optional abilities.
var (
	_ mailstore.Appender = (*maildrop)(nil)
	_ mailstore.Rester   = (*maildrop)(nil)

	_ mailstore.Restricted = (*maildrop)(nil)
)

func errDeleted(name imapdconf.Name) error {
	return fmt.Errorf("cyrus: %w: %s is being deleted", mailstore.ErrUnknown, name)
}

func errTooSoon(next time.Time) error {
	return fmt.Errorf("cyrus: %w: the next is allowed at %s", mailstore.ErrLoginDelay, next.UTC().Format(time.RFC3339))
}

// setPlace notes where the mailbox's messages lie.
func (d *maildrop) setPlace(place imapdconf.Mailbox) error {
	directory, err := d.store.conf.Directory(place, imapdconf.MessageFile)
	if err != nil {
		return told(err)
	}
	archive, err := d.store.conf.Directory(place, imapdconf.ArchivedFile)
	if err != nil {
		return told(err)
	}
	if archive == directory {
		archive = directory // one string for the session's life, not two
	}
	if directory != d.directory {
		d.closeDirectory()
	}
	d.place, d.directory, d.archive = place, directory, archive
	return nil
}

// Len implements mailstore.Maildrop.
func (d *maildrop) Len() int { return d.count }

// Octets implements mailstore.Maildrop.
func (d *maildrop) Octets() (int64, error) {
	if err := d.measure(); err != nil {
		return 0, err
	}
	sum := d.octets
	for _, o := range d.odd {
		sum += o.octets - o.stored
	}
	return sum, nil
}

// Size implements mailstore.Maildrop. A message whose record was dropped while
// the maildrop was at rest has size 0.
func (d *maildrop) Size(n mailstore.Number) (int64, error) {
	if err := d.measure(); err != nil {
		return 0, err
	}
	if err := d.wake(); err != nil {
		return 0, err
	}
	if len(d.odd) > 0 {
		if o, found := d.oddSize(d.list.uids[n-1]); found {
			return o.octets, nil
		}
	}
	return int64(d.list.sizes[n-1]), nil
}

// A prefix is the UIDVALIDITY in decimal and what follows it in a unique-id. It is
// made once: it was half of what a unique-id costs (BenchmarkList).
type prefix struct {
	octets [len("4294967295.")]byte
	length int8
}

func newPrefix(uidValidity uint32, style imapdconf.UIDLFormat) (p prefix) {
	separator := byte('.')
	if style == imapdconf.UIDLCourier {
		separator = '-'
	}
	b := append(strconv.AppendUint(p.octets[:0], uint64(uidValidity), 10), separator)
	p.length = int8(len(b)) //nolint:gosec // G115: at most 11
	return p
}

// AppendUniqueID implements mailstore.Maildrop. Mailboxes from very old
// servers keep the bare UID until they have been empty once.
func (d *maildrop) AppendUniqueID(dst []byte, n mailstore.Number) []byte {
	uid := d.uid(n)
	switch {
	case d.bareUIDs || d.style == imapdconf.UIDLUIDOnly:
	case d.style == imapdconf.UIDLDovecot:
		return appendHex(appendHex(dst, uid), d.uidValidity)
	default:
		dst = append(dst, d.prefix.octets[:d.prefix.length]...)
	}
	return strconv.AppendUint(dst, uint64(uid), 10)
}

// appendHex appends n as %08x.
func appendHex(dst []byte, n uint32) []byte {
	const digits = "0123456789abcdef"
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return dst
}

// ReadOnly implements mailstore.Restricted.
func (d *maildrop) ReadOnly() error {
	if d.writable != nil {
		return d.writable
	}
	return d.kept
}

// Close implements mailstore.Maildrop.
func (d *maildrop) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	d.closeDirectory()
	d.list, d.rest, d.odd, d.hidden = messages{}, nil, nil, nil
	return d.store.holds.give(d.key)
}

// reread locks and reads the mailbox anew and checks that it is the same one.
func (d *maildrop) reread(ctx context.Context, p purpose) (*mailbox, *indexFile, error) {
	m, err := d.store.begin(ctx, d.place.Name, p)
	if err != nil {
		return nil, nil, err
	}
	done := false
	defer m.releaseUnless(&done)
	x, err := d.openSame(ctx, m)
	if err != nil {
		return nil, nil, told(err)
	}
	done = true
	return m, x, nil
}

func (d *maildrop) openSame(ctx context.Context, m *mailbox) (*indexFile, error) {
	if m.place.UniqueID != d.place.UniqueID {
		return nil, fmt.Errorf("cyrus: %w: %s is another mailbox now", mailstore.ErrGone, m.place.Name)
	}
	if err := m.open(ctx); err != nil {
		return nil, err
	}
	if m.purpose != toRead && m.isTorn() {
		if err := m.undo(); err != nil {
			return nil, err
		}
	}
	x, err := m.readIndex()
	switch {
	case err != nil:
		return nil, err
	case x.header.Options&OptionDeleted != 0:
		return nil, errDeleted(m.place.Name)
	case uint32(x.header.UIDValidity) != d.uidValidity:
		return nil, fmt.Errorf("cyrus: %w: %s has got new UIDs", mailstore.ErrGone, m.place.Name)
	}
	return x, d.setPlace(m.place)
}
