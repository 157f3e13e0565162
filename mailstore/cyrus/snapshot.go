package cyrus

import (
	"context"
	"encoding/binary"
	"math"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// messages are a maildrop's messages in flat arrays, 16 octets each, in
// ascending order of UIDs. Message-number n is at n-1.
type messages struct {
	uids     []uint32
	sizes    []uint32 // of the files
	tags     []uint64 // the first octets of the GUIDs
	archived []uint64 // a set of positions; nil: none lies under the archive root
	gone     []uint64 // a set of positions whose records were dropped since; nil: none
	octets   int64    // sum of the sizes
}

func (s *messages) len() int { return len(s.uids) }

// add appends visible record i of x, whose octets are b.
func (s *messages) add(x *indexFile, i uint64, b []byte) error {
	l := x.layout
	size := l.record.size.get(b)
	if size > math.MaxUint32 {
		return fault(x.path, x.offset(i)+int64(l.record.size.at), "a message of %d octets", size)
	}
	s.uids = append(s.uids, l.uid(b))
	s.sizes = append(s.sizes, uint32(size))
	s.tags = append(s.tags, l.tag(b))
	s.octets += int64(size)
	if l.flags(b)&FlagArchived != 0 {
		s.archived = setBit(s.archived, len(s.uids)-1)
	}
	return nil
}

// tag is what is kept of a GUID to know a message again; 0 where a version
// has no GUID.
func (l *layout) tag(b []byte) uint64 {
	if l.record.guid == 0 {
		return 0
	}
	return binary.BigEndian.Uint64(b[l.record.guid:])
}

func setBit(set []uint64, i int) []uint64 {
	if need := i/64 + 1; len(set) < need {
		set = append(set, make([]uint64, need-len(set))...)
	}
	set[i/64] |= 1 << (i % 64)
	return set
}

func flipBit(set []uint64, i int) []uint64 {
	if !hasBit(set, i) {
		return setBit(set, i)
	}
	set[i/64] &^= 1 << (i % 64)
	return set
}

func hasBit(set []uint64, i int) bool {
	return i/64 < len(set) && set[i/64]&(1<<(i%64)) != 0
}

// snapshot opens the mailbox that m has found, reads it, and lets go.
// minPoll is the least time between logins; zero: it is not counted.
func (s *Store) snapshot(ctx context.Context, m *mailbox, h *mailstore.Holder, minPoll time.Duration) (*maildrop, error) {
	defer m.release()
	if err := m.open(ctx); err != nil {
		return nil, err
	}
	x, err := m.readIndex()
	if err != nil {
		return nil, err
	}
	if x.header.Options&OptionDeleted != 0 {
		return nil, told(errDeleted(m.place.Name))
	}
	now := s.now()
	if err := tooSoon(&x.header, now, minPoll); err != nil {
		return nil, err
	}
	d := &maildrop{
		store: s, place: m.place, login: now, minPoll: minPoll, root: m.place.Name, holder: h,
		uidValidity: uint32(x.header.UIDValidity), bareUIDs: x.header.Options&OptionNewUIDL == 0,
		lastUID: uint32(x.header.LastUID), modSeq: x.header.HighestModSeq, style: s.style(h.UIDStyle),
	}
	d.prefix = newPrefix(d.uidValidity, d.style)
	d.kept = s.mayDelete(m)
	d.changes(m, x)
	if err := d.setPlace(m.place); err != nil {
		return nil, err
	}
	if s.large.recall(d, &x.info) {
		return d, nil
	}
	if err := d.fill(x); err != nil {
		return nil, err
	}
	d.count, d.octets = d.list.len(), d.list.octets
	d.compareCounters(x)
	s.large.note(d, &x.info)
	return d, nil
}

// compareCounters tells the operator of counters that are not what the records
// give, as far as that costs nothing here. Cyrus serves such a mailbox, and the
// counters are not used for a session: it is no reason to keep the user out.
func (d *maildrop) compareCounters(x *indexFile) {
	h, l := &x.header, &x.layout.header
	var err error
	switch there := uint64(d.count + len(d.hidden)); {
	case !x.layout.hasCRC():
	case h.Exists != there:
		err = fault(x.path, int64(l.exists.at), "exists is %d, the records give %d", h.Exists, there)
	case len(d.hidden) == 0 && h.QuotaUsed != uint64(d.octets):
		err = fault(x.path, int64(l.quotaUsed.at), "quota used is %d, the records give %d", h.QuotaUsed, d.octets)
	}
	if err != nil {
		d.store.log.Warn("counters of the index are wrong: kpop spool check says more, reconstruct mends them",
			"mailbox", d.place.Name.Intname(), "error", err)
	}
}

// fill reads the visible records. With one allocation an array for a mailbox
// whose header is right.
func (d *maildrop) fill(x *indexFile) error {
	l, conf := x.layout, d.store.conf
	hidden := FlagExpunged
	if conf.POP.UseIMAPFlags {
		hidden |= FlagDeleted
	}
	n := min(x.header.Exists, x.header.Records)
	d.list = messages{uids: make([]uint32, 0, n), sizes: make([]uint32, 0, n), tags: make([]uint64, 0, n)}
	return d.store.scan(x, func(i uint64, b []byte) error {
		flags := l.flags(b)
		switch {
		case flags&hidden != 0:
			if flags&FlagExpunged == 0 {
				d.hidden = append(d.hidden, l.uid(b))
			}
			return nil
		case x.header.ShowAfter != 0 && l.seconds(l.record.internalDate, b) <= x.header.ShowAfter:
			d.hidden = append(d.hidden, l.uid(b))
			return nil
		}
		return d.list.add(x, i, b)
	})
}

// tooSoon applies popminpoll or the account's own delay.
//
// Deviation: Cyrus's pop3d takes a last login in the future at its word and
// keeps the user out until then. It can only come of a clock that was wrong:
// with poppollpadding too, what is counted never passes the login itself.
func tooSoon(h *IndexHeader, now time.Time, minPoll time.Duration) error {
	last := time.Unix(int64(h.LastLogin), 0)
	if next := last.Add(minPoll); minPoll > 0 && now.Before(next) && !last.After(now) {
		return told(errTooSoon(next))
	}
	return nil
}

// style is the unique-id format of the account or, when it names none, of
// uidl_format.
func (s *Store) style(name string) imapdconf.UIDLFormat {
	switch name {
	case "cyrus":
		return imapdconf.UIDLCyrus
	case "uidonly":
		return imapdconf.UIDLUIDOnly
	case "dovecot":
		return imapdconf.UIDLDovecot
	case "courier":
		return imapdconf.UIDLCourier
	}
	return s.conf.POP.UIDL
}
