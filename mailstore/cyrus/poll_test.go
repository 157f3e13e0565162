package cyrus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// TestPollWhileCleaning: a client that polls while messages come, are removed,
// brought back and dropped sees a maildrop that is whole each time: its octets
// are the sum of its sizes, a message has the size that was listed or is gone,
// and a unique-id never comes to mean another message.
func TestPollWhileCleaning(t *testing.T) {
	t.Parallel()
	const rounds, batch = 8, 4
	s := newMailbox(t)
	ctx := context.Background()
	for i := range 2 * worthResting { // so many that a resting session gives its list back
		appendMessage(t, s, "alice", fmt.Sprintf("Subject: first %d\r\n\r\n%s\n", i, strings.Repeat("x", i%50)))
	}
	var group sync.WaitGroup
	done := make(chan struct{})
	group.Go(func() {
		defer close(done)
		other := newStore(t, s.conf) // a process of its own
		// IMAP clients are not kept out by a POP session.
		imap, err := Open(Options{Config: s.conf, StateDir: t.TempDir(), Now: testTime, Location: time.UTC})
		if err != nil {
			t.Errorf("open: %v", err)
			return
		}
		defer imap.Close()
		for i := range rounds {
			for j := range batch {
				if _, err := other.Append(ctx, "alice", strings.NewReader(fmt.Sprintf("Subject: %d.%d\n\nx\n", i, j)), time.Time{}); err != nil {
					t.Errorf("append: %v", err)
				}
			}
			removeSome(t, imap, i)
			if n, err := other.Undelete(ctx, "alice", time.Time{}); err != nil || n == 0 && i%2 == 0 {
				t.Errorf("undelete: %d, %v", n, err)
			}
			if _, err := other.Expire(ctx, "alice", 0); err != nil {
				t.Errorf("expire: %v", err)
			}
		}
	})
	p := &poller{meaning: map[string]string{}}
	for polling := true; polling; {
		select {
		case <-done:
			polling = false // once more, when all is quiet
		default:
		}
		p.poll(t, s)
	}
	group.Wait()
	clean(t, s, "alice")
	t.Logf("%d sessions, %d messages seen, %d gone while they were listed", p.sessions, len(p.meaning), p.gone)
}

// removeSome removes every third message.
func removeSome(t *testing.T, s *Store, round int) {
	d, err := s.Open(context.Background(), "alice", mailstore.Holder{})
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	var c mailstore.Changes
	for n := 1 + round%3; n <= d.Len(); n += 3 {
		c.Deleted = append(c.Deleted, mailstore.Number(n))
	}
	if err := errors.Join(d.Update(context.Background(), c), d.Close()); err != nil {
		t.Errorf("update: %v", err)
	}
}

// A poller remembers what each unique-id has meant.
type poller struct {
	meaning        map[string]string
	sessions, gone int
}

func (p *poller) poll(t *testing.T, s *Store) {
	t.Helper()
	drop, err := s.Open(context.Background(), "alice", mailstore.Holder{})
	if errors.Is(err, mailstore.ErrInUse) {
		return
	}
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer drop.Close()
	p.sessions++
	d := drop.(*maildrop)
	octets, err := d.Octets()
	if err != nil {
		t.Errorf("octets: %v", err)
		return
	}
	sizes, ids := make([]int64, d.Len()), make([]string, d.Len())
	for i := range sizes {
		n := mailstore.Number(i + 1)
		if sizes[i], err = d.Size(n); err != nil {
			t.Errorf("size: %v", err)
			return
		}
		ids[i] = string(d.AppendUniqueID(nil, n))
		octets -= sizes[i]
	}
	if octets != 0 {
		t.Errorf("octets are %d more than the sizes", octets)
	}
	for i := range sizes {
		if i%40 == 0 {
			d.Rest() // the client is silent now and then
		}
		p.read(t, d, mailstore.Number(i+1), sizes[i], ids[i])
	}
}

func (p *poller) read(t *testing.T, d *maildrop, n mailstore.Number, size int64, id string) {
	t.Helper()
	text, _, _, err := d.AppendMessage(nil, n, 1<<20)
	switch {
	case errors.Is(err, mailstore.ErrGone):
		p.gone++
		return
	case err != nil:
		t.Errorf("message %d (%s): %v", n, id, err)
		return
	}
	if again := string(d.AppendUniqueID(nil, n)); again != id {
		t.Errorf("message %d was %s and is %s", n, id, again)
	}
	if int64(len(text)) != size {
		t.Errorf("message %d (%s) has %d octets, listed were %d", n, id, len(text), size)
	}
	line := subject(string(text))
	if before, known := p.meaning[id]; known && before != line {
		t.Errorf("%s was %q and is %q", id, before, line)
	}
	p.meaning[id] = line
}

func subject(text string) string {
	_, after, _ := strings.Cut("\r\n"+text, "\r\nSubject: ")
	line, _, _ := strings.Cut(after, "\r\n")
	return line
}
