package cyrus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// TestUndelete brings messages back under new UIDs.
func TestUndelete(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	expunge(t, s, "alice", 2, 3)
	if n, err := s.Undelete(context.Background(), "alice", time.Time{}); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	clean(t, s, "alice")
	if n, err := s.Undelete(context.Background(), "alice", time.Time{}); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if done, err := s.Expire(context.Background(), "alice", time.Hour); done.Messages != 2 || err != nil {
		t.Errorf("%+v, %v", done, err)
	}
	if got := texts(t, s); !slices.Equal(got, []string{"one", "four", "five", "six", "two", "three"}) {
		t.Errorf("%q", got)
	}
	clean(t, s, "alice")
}

// TestQuota: counted by every change, and a limit refuses.
func TestQuota(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	s.conf.POP.Subfolders = true
	if err := s.SetQuota(context.Background(), "alice", Limits{StorageKiB: 1, Messages: cyrusdb.Unlimited}); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateMailbox(context.Background(), "alice+Work"); err != nil {
		t.Fatal(err)
	}
	text := "Subject: x\r\n\r\n" + strings.Repeat("x", 400) + "\r\n"
	appendMessage(t, s, "alice", text)
	appendMessage(t, s, "alice+Work", text)
	clean(t, s, "alice")
	_, err := s.Append(context.Background(), "alice", strings.NewReader(text), time.Time{})
	if !errors.Is(err, mailstore.ErrOverQuota) {
		t.Errorf("over quota: %v", err)
	}
	clean(t, s, "alice")
	expunge(t, s, "alice+Work", 1)
	appendMessage(t, s, "alice", text)
	clean(t, s, "alice")
	clean(t, s, "alice+Work")
}

// TestQuotaFileEmpty: to Cyrus a quota file without an octet is no quota root.
func TestQuotaFileEmpty(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	ctx := context.Background()
	if err := s.SetQuota(ctx, "alice", Limits{StorageKiB: 100, Messages: cyrusdb.Unlimited}); err != nil {
		t.Fatal(err)
	}
	sixMessages(t, s)
	write(t, must(s.conf.QuotaPath(imapdconf.QuotaRoot(must(s.name("alice"))))), nil)
	if err := s.Accepts(ctx, "alice", 100); err != nil {
		t.Errorf("%v", err)
	}
	appendMessage(t, s, "alice", "Subject: seven\r\n\r\nx\r\n")
	expunge(t, s, "alice", 1)
	if got := texts(t, s); !slices.Equal(got, []string{"two", "three", "four", "five", "six", "seven"}) {
		t.Errorf("%q", got)
	}
}

// TestEmptyMessage: one of no octets is one empty line.
func TestEmptyMessage(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	appendMessage(t, s, "alice", "")
	d := open(t, s, "alice")
	b, canonical, ok, err := d.AppendMessage(nil, 1, 100)
	if string(b) != "\r\n" || !ok || err != nil {
		t.Errorf("%q, %v, %v, %v", b, canonical, ok, err)
	}
	clean(t, s, "alice")
}

// TestStyles: the account's format, else uidl_format's.
func TestStyles(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	appendMessage(t, s, "alice", "x")
	s.conf.POP.UIDL = imapdconf.UIDLCourier
	for style, want := range map[string]string{"": "1795500000-1", "cyrus": "1795500000.1", "dovecot": "000000016b0527e0"} {
		d, err := s.Open(context.Background(), "alice", mailstore.Holder{UIDStyle: style})
		if err != nil {
			t.Fatal(err)
		}
		if id := string(d.AppendUniqueID(nil, 1)); id != want {
			t.Errorf("%q: %q, should be %q", style, id, want)
		}
		d.Close()
	}
}

// TestCreateTwice: a name is given once, and a large message is taken whole.
func TestCreateTwice(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	if err := s.CreateMailbox(context.Background(), "alice"); !errors.Is(err, cyrusdb.ErrMailboxExists) {
		t.Errorf("twice: %v", err)
	}
	if err := s.CreateMailbox(context.Background(), "../alice"); !errors.Is(err, mailstore.ErrUnknown) {
		t.Errorf("a path: %v", err)
	}
	clean(t, s, "alice")
}

func TestUIDsEnd(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	changeHeader(t, s, "alice", func(h *IndexHeader) { h.LastUID = math.MaxUint32 })
	_, err := s.Append(context.Background(), "alice", strings.NewReader("x"), time.Time{})
	if !errors.Is(err, mailstore.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// TestDeliver is what an LMTP listener or an MDA calls.
func TestDeliver(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	if err := s.Deliver(context.Background(), "alice", strings.NewReader("Subject: x\n\ny\n"), "bob@b.test"); err != nil {
		t.Fatal(err)
	}
	d := open(t, s, "alice")
	m, err := d.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	const want = "Return-Path: <bob@b.test>\r\nSubject: x\r\n\r\ny\r\n"
	if got := contents(t, m.(mailstore.FileMessage).File().Name()); string(got) != want {
		t.Errorf("%q", got)
	}
	if err := s.Deliver(context.Background(), "bob", strings.NewReader("x"), ""); !errors.Is(err, mailstore.ErrUnknown) {
		t.Errorf("to nobody: %v", err)
	}
	if err := s.Deliver(context.Background(), "alice", strings.NewReader("x"), "a>\r\nX: y"); !errors.Is(err, mailstore.ErrMessage) {
		t.Errorf("a sender with a line end: %v", err)
	}
}

// TestModes: what we make can be read and written by the spool's owner alone.
func TestModes(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	for _, text := range []string{"Subject: one\n\nx\n", "Subject: two\n\nx\n"} {
		appendMessage(t, s, "alice", text)
	}
	d := open(t, s, "alice")
	for _, err := range []error{
		d.CreateFolder(context.Background(), "Work"),
		d.Copy(context.Background(), []mailstore.Number{1}, "Work"),
		d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{2}, Retrieved: []mailstore.Number{1}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	made := 0
	for _, root := range []string{s.conf.Dir, s.conf.Layout.Partitions["default"].Root} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || path == root {
				return err // the roots are the test's
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			made++
			if info.Mode()&0o077 != 0 || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
				t.Errorf("%s: %v, owned by %d", path, info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if made < 10 {
		t.Errorf("only %d files and directories were looked at", made)
	}
}

// TestUmask: files on the spool have the modes that imapd.conf's umask leaves, as
// Cyrus's own have, whatever the process's umask; what is replaced keeps its mode.
func TestUmask(t *testing.T) {
	t.Parallel()
	c, ctx := newConfig(t), context.Background()
	c.Umask = 0o007
	s := newStore(t, c)
	if err := s.CreateMailbox(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetQuota(ctx, "alice", Limits{StorageKiB: 10000, Messages: cyrusdb.Unlimited}); err != nil {
		t.Fatal(err)
	}
	quota := must(c.QuotaPath(imapdconf.QuotaRoot(must(s.name("alice")))))
	if err := os.Chmod(quota, 0o666); err != nil {
		t.Fatal(err)
	}
	look := func(when string) {
		t.Helper()
		root, made := c.Layout.Partitions["default"].Root, 0
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || path == root {
				return err // the root is the test's
			}
			made++
			want := fs.FileMode(0o660)
			if e.IsDir() {
				want = fs.ModeDir | 0o750
			}
			if info, err := e.Info(); err != nil || info.Mode() != want {
				t.Errorf("%s: %s: %v, %v; should be %v", when, path, info.Mode(), err, want)
			}
			return nil
		})
		if info, statErr := os.Stat(quota); err != nil || made < 8 || statErr != nil || info.Mode() != 0o666 {
			t.Errorf("%s: %d files, %v; quota %v, %v", when, made, err, info.Mode(), statErr)
		}
	}
	sixMessages(t, s)
	appendMessage(t, s, "alice", large("seven"))
	look("delivered")
	expunge(t, s, "alice", 2, 7)
	if _, err := s.Expire(ctx, "alice", 0); err != nil {
		t.Fatal(err)
	}
	look("expired")
	clean(t, s, "alice")
}

// TestDirectoriesDurable: each directory of a new mailbox is on disk, name and all,
// before anything is in it.
func TestDirectoriesDurable(t *testing.T) {
	t.Parallel()
	s := newStore(t, newConfig(t))
	synced := map[string]bool{}
	var checked string
	s.disk.before = func(step, path string, _ int) (int, error) {
		if step == "fsync" {
			synced[path] = true
		}
		if step == "create" && strings.HasSuffix(path, "cyrus.header.NEW") {
			checked = filepath.Dir(path)
			root := s.conf.Layout.Partitions["default"].Root
			for dir := checked; dir != root; dir = filepath.Dir(dir) {
				if !synced[filepath.Dir(dir)] {
					t.Errorf("the name of %s is not durable", dir)
				}
			}
		}
		return 0, nil
	}
	if err := s.CreateMailbox(context.Background(), "alice"); err != nil || checked == "" {
		t.Error(checked, err)
	}
}

// TestReaderFails: a message that breaks off is not stored, whatever its reader
// says.
func TestReaderFails(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	for _, says := range []error{io.ErrClosedPipe, io.ErrUnexpectedEOF, fmt.Errorf("connection: %w", io.EOF)} {
		for _, text := range []string{"Subject: x\r\n", large("x")} {
			broken := io.MultiReader(strings.NewReader(text), iotest.ErrReader(says))
			if _, err := s.Append(context.Background(), "alice", broken, time.Time{}); !errors.Is(err, says) {
				t.Errorf("%v: %v", says, err)
			}
		}
	}
	if n := open(t, s, "alice").Len(); n != 0 {
		t.Errorf("%d messages", n)
	}
	if left := must(os.ReadDir(s.conf.Layout.Partitions["default"].Root + "/stage.")); len(left) != 0 {
		t.Errorf("left staged: %v", left)
	}
}

// TestDump reads well as JSON.
func TestDump(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	appendMessage(t, s, "alice", "\r\n")
	b, err := json.Marshal(must(s.Dump(context.Background(), "alice")))
	if err != nil || !strings.Contains(string(b), `"guid":"ba8ab5a0280b953aa97435ff8946cbcbb2755a27"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestAccepts: what Deliver would say, asked beforehand.
func TestAccepts(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	ctx := context.Background()
	for name, want := range map[string]error{"alice": nil, "bob": mailstore.ErrUnknown, "../x": mailstore.ErrUnknown} {
		if err := s.Accepts(ctx, name, 0); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.SetQuota(ctx, "alice", Limits{StorageKiB: 1, Messages: 2}); err != nil {
		t.Fatal(err)
	}
	for octets, want := range map[int64]error{0: nil, 1024: nil, 1025: mailstore.ErrOverQuota} {
		if err := s.Accepts(ctx, "alice", octets); !errors.Is(err, want) {
			t.Errorf("%d octets: %v", octets, err)
		}
	}
	appendMessage(t, s, "alice", "x\n")
	appendMessage(t, s, "alice", "x\n")
	if err := s.Accepts(ctx, "alice", 1); !errors.Is(err, mailstore.ErrOverQuota) {
		t.Errorf("a third message of two: %v", err)
	}
	changeHeader(t, s, "alice", func(h *IndexHeader) { h.Options |= OptionDeleted })
	if err := s.Accepts(ctx, "alice", 1); !errors.Is(err, mailstore.ErrUnknown) {
		t.Errorf("being deleted: %v", err)
	}
	s.mode = ReadOnly
	changeHeader(t, s, "alice", func(h *IndexHeader) { h.Options &^= OptionDeleted })
	if err := s.Accepts(ctx, "alice", 1); !errors.Is(err, mailstore.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
}

// TestSweepStaged: what a killed delivery has left goes after a day; what is on
// its way, or Cyrus's, stays.
func TestSweepStaged(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	dir := filepath.Join(s.conf.Layout.Partitions["default"].Root, "stage.")
	for name, age := range map[string]time.Duration{"kpop-OLD": 25 * time.Hour, "kpop-NEW": time.Hour, "1234-1-0": 48 * time.Hour} {
		write(t, filepath.Join(dir, name), []byte("x"))
		if err := os.Chtimes(filepath.Join(dir, name), testTime(), testTime().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.SweepStaged(); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if left := must(os.ReadDir(dir)); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

// TestMetapartition: where all files but the messages are elsewhere, Cyrus makes
// the messages' directory for the first of them only.
func TestMetapartition(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	c.Layout.MetaFiles = []imapdconf.File{imapdconf.HeaderFile, imapdconf.IndexFile, imapdconf.CacheFile, imapdconf.AnnotationsFile}
	p := c.Layout.Partitions["default"]
	p.Meta = filepath.Join(filepath.Dir(p.Root), "meta")
	c.Layout.Partitions["default"] = p
	s, ctx := newStore(t, c), context.Background()
	if err := s.CreateMailbox(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(must(c.Directory(must(s.lookup("alice")), imapdconf.MessageFile))); err != nil {
		t.Fatal(err)
	}
	clean(t, s, "alice")
	if m := open(t, s, "alice"); m.Len() != 0 {
		t.Errorf("%d messages", m.Len())
	} else if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, s, "alice", "Subject: one\r\n\r\none\r\n")
	clean(t, s, "alice")
	expunge(t, s, "alice", 1)
	if n, err := s.Undelete(ctx, "alice", time.Time{}); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if e, err := s.Expire(ctx, "alice", 0); e.Messages != 1 || err != nil {
		t.Errorf("%+v, %v", e, err)
	}
	clean(t, s, "alice")
}

// TestCheckBetweenMarkAndDrop: cyr_expire marks what it will drop, counts it no more
// in the time of the first expunged, and may drop it later.
func TestCheckBetweenMarkAndDrop(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	expunge(t, s, "alice", 1)
	first := func(h *IndexHeader) { h.FirstExpunged = 0 }
	changeHeader(t, s, "alice", first)
	if faults, err := s.Check(context.Background(), "alice"); err != nil || len(faults) != 1 || !strings.Contains(faults[0].Error(), "first expunged is 0") {
		t.Errorf("not marked: %v, %v", faults, err)
	}
	s.conf.Expunge.Mode = imapdconf.ExpungeSemidelayed
	expunge(t, s, "alice", 1)
	m := must(s.lockMailbox(context.Background(), must(s.name("alice")), toReplace))
	defer m.release()
	c := must(s.changeOf(context.Background(), m))
	e := &expiry{change: c, before: uint64(testTime().Unix())}
	if err := errors.Join(e.choose(), e.mark()); err != nil {
		t.Fatal(err)
	}
	m.release()
	changeHeader(t, s, "alice", first)
	clean(t, s, "alice")
}

// TestStaleName: a file that has the next message's name, as a loss of power may
// leave it, goes; what it is a second name of stays as it is.
func TestStaleName(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"Subject: two\r\n\r\nx\r\n", large("two")} {
		s := newMailbox(t)
		appendMessage(t, s, "alice", "Subject: one\r\n\r\nx\r\n")
		place := must(s.lookup("alice"))
		first, next := must(s.conf.MessagePath(place, 1, false)), must(s.conf.MessagePath(place, 2, false))
		if err := os.Link(first, next); err != nil {
			t.Fatal(err)
		}
		appendMessage(t, s, "alice", text)
		if got := texts(t, s); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("%q", got)
		}
		clean(t, s, "alice")
	}
}
