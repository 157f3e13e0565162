package kpop

import (
	"context"
	"errors"
	"log/slog"

	"github.com/kpopd/kpopd/mailstore"
)

// quit is the UPDATE state (RFC 1939 section 6): remove, give the lock back,
// reply, in that order. The reply comes after the change is on disk, and after
// the lock is free, for a client that comes back at once.
//
// A session that is kicked or meets the server's end here finishes: the context
// given to the store cannot be cancelled.
func (t *transaction) quit(ctx context.Context, _ *command) (state, error) {
	changes := mailstore.Changes{Deleted: t.deleted.numbers(), Retrieved: t.retrieved.numbers()}
	err := t.drop.Update(context.WithoutCancel(ctx), changes)
	t.closeDrop()
	if err != nil {
		t.logAttrs(slog.LevelError, "update failed", slog.String("mailbox", t.account.Mailbox), slog.Any("err", err))
		reply := refUpdate
		if errors.Is(err, mailstore.ErrDamaged) || errors.Is(err, mailstore.ErrReadOnly) {
			reply = refUpdatePerm
		}
		return t, &ending{how: "quit, update failed", reply: reply}
	}
	t.delCount.Store(int64(len(changes.Deleted)))
	t.delSize.Store(t.deletedOctets)
	t.ok("Goodbye")
	return nil, nil
}

// closeDrop gives the lock back, and the place among the user's sessions: a client
// may come back as soon as it reads the reply, and may be slow to close.
func (t *transaction) closeDrop() {
	defer t.srv.giveUser(t.conn)
	drop := t.drop
	t.drop, t.rester = nil, nil
	if err := drop.Close(); err != nil {
		t.logAttrs(slog.LevelError, "maildrop not closed", slog.String("mailbox", t.account.Mailbox), slog.Any("err", err))
	}
}
