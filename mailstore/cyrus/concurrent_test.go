package cyrus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// TestConcurrent: deliveries, sessions and clean-ups of two programs on one
// mailbox. Every message is deleted exactly once, by the session that read it.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	const messages = 20
	c := newConfig(t)
	a, b := newStore(t, c), newStore(t, c)
	if err := a.CreateMailbox(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	var delivered sync.WaitGroup
	for i, s := range []*Store{a, b} {
		delivered.Go(func() {
			for n := range messages {
				text := fmt.Sprintf("Subject: %d-%d\r\n\r\nx\r\n", i, n)
				_, err := s.Append(context.Background(), "alice", strings.NewReader(text), time.Time{})
				for errors.Is(err, context.DeadlineExceeded) { // a slow disk: an MTA would try again too
					_, err = s.Append(context.Background(), "alice", strings.NewReader(text), time.Time{})
				}
				if err != nil {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	group.Go(func() { delivered.Wait(); close(done) })
	ledger := &ledger{seen: map[string]int{}}
	for _, s := range []*Store{a, b, a} {
		group.Go(func() {
			for ledger.count() < 2*messages && !t.Failed() {
				ledger.session(t, s)
			}
		})
	}
	group.Go(func() {
		for {
			if _, err := b.Expire(context.Background(), "alice", 0); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("expire: %v", err)
			}
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	group.Wait()
	for text, n := range ledger.seen {
		if n != 1 {
			t.Errorf("%q was deleted %d times", text, n)
		}
	}
	clean(t, a, "alice")
	if got := texts(t, a); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// A ledger knows which messages sessions have deleted.
type ledger struct {
	mu   sync.Mutex
	seen map[string]int
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// session reads and deletes what there is.
func (l *ledger) session(t *testing.T, s *Store) {
	d, err := s.Open(context.Background(), "alice", mailstore.Holder{})
	if errors.Is(err, mailstore.ErrInUse) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer d.Close()
	var read []string
	var c mailstore.Changes
	for n := mailstore.Number(1); int(n) <= d.Len(); n++ {
		b, _, _, err := d.(mailstore.Appender).AppendMessage(nil, n, 1<<20)
		if err != nil {
			t.Errorf("read: %v", err)
			return
		}
		read = append(read, string(b))
		c.Deleted = append(c.Deleted, n)
	}
	err = d.Update(context.Background(), c)
	if errors.Is(err, context.DeadlineExceeded) {
		return // nothing was done: it is there for the next session
	}
	if err != nil {
		t.Errorf("update: %v", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range read {
		l.seen[text]++
	}
}

// TestHolders tells who has what, and nothing of sessions that are over.
func TestHolders(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	s, other := newStore(t, c), newStore(t, c)
	if err := s.CreateMailbox(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	d, err := s.Open(context.Background(), "alice", mailstore.Holder{User: "alice", Session: "s7"})
	if err != nil {
		t.Fatal(err)
	}
	if h := s.Holders(); len(h) != 1 || h[0].Holder.Session != "s7" || h[0].Mailbox != "user.alice" {
		t.Errorf("%+v", h)
	}
	if _, err := other.Open(context.Background(), "alice", mailstore.Holder{}); !errors.Is(err, mailstore.ErrInUse) {
		t.Errorf("another process: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if h := s.Holders(); len(h) != 0 {
		t.Errorf("%+v", h)
	}
	open(t, other, "alice")
}

// TestLocksReleased: no lock of Cyrus's is held while a client thinks.
func TestLocksReleased(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	d := open(t, s, "alice")
	if _, err := d.Octets(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	m, err := s.lockMailbox(ctx, must(s.name("alice")), toReplace)
	if err != nil {
		t.Fatalf("an open maildrop keeps others out: %v", err)
	}
	m.release()
}

// TestDeadline: another program's lock is waited for, but not for ever, and
// nothing is changed then.
func TestDeadline(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	d := open(t, s, "alice")
	m, err := s.lockMailbox(context.Background(), must(s.name("alice")), toRead)
	if err != nil {
		t.Fatal(err)
	}
	defer m.release()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := d.Update(ctx, mailstore.Changes{Deleted: []mailstore.Number{1}}); !errors.Is(err, mailstore.ErrTemporary) {
		t.Errorf("%v", err)
	}
	m.release()
	d.Close()
	if got := texts(t, s); len(got) != 6 {
		t.Errorf("%q", got)
	}
}

// TestRestGone: messages that were dropped during a rest keep their numbers.
func TestRestGone(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	s := newStore(t, c)
	if err := s.CreateMailbox(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	grow(t, s, 1000)
	d := open(t, s, "alice")
	before := string(d.AppendUniqueID(nil, 1000))
	d.Rest()
	if d.list.uids != nil {
		t.Fatal("nothing was given back")
	}
	m, ch, err := s.change(context.Background(), must(s.name("alice")))
	if err != nil {
		t.Fatal(err)
	}
	e := &expiry{change: ch}
	err = s.scan(ch.x, func(i uint64, b []byte) error {
		r := ch.x.layout.decodeRecord(b)
		if r.UID%10 == 0 {
			e.drop = append(e.drop, r)
		} else {
			e.keep = append(e.keep, append([]byte(nil), b...))
		}
		return nil
	})
	if err == nil {
		err = e.repack()
	}
	m.release()
	if err != nil {
		t.Fatal(err)
	}
	if size, err := d.Size(10); size != 0 || err != nil {
		t.Errorf("a message that is gone: %d, %v", size, err)
	}
	if size, err := d.Size(11); size != 2010 || err != nil {
		t.Errorf("the next: %d, %v", size, err)
	}
	if _, err := d.Open(10); !errors.Is(err, mailstore.ErrGone) {
		t.Errorf("%v", err)
	}
	if after := string(d.AppendUniqueID(nil, 1000)); after != before || d.Len() != 1000 {
		t.Errorf("%q, %q", before, after)
	}
}

// TestRestChanged: other records under the same UIDs are noticed.
func TestRestChanged(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	grow(t, s, 1000)
	d := open(t, s, "alice")
	d.Rest()
	m, ch, err := s.change(context.Background(), must(s.name("alice")))
	if err != nil {
		t.Fatal(err)
	}
	err = s.scan(ch.x, func(i uint64, b []byte) error {
		r := ch.x.layout.decodeRecord(b)
		if i != 500 {
			return nil
		}
		r.GUID[0]++
		return ch.alter(i, b, &r)
	})
	if err == nil {
		err = ch.commit(context.Background())
	}
	m.release()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Size(1); !errors.Is(err, mailstore.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// TestSizesFile: what is known of messages' octets is used, and wrong files are
// not.
func TestSizesFile(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	for range 3 {
		appendRaw(t, s, "alice", "a\nb\n")
	}
	total := func() int64 {
		d := open(t, s, "alice")
		defer d.Close()
		n, err := d.Octets()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	want := int64(3 * len("a\r\nb\r\n"))
	if n := total(); n != want {
		t.Fatalf("%d octets, should be %d", n, want)
	}
	path := s.sizePath(holdKey(must(s.lookup("alice")).UniqueID))
	good := contents(t, path)
	z, ok := parseSizes(good)
	if !ok || len(z.odd) != 3 || z.through != 3 {
		t.Fatalf("%+v", z)
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		write(t, path, bad)
		if n := total(); n != want {
			t.Errorf("octet %d flipped: %d octets", i, n)
		}
		write(t, path, good[:i])
		if n := total(); n != want {
			t.Errorf("cut at %d: %d octets", i, n)
		}
	}
	for _, z := range []sizeFile{{uidValidity: 1, through: 3}, {uidValidity: z.uidValidity, through: 4}, {uidValidity: z.uidValidity, through: 3, modSeq: 1 << 40}} {
		write(t, path, z.append(nil))
		if n := total(); n != want {
			t.Errorf("%+v: %d octets", z, n)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if n := total(); n != want {
		t.Errorf("removed: %d octets", n)
	}
}

// TestExpireGivesWay: while another program keeps the mailbox's lock, as Cyrus's
// pop3d does all session, an expiry that waits for it keeps no mail out.
func TestExpireGivesWay(t *testing.T) {
	t.Parallel()
	s, ctx := newMailbox(t), context.Background()
	sixMessages(t, s)
	expunge(t, s, "alice", 1)
	other := &mailbox{store: s}
	defer other.release()
	if err := other.lock(ctx, must(s.conf.MailboxLock(must(s.lookup("alice")))), false); err != nil {
		t.Fatal(err)
	}
	expired := make(chan error, 1)
	go func() {
		done, err := s.Expire(ctx, "alice", 0)
		if err == nil && done.Messages != 1 {
			err = fmt.Errorf("%+v", done)
		}
		expired <- err
	}()
	look := &mailbox{store: s}
	namespace := must(s.conf.NamespaceLock(must(s.name("alice"))))
	for waiting := false; !waiting; look.release() { // until the expiry is there
		moment, cancel := context.WithTimeout(ctx, time.Millisecond)
		waiting = look.lock(moment, namespace, false) != nil
		cancel()
	}
	for range 3 {
		appendMessage(t, s, "alice", "Subject: seven\r\n\r\nseven\r\n")
	}
	other.release()
	if err := <-expired; err != nil {
		t.Error(err)
	}
	clean(t, s, "alice")
}

// TestGoneWithMailbox: of a mailbox that was deleted or renamed an entry is left,
// without a partition; its messages are gone, not damaged.
func TestGoneWithMailbox(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	d := open(t, s, "alice")
	putEntry(t, s, "alice", func(e *cyrusdb.MailboxEntry) { e.Flags, e.Partition = cyrusdb.TypeDeleted, "" })
	if err := os.Remove(d.messagePath(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(1); !errors.Is(err, mailstore.ErrGone) {
		t.Errorf("%v", err)
	}
}

// TestArchivedMeanwhile: cyr_expire moves a message to the archive partition and,
// when it is to be kept after all, back; a session finds it either way.
func TestArchivedMeanwhile(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	p := c.Layout.Partitions["default"]
	p.Archive = filepath.Join(filepath.Dir(c.Dir), "archive")
	c.Layout.Partitions["default"] = p
	s := newStore(t, c)
	if err := s.CreateMailbox(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	sixMessages(t, s)
	place := must(s.lookup("alice"))
	spool, archive := must(c.MessagePath(place, 2, false)), must(c.MessagePath(place, 2, true))
	if err := os.MkdirAll(filepath.Dir(archive), 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, s, "alice")
	for _, move := range [][2]string{{spool, archive}, {archive, spool}, {spool, archive}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
		for n, want := range map[mailstore.Number]string{1: "one", 2: "two"} {
			if b, _, _, err := d.AppendMessage(nil, n, 1<<20); err != nil || !strings.HasPrefix(string(b), "Subject: "+want) {
				t.Errorf("message %d at %s: %q, %v", n, move[1], b, err)
			}
		}
	}
}

// TestArchived: an archived message lies under the archive root, though its cache is
// on the metapartition; a clean-up leaves both.
func TestArchived(t *testing.T) {
	t.Parallel()
	c, ctx := newConfig(t), context.Background()
	p, root := c.Layout.Partitions["default"], filepath.Dir(c.Dir)
	p.Archive, p.Meta = filepath.Join(root, "archive"), filepath.Join(root, "meta")
	c.Layout.Partitions["default"], c.Layout.MetaFiles = p, []imapdconf.File{imapdconf.ArchiveCacheFile}
	s := newStore(t, c)
	if err := s.CreateMailbox(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	sixMessages(t, s)
	archive(t, s, "alice", 2)
	clean(t, s, "alice")
	all := []string{"one", "two", "three", "four", "five", "six"}
	if got := texts(t, s); !slices.Equal(got, all) {
		t.Errorf("%q", got)
	}
	before := must(s.Dump(ctx, "alice")).Records[1]
	expunge(t, s, "alice", 1)
	if _, err := s.Expire(ctx, "alice", 0); err != nil {
		t.Fatal(err)
	}
	if after := must(s.Dump(ctx, "alice")).Records[0]; after != before {
		t.Errorf("%+v, was %+v", after, before)
	}
	if got := texts(t, s); !slices.Equal(got, all[1:]) {
		t.Errorf("%q", got)
	}
	clean(t, s, "alice")
}

// archive does to a message what cyr_expire does.
func archive(t *testing.T, s *Store, user string, uid uint32) {
	t.Helper()
	place := must(s.lookup(user))
	cache := contents(t, must(s.conf.Path(place, imapdconf.CacheFile)))
	m, ch, err := s.change(context.Background(), place.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.release()
	err = s.scan(ch.x, func(i uint64, b []byte) error {
		r := ch.x.layout.decodeRecord(b)
		if r.UID != uid {
			return nil
		}
		// The whole cache under another generation: the places stay what they are.
		write(t, must(s.conf.Path(place, imapdconf.ArchiveCacheFile)), append([]byte{0, 0, 0, 7}, cache[4:]...))
		from := must(s.conf.MessagePath(place, uid, false))
		write(t, must(s.conf.MessagePath(place, uid, true)), contents(t, from))
		r.Flags |= FlagArchived
		return errors.Join(os.Remove(from), ch.alter(i, b, &r))
	})
	if err = errors.Join(err, ch.commit(context.Background())); err != nil {
		t.Fatal(err)
	}
}
