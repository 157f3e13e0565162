package cyrus

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// Foreign is what a message of another server's mailbox brings along.
type Foreign struct {
	UID     uint32 // greater than those of all messages before
	Arrived time.Time
	Flags   Flags // answered, flagged, deleted, draft, seen
}

// foreignFlags are those that another server's message may have.
const foreignFlags = FlagAnswered | FlagFlagged | FlagDeleted | FlagDraft | FlagSeen

// AppendForeign is Append for a message of another server's mailbox, which keeps
// its UID and flags. In a mailbox with the other's UIDVALIDITY
// (CreateMailboxWith) it keeps its unique-id.
func (s *Store) AppendForeign(ctx context.Context, mailbox string, message io.Reader, f Foreign) error {
	if f.UID == 0 || f.Flags&^foreignFlags != 0 {
		return fmt.Errorf("cyrus: %w: UID %d, flags %v", mailstore.ErrMessage, f.UID, f.Flags.Names())
	}
	_, err := s.appendMessage(ctx, mailbox, message, f)
	return err
}

// skipTo makes uid the next one.
func (c *change) skipTo(uid uint32) error {
	h := &c.x.header
	if uint64(uid) <= h.LastUID {
		return fmt.Errorf("cyrus: %w: UID %d in a mailbox whose last one is %d", mailstore.ErrMessage, uid, h.LastUID)
	}
	h.LastUID = uint64(uid) - 1
	return nil
}

// ReserveUIDs makes next the least UID that a new message can get: those below
// were another server's, and were removed there.
func (s *Store) ReserveUIDs(ctx context.Context, mailbox string, next uint32) error {
	name, err := s.name(mailbox)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	m, c, err := s.change(ctx, name)
	if err != nil {
		return err
	}
	defer m.release()
	if uint64(next) <= c.x.header.LastUID+1 {
		return nil
	}
	c.x.header.LastUID = uint64(next) - 1
	return c.commit(ctx)
}
