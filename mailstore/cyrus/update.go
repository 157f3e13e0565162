package cyrus

import (
	"context"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// Update implements mailstore.Maildrop. It does what Cyrus's pop3d does at
// QUIT, in its order and under its locks, but finds records by UID: other
// programs may have added, expunged and dropped some since the session began.
func (d *maildrop) Update(ctx context.Context, c mailstore.Changes) error {
	if d.through {
		if err := d.updateThrough(ctx, c); err != nil {
			return err
		}
		d.noteLogin(ctx)
		return nil
	}
	conf := d.store.conf
	if d.writable != nil {
		if len(c.Deleted) > 0 {
			return d.writable
		}
		d.noteLogin(ctx)
		return nil
	}
	if !conf.POP.UseIMAPFlags {
		c.Retrieved = nil
	}
	wanted := len(c.Deleted) > 0 || len(c.Retrieved) > 0 || d.minPoll > 0
	if !wanted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	ch, err := d.change(ctx, d.store.newChange)
	if err != nil {
		return err
	}
	defer ch.m.release()
	if err := d.collect(ctx, ch, c); err != nil {
		return err
	}
	ch.x.header.LastLogin = d.lastLogin(ch.x.header.LastLogin)
	return ch.commit(ctx)
}

// change locks the session's mailbox and begins a change of it.
func (d *maildrop) change(ctx context.Context, begin func(*mailbox, *indexFile) (*change, error)) (*change, error) {
	if err := d.wake(); err != nil {
		return nil, err
	}
	m, x, err := d.reread(ctx, toChange)
	if err != nil {
		return nil, err
	}
	ch, err := begin(m, x)
	if err != nil {
		m.release()
		return nil, err
	}
	return ch, nil
}

// collect goes through the index once and notes what becomes of its records.
func (d *maildrop) collect(ctx context.Context, ch *change, c mailstore.Changes) error {
	if conf := d.store.conf; conf.POP.UseACL {
		if err := d.store.mayDelete(ch.m); err != nil && len(c.Deleted) > 0 {
			return err // the right was taken away meanwhile
		}
		if !strings.Contains(rights(&ch.m.entry), "s") {
			c.Retrieved = nil
		}
	}
	if len(c.Deleted) > 0 {
		if err := ch.loadAnnotations(ctx); err != nil {
			return err
		}
	}
	torn := ch.m.isTorn()
	begun := ch.x.header.HighestModSeq
	highest, err := d.pass(ch, c)
	if err != nil || highest <= begun && !torn {
		return err
	}
	if err := ch.loadAnnotations(ctx); err != nil {
		return err
	}
	ch.restart(highest)
	if _, err := d.pass(ch, c); err != nil {
		return err
	}
	return ch.heal(begun)
}

// pass notes the changes of all records; highest is the greatest modseq that
// it met.
func (d *maildrop) pass(ch *change, c mailstore.Changes) (highest uint64, err error) {
	deleted, seen := slices.Clone(c.Deleted), slices.Clone(c.Retrieved)
	slices.Sort(deleted)
	slices.Sort(seen)
	ch.reserve(len(deleted) + len(seen))
	l := ch.x.layout
	err = d.store.scan(ch.x, func(i uint64, b []byte) error {
		highest = max(highest, l.record.modSeq.get(b))
		uid := uint32(l.record.uid.get(b))
		remove, isDeleted := d.take(&deleted, uid)
		mark, isSeen := d.take(&seen, uid)
		switch {
		case isDeleted:
			return d.expunge(ch, i, b, int(remove-1))
		case isSeen:
			return d.see(ch, i, b, int(mark-1))
		}
		return nil
	})
	return highest, err
}

// take drops the numbers up to uid from the front of ns, and reports whether
// uid itself was among them. A message whose record is gone is done with.
func (d *maildrop) take(ns *[]mailstore.Number, uid uint32) (n mailstore.Number, found bool) {
	for len(*ns) > 0 && d.list.uids[(*ns)[0]-1] <= uid {
		n = (*ns)[0]
		*ns = (*ns)[1:]
		found = d.list.uids[n-1] == uid
	}
	return n, found
}

// same refuses a record that is not the message the session has seen.
func (d *maildrop) same(ch *change, i uint64, b []byte, position int) error {
	if tag := ch.x.layout.tag(b); tag != d.list.tags[position] && !hasBit(d.list.gone, position) {
		return fault(ch.x.path, ch.x.offset(i)+int64(ch.x.layout.record.guid),
			"UID %d has another GUID than when the session began", d.list.uids[position])
	}
	return nil
}

func (d *maildrop) expunge(ch *change, i uint64, b []byte, position int) error {
	r := ch.x.layout.decodeRecord(b)
	if r.Flags&FlagExpunged != 0 {
		return nil
	}
	if err := d.same(ch, i, b, position); err != nil {
		return err
	}
	return ch.expunge(i, b, &r, d.store.conf.Expunge.Mode)
}

// expunge takes a message out of the mailbox; record and file stay for the
// clean-up.
func (c *change) expunge(i uint64, b []byte, r *Record, mode imapdconf.ExpungeMode) error {
	h := &c.x.header
	c.tally.account(h, r, -1)
	r.Flags |= FlagDeleted | FlagExpunged
	if mode != imapdconf.ExpungeDelayed {
		r.Flags |= FlagUnlinked
		if c.x.layout.minor >= 13 {
			r.Flags |= FlagNeedsCleanup
		}
		h.Options |= OptionNeedsUnlink
	}
	if mode == imapdconf.ExpungeImmediate {
		h.Options |= OptionNeedsRepack
	}
	c.touch(r)
	if h.FirstExpunged == 0 || r.LastUpdated < h.FirstExpunged {
		h.FirstExpunged = r.LastUpdated
	}
	c.quota[cyrusdb.QuotaStorage] -= int64(r.Size)
	c.quota[cyrusdb.QuotaMessages]--
	if a, found := c.annotations[r.UID]; found {
		h.SyncAnnot ^= uint64(a.sum)
		h.QuotaAnnot -= min(h.QuotaAnnot, uint64(a.octets))
		c.quota[cyrusdb.QuotaAnnotation] -= a.octets
	}
	return c.alter(i, b, r)
}

// see sets \Seen, under popuseimapflags.
func (d *maildrop) see(ch *change, i uint64, b []byte, position int) error {
	r := ch.x.layout.decodeRecord(b)
	if r.Flags&(FlagExpunged|FlagSeen) != 0 {
		return nil
	}
	if err := d.same(ch, i, b, position); err != nil {
		return err
	}
	ch.tally.account(&ch.x.header, &r, -1)
	r.Flags |= FlagSeen
	ch.touch(&r)
	ch.tally.account(&ch.x.header, &r, 1)
	return ch.alter(i, b, &r)
}

// noteLogin writes when the session began into the header of an index whose
// records are Cyrus's to change, for popminpoll. Its failure undoes nothing of
// what the client has asked for, and is the operator's to know.
func (d *maildrop) noteLogin(ctx context.Context) {
	if d.minPoll == 0 || !d.dated {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	if err := d.date(ctx); err != nil {
		d.store.log.Warn("the time of the login was not written", "mailbox", d.place.Name.Intname(), "error", err)
	}
}

func (d *maildrop) date(ctx context.Context) error {
	ch, err := d.change(ctx, d.store.headerChange)
	if err != nil {
		return err
	}
	defer ch.m.release()
	ch.x.header.LastLogin = d.lastLogin(ch.x.header.LastLogin)
	return ch.commit(ctx)
}

// lastLogin is what popminpoll counts from. With poppollpadding it is a leaky
// bucket: that many logins may come at once.
func (d *maildrop) lastLogin(last uint64) uint64 {
	pop := &d.store.conf.POP
	login := d.login.Unix()
	interval := int64(d.minPoll.Seconds())
	if pop.PollPadding <= 1 || interval == 0 || int64(last) > login {
		return uint64(login)
	}
	if floor := login - interval*int64(pop.PollPadding); int64(last) < floor {
		return uint64(floor + interval)
	}
	return last + uint64(interval)
}
