package cyrus

import (
	"context"
	"fmt"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A Remover has Cyrus itself remove messages, where a change of the index is
// more than this package writes: with conversations on, an expunge is also one
// of conversations.db and of the counters that a user's mailboxes share.
//
// Remove returns nil only when all of them are gone. It must not remove any
// other message, and after an error it should have removed none.
type Remover interface {
	Remove(ctx context.Context, r Removal) error
}

// A Removal is what a session asks for at QUIT.
type Removal struct {
	Mailbox     imapdconf.Name
	UIDValidity uint32
	Deleted     []Removed // ascending by UID
	Seen        []uint32  // UIDs to get \Seen, ascending
}

// A Removed message, and how it can be known again.
type Removed struct {
	UID  uint32
	Size uint32
	Tag  uint64 // the first eight octets of its GUID; 0: it has none

	// Joined is true when no message lies between this and the one before: a
	// range of UIDs may cover both.
	Joined bool
}

// removeWait is how long a removal through Cyrus may take.
const removeWait = 2 * time.Minute

// changes decides how messages are removed from the maildrop, if they can be.
func (d *maildrop) changes(m *mailbox, x *indexFile) {
	s := d.store
	d.writable, d.dated = s.changeable(m, x), s.headerChangeable(m, x) == nil
	if d.writable != nil && s.remover != nil && s.mode != ReadOnly && !s.conf.ReadOnly {
		d.writable, d.through = nil, true
	}
}

// updateThrough is Update by way of Cyrus. What Cyrus says it has done is
// looked for in the index before it is believed.
func (d *maildrop) updateThrough(ctx context.Context, c mailstore.Changes) error {
	if !d.store.conf.POP.UseIMAPFlags {
		c.Retrieved = nil
	}
	if len(c.Deleted) == 0 && len(c.Retrieved) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	if err := d.wake(); err != nil {
		return err
	}
	r := d.removal(c)
	if err := d.store.remover.Remove(ctx, r); err != nil {
		return told(err)
	}
	return d.removed(ctx, r.Deleted)
}

func (d *maildrop) removal(c mailstore.Changes) Removal {
	r := Removal{Mailbox: d.place.Name, UIDValidity: d.uidValidity, Deleted: make([]Removed, 0, len(c.Deleted))}
	deleted := make(map[mailstore.Number]bool, len(c.Deleted))
	for _, n := range c.Deleted {
		deleted[n] = true
		joined := len(r.Deleted) > 0 && deleted[n-1] && !d.hides(d.list.uids[n-2], d.list.uids[n-1])
		r.Deleted = append(r.Deleted, Removed{UID: d.list.uids[n-1], Size: d.list.sizes[n-1], Tag: d.list.tags[n-1], Joined: joined})
	}
	for _, n := range c.Retrieved {
		if !deleted[n] {
			r.Seen = append(r.Seen, d.list.uids[n-1])
		}
	}
	return r
}

// hides reports whether a message that the maildrop does not show lies between
// two UIDs.
func (d *maildrop) hides(from, to uint32) bool {
	for _, uid := range d.hidden {
		if uid > from && uid < to {
			return true
		}
	}
	return false
}

// removed looks whether messages are gone.
func (d *maildrop) removed(ctx context.Context, messages []Removed) error {
	m, x, err := d.reread(ctx, toRead)
	if err != nil {
		return err
	}
	defer m.release()
	gone := make(map[uint32]bool, len(messages))
	for _, r := range messages {
		gone[r.UID] = true
	}
	left := 0
	err = d.store.scan(x, func(_ uint64, b []byte) error {
		r := &x.layout.record
		if gone[uint32(r.uid.get(b))] && Flags(r.flags.get(b))&FlagExpunged == 0 {
			left++
		}
		return nil
	})
	if err == nil && left > 0 {
		err = fmt.Errorf("cyrus: %w: %s: Cyrus has left %d of %d messages", mailstore.ErrTemporary, d.place.Name, left, len(messages))
	}
	return err
}
