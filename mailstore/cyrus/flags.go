package cyrus

import (
	"context"
	"fmt"

	"github.com/kpopd/kpopd/mailstore"
)

// systemFlags pairs the flags of a record with those of package mailstore.
var systemFlags = [...]struct {
	ours  mailstore.Flags
	cyrus Flags
}{
	{mailstore.FlagAnswered, FlagAnswered},
	{mailstore.FlagFlagged, FlagFlagged},
	{mailstore.FlagDeleted, FlagDeleted},
	{mailstore.FlagDraft, FlagDraft},
	{mailstore.FlagSeen, FlagSeen},
}

func flagsOf(f Flags) (ours mailstore.Flags) {
	for _, pair := range systemFlags {
		if f&pair.cyrus != 0 {
			ours |= pair.ours
		}
	}
	return ours
}

func toFlags(ours mailstore.Flags) (f Flags) {
	for _, pair := range systemFlags {
		if ours&pair.ours != 0 {
			f |= pair.cyrus
		}
	}
	return f
}

// Flags implements mailstore.Folders.
func (d *maildrop) Flags(ctx context.Context, n mailstore.Number) (mailstore.Flags, error) {
	records, err := d.records(ctx, []mailstore.Number{n})
	if err != nil {
		return 0, err
	}
	return flagsOf(records[0].Flags), nil
}

// SetFlags implements mailstore.Folders. It changes the index under Cyrus's
// locks as Update does, whoever owns the spool.
func (d *maildrop) SetFlags(ctx context.Context, n mailstore.Number, set, clear mailstore.Flags) (mailstore.Flags, error) {
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	if err := d.wake(); err != nil {
		return 0, err
	}
	m, _, err := d.reread(ctx, toChange)
	if err != nil {
		return 0, err
	}
	defer m.release()
	for _, right := range neededRights(set | clear) {
		if err := d.store.may(&m.entry, right); err != nil {
			return 0, err
		}
	}
	c, err := d.store.changeOf(ctx, m)
	if err != nil {
		return 0, told(err)
	}
	flags, err := d.flag(c, n, toFlags(set), toFlags(clear))
	if err != nil || len(c.altered) == 0 {
		return flagsOf(flags), told(err)
	}
	return flagsOf(flags), c.commit(ctx)
}

// neededRights are those of RFC 4314 section 2.1.
func neededRights(changed mailstore.Flags) (rights []string) {
	if changed&mailstore.FlagSeen != 0 {
		rights = append(rights, "s")
	}
	if changed&^(mailstore.FlagSeen|mailstore.FlagDeleted) != 0 {
		rights = append(rights, "w")
	}
	return rights
}

// flag notes the change of a message's flags, and tells what they become.
func (d *maildrop) flag(c *change, n mailstore.Number, set, clear Flags) (flags Flags, err error) {
	uid, found := d.list.uids[n-1], false
	err = d.store.scan(c.x, func(i uint64, b []byte) error {
		r := c.x.layout.decodeRecord(b)
		if r.UID != uid || r.Flags&FlagExpunged != 0 {
			return nil
		}
		if err := d.same(c, i, b, int(n-1)); err != nil {
			return err
		}
		found, flags = true, r.Flags&^clear|set
		if flags == r.Flags {
			return nil
		}
		c.tally.account(&c.x.header, &r, -1)
		r.Flags = flags
		c.touch(&r)
		c.tally.account(&c.x.header, &r, 1)
		return c.alter(i, b, &r)
	})
	if err == nil && !found {
		err = fmt.Errorf("cyrus: %w: %s, UID %d", mailstore.ErrGone, d.place.Name, uid)
	}
	return flags, err
}
