package cyrus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// Update implements mailstore.Maildrop: Cyrus's own sequence for QUIT, but with
// messages found again by UID and compared by GUID. Message files are not
// unlinked here; whoever cleans the mailbox up does that.
func (d *maildrop) Update(ctx context.Context, c mailstore.Changes) error {
	pop := d.store.config.POP
	seen := c.Retrieved
	if !pop.UseIMAPFlags {
		seen = nil
	}
	if len(c.Deleted) == 0 && len(seen) == 0 && pop.MinPoll == 0 {
		return nil
	}
	if d.store.config.ReadOnly || d.store.config.Conversations && len(c.Deleted) > 0 {
		// Removing without conversations.db would leave Cyrus counting wrong.
		return fmt.Errorf("cyrus: readonly or conversations is set in imapd.conf: %w", mailstore.ErrReadOnly)
	}
	o, err := d.store.open(ctx, d.box, toChange)
	if err != nil {
		return err
	}
	defer o.release()
	if o.index.header.u32(hUIDValidity) != d.validity {
		return &FaultError{o.index.path, hUIDValidity, "UIDVALIDITY changed during the session"}
	}
	t := d.store.change(o, d.box)
	if pop.MinPoll > 0 {
		t.loggedIn(d.login, pop)
	}
	for _, n := range c.Deleted {
		if err := t.expunge(&d.messages[n-1]); err != nil {
			return err
		}
	}
	for _, n := range seen {
		t.see(&d.messages[n-1])
	}
	return t.commit(ctx)
}

// A change is one mailbox's transaction under its locks: the index in memory is
// altered, and commit writes what was.
type change struct {
	*opened
	store   *Store
	box     imapdconf.Mailbox
	now     uint32
	touched map[int]bool // places of changed records
	mode    imapdconf.ExpungeMode

	freed       int64 // octets leaving the quota
	removed     int64 // messages leaving it
	annotations map[uint32][]annotation
	annotOctets int64
}

func (s *Store) change(o *opened, box imapdconf.Mailbox) *change {
	return &change{
		opened: o, store: s, box: box, touched: map[int]bool{},
		now:  uint32(s.options.Now().Unix()), //nolint:gosec // G115: the format's own range ends in 2106
		mode: s.config.Expunge.Mode,
	}
}

// loggedIn keeps the time of login for popminpoll: with poppollpadding it is a
// leaky bucket.
func (c *change) loggedIn(at time.Time, pop imapdconf.POP) {
	last := time.Unix(int64(c.index.header.u32(hPOP3Login)), 0)
	stamp := at
	if pop.PollPadding > 1 {
		floor := at.Add(-time.Duration(pop.PollPadding) * pop.MinPoll)
		if last.Before(floor) {
			last = floor
		}
		stamp = last.Add(pop.MinPoll)
	}
	c.index.header.put32(hPOP3Login, uint32(stamp.Unix())) //nolint:gosec // G115: as in change
}

// expunge marks one message's record. One that another program removed already
// is done; one with another GUID is damage, and nothing of the session happens.
func (c *change) expunge(m *entry) error {
	i := c.index.find(m.uid)
	if i < 0 || c.index.record(i).has(flagExpunged) {
		return nil
	}
	r, h := c.index.record(i), c.index.header
	if r.guid() != m.guid {
		l := h.layout
		return &FaultError{c.index.path, int64(l.start + i*l.record + rGUID), fmt.Sprintf("GUID of UID %d changed during the session", m.uid)}
	}
	c.leave(r)
	if err := c.dropAnnotations(m.uid); err != nil {
		return err
	}
	flags := r.u32(rFlags) | flagDeleted | flagExpunged
	if c.mode != imapdconf.ExpungeDelayed {
		flags |= flagUnlinked | flagCleanup
		h.put32(hOptions, h.u32(hOptions)|optionUnlink)
	}
	if c.mode == imapdconf.ExpungeImmediate {
		h.put32(hOptions, h.u32(hOptions)|optionRepack)
	}
	r.put32(rFlags, flags)
	c.touch(i, r)
	if first := h.u32(hFirstExpunge); first == 0 || c.now < first {
		h.put32(hFirstExpunge, c.now)
	}
	return nil
}

// leave takes a visible record out of the header's sums and counters.
func (c *change) leave(r record) {
	h := c.index.header
	h.put32(hSyncBasic, h.u32(hSyncBasic)^r.basicTerm(c.header.flags))
	c.xorAnnotations(r.virtualTerm())
	for _, counter := range []struct {
		flag uint32
		at   int
	}{{flagDeleted, hDeleted}, {flagAnswered, hAnswered}, {flagFlagged, hFlagged}} {
		if r.has(counter.flag) {
			h.add32(counter.at, -1)
		}
	}
	if h.layout.hasUnseen && !r.has(flagSeen) {
		h.add32(hUnseen, -1)
	}
	h.add32(hExists, -1)
	size := uint64(r.u32(rSize))
	h.put64(hQuotaUsed, h.u64(hQuotaUsed)-min(size, h.u64(hQuotaUsed)))
	c.freed += int64(size) //nolint:gosec // G115: at most 2^32
	c.removed++
}

// xorAnnotations changes the annotation sum, which version 12 does not have.
func (c *change) xorAnnotations(term uint32) {
	if h := c.index.header; h.layout.version >= 13 {
		h.put32(hSyncAnnot, h.u32(hSyncAnnot)^term)
	}
}

// see sets \Seen.
func (c *change) see(m *entry) {
	i := c.index.find(m.uid)
	if i < 0 {
		return
	}
	r, h := c.index.record(i), c.index.header
	if r.has(flagExpunged|flagSeen) || r.guid() != m.guid {
		return
	}
	h.put32(hSyncBasic, h.u32(hSyncBasic)^r.basicTerm(c.header.flags))
	r.put32(rFlags, r.u32(rFlags)|flagSeen)
	if h.layout.hasUnseen {
		h.add32(hUnseen, -1)
	}
	c.touch(i, r)
	h.put32(hSyncBasic, h.u32(hSyncBasic)^r.basicTerm(c.header.flags))
}

// touch gives a changed record its modseq and time. An imapd that has the
// mailbox selected would not notice the change without.
func (c *change) touch(i int, r record) {
	h := c.index.header
	h.put64(hModSeq, h.modseq()+1)
	r.put64(rModSeq, h.u64(hModSeq))
	r.put32(rUpdated, c.now)
	c.touched[i] = true
}

// commit puts the change on disk: quota, records, header, one fsync.
func (c *change) commit(ctx context.Context) error {
	if err := c.chargeQuota(ctx, -c.freed, -c.removed, -c.annotOctets); err != nil {
		return err
	}
	l := c.index.header.layout
	for i := 0; i < c.index.len(); i++ {
		if !c.touched[i] {
			continue
		}
		first := i
		for ; i < c.index.len() && c.touched[i]; i++ {
			c.index.record(i).seal()
		}
		run := c.index.records[first*l.record : i*l.record]
		if _, err := c.file.WriteAt(run, int64(l.start+first*l.record)); err != nil {
			return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
		}
	}
	return c.commitHeader(ctx)
}

func (c *change) commitHeader(ctx context.Context) error {
	h := c.index.header
	h.put32(hOptions, h.options()&optionsKept)
	h.seal()
	if _, err := c.file.WriteAt(h.raw, 0); err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	if err := c.file.Sync(); err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	return c.announce(ctx)
}

// An annotation is one of a message's: its term of the sum and its length.
type annotation struct {
	term   uint32
	octets int64
}

// dropAnnotations takes a message's annotations out of sum and quota. The
// entries stay in their file until the message file is unlinked.
func (c *change) dropAnnotations(uid uint32) error {
	if c.annotations == nil {
		if err := c.readAnnotations(); err != nil {
			return err
		}
	}
	for _, a := range c.annotations[uid] {
		c.xorAnnotations(a.term)
		c.annotOctets += a.octets
		h := c.index.header
		used := int64(h.u32(hQuotaAnnot))
		h.put32(hQuotaAnnot, uint32(max(0, used-a.octets))) //nolint:gosec // G115: shrinks
	}
	return nil
}

// readAnnotations reads cyrus.annotations, which most mailboxes do not have:
// keys uid NUL entry NUL user NUL, values an eight-octet length and the text.
func (c *change) readAnnotations() error {
	c.annotations = map[uint32][]annotation{}
	path, err := c.store.config.Path(c.box, imapdconf.AnnotationsFile)
	if err != nil {
		return err
	}
	db := imapdconf.Database{Backend: c.store.config.Databases.Annotation, Path: path}
	err = cyrusdb.View(context.Background(), db, func(r cyrusdb.Reader) error {
		return r.Range(nil, func(key, value []byte) error {
			uid, a, ok := c.parseAnnotation(key, value)
			if ok {
				c.annotations[uid] = append(c.annotations[uid], a)
			}
			return nil
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ownerToken stands in keys for the mailbox's owner, whose userid is summed.
const ownerToken = "[.OwNeR.]"

func (c *change) parseAnnotation(key, value []byte) (uid uint32, a annotation, ok bool) {
	fields := splitNUL(key)
	if len(fields) < 3 || len(value) < 8 {
		return 0, a, false
	}
	n := int64(binary.BigEndian.Uint32(value))
	if n > int64(len(value)-8) || value[len(value)-1]&1 != 0 { // the last octet's bit 0: deleted
		return 0, a, false
	}
	if _, err := fmt.Sscanf(fields[0], "%d", &uid); err != nil {
		return 0, a, false
	}
	user := fields[2]
	if user == ownerToken {
		user = c.box.Name.Userid()
	}
	return uid, annotation{annotationTerm(uid, fields[1], user, string(value[8:8+n])), n}, true
}
