package kpop

import (
	"context"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// updateTime is the longest that UPDATE may take: it waits for other programs'
// locks.
const updateTime = 60 * time.Second

// quit is QUIT in TRANSACTION: the UPDATE state, which takes no commands (RFC
// 1939 section 6). Its +OK goes out after the change is on disk and not before.
// A server that shuts down lets it finish.
func (t *transaction) quit(ctx context.Context, _ [][]byte) (state, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), updateTime)
	defer cancel()
	changes := mailstore.Changes{
		Deleted:   t.deleted.numbers(t.drop.Len()),
		Retrieved: t.retrieved.numbers(t.drop.Len()),
	}
	if err := t.drop.Update(ctx, changes); err != nil {
		t.log.Error("UPDATE failed; nothing was removed", "error", err, "marked", t.marked)
		// RFC 1939 section 6: -ERR, and the session ends all the same.
		return nil, t.reply("-ERR ", updateRefusal(err).text)
	}
	t.stats.deleted = t.marked
	return nil, t.reply("+OK bye")
}

func updateRefusal(err error) *refusal {
	r := refusalFor(err)
	if r == errDenied {
		return errTemporary
	}
	return r
}
