package cyrus

import (
	"context"
	"fmt"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// Retirable tells what Retire would remove.
func (s *Store) Retirable(ctx context.Context, mailbox string, retention time.Duration) (Expired, error) {
	return s.retireOld(ctx, mailbox, retention, false)
}

// Retire removes the messages that have been in a mailbox for longer than
// retention, as a client's DELE and QUIT would: what CAPA's EXPIRE announces
// (RFC 2449 section 6.7). It is for a spool without Cyrus. Expire drops them
// later, and until then Undelete brings them back. Messages and Octets of the
// result are those removed, Kept those that stay. It is about maildrops: folders
// below an INBOX are left alone.
func (s *Store) Retire(ctx context.Context, mailbox string, retention time.Duration) (Expired, error) {
	return s.retireOld(ctx, mailbox, retention, true)
}

func (s *Store) retireOld(ctx context.Context, mailbox string, retention time.Duration, really bool) (Expired, error) {
	if s.mode != Embedded {
		return Expired{}, fmt.Errorf("cyrus: %w: Cyrus owns the spool: its cyr_expire keeps what is announced", mailstore.ErrReadOnly)
	}
	if retention < 0 {
		return Expired{}, nil // NEVER
	}
	name, err := s.name(mailbox)
	if err != nil || !name.IsInbox() {
		return Expired{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	m, c, err := s.change(ctx, name)
	if err != nil {
		return Expired{}, err
	}
	defer m.release()
	if err := c.loadAnnotations(ctx); err != nil {
		return Expired{}, told(err)
	}
	done, err := c.retire(uint64(max(0, s.now().Add(-retention).Unix())))
	if err != nil || done.Messages == 0 || !really {
		return done, told(err)
	}
	return done, c.commit(ctx)
}

// retire notes the removal of what came before a time. The later of two dates
// counts: a message that was copied here keeps the date of its first arrival.
func (c *change) retire(before uint64) (done Expired, err error) {
	err = c.m.store.scan(c.x, func(i uint64, b []byte) error {
		r := c.x.layout.decodeRecord(b)
		switch {
		case r.Flags&FlagExpunged != 0:
			return nil
		case max(r.InternalDate, r.SaveDate) >= before:
			done.Kept++
			return nil
		}
		done.Messages++
		done.Octets += int64(r.Size)
		return c.expunge(i, b, &r, c.m.store.conf.Expunge.Mode)
	})
	return done, err
}
