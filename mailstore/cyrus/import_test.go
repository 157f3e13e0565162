package cyrus

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

// TestForeign: messages of another server keep unique-ids, flags and times, and
// no later one gets a UID that was another's there.
func TestForeign(t *testing.T) {
	t.Parallel()
	s := newStore(t, newConfig(t))
	ctx := context.Background()
	if err := s.CreateMailboxWith(ctx, "alice", 1275660208); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Foreign{
		{UID: 7, Arrived: time.Unix(1275660300, 0), Flags: FlagSeen | FlagAnswered},
		{UID: 30, Arrived: time.Unix(1275660400, 0), Flags: FlagDeleted | FlagFlagged},
	} {
		if err := s.AppendForeign(ctx, "alice", strings.NewReader("Subject: x\n\ny\n"), f); err != nil {
			t.Fatal(err)
		}
		clean(t, s, "alice")
	}
	for _, f := range []Foreign{{UID: 30}, {UID: 0}, {UID: 31, Flags: FlagExpunged}} {
		if err := s.AppendForeign(ctx, "alice", strings.NewReader("x"), f); !errors.Is(err, mailstore.ErrMessage) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if err := s.ReserveUIDs(ctx, "alice", 44); err != nil {
		t.Fatal(err)
	}
	if err := s.ReserveUIDs(ctx, "alice", 5); err != nil { // is reserved already
		t.Fatal(err)
	}
	if uid := appendMessage(t, s, "alice", "x\n"); uid != 44 {
		t.Errorf("the next message has UID %d", uid)
	}
	clean(t, s, "alice")
	s.conf.POP.UIDL = 0
	d := open(t, s, "alice")
	var ids []string
	for n := mailstore.Number(1); int(n) <= d.Len(); n++ {
		ids = append(ids, string(d.AppendUniqueID(nil, n)))
	}
	if got := strings.Join(ids, " "); got != "1275660208.7 1275660208.30 1275660208.44" {
		t.Errorf("unique-ids %s", got)
	}
	records := must(s.Dump(ctx, "alice")).Records
	if records[0].Flags != FlagSeen|FlagAnswered || records[1].InternalDate != 1275660400 {
		t.Errorf("%+v", records)
	}
	if err := s.CreateMailboxWith(ctx, "alice", 1); !errors.Is(err, cyrusdb.ErrMailboxExists) {
		t.Errorf("a mailbox over one that is there: %v", err)
	}
}
