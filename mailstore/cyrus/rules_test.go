package cyrus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// TestOpenRefused: what imapd.conf and the administrator's files forbid.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		setup func(t *testing.T, s *Store)
		want  error
		says  string
	}{
		{"shutdown", func(t *testing.T, s *Store) {
			write(t, filepath.Join(s.conf.Dir, "msg", "shutdown"), []byte("at noon\nmore"))
		}, mailstore.ErrTemporary, "at noon"},
		{"shutdown of pop3", func(t *testing.T, s *Store) {
			write(t, filepath.Join(s.conf.Dir, "msg", "shutdown.pop3"), nil)
		}, mailstore.ErrTemporary, "shutdown.pop3"},
		{"denied", func(t *testing.T, s *Store) {
			write(t, s.conf.Databases.UserDeny.Path, []byte("alice\t2\timap,pop3\tnot today\n"))
		}, mailstore.ErrTemporary, "not today"},
		{"denied first", func(t *testing.T, s *Store) {
			write(t, s.conf.Databases.UserDeny.Path, []byte("alice\t2\t*,!pop3\tnot today\n"))
		}, mailstore.ErrTemporary, "not today"},
		{"denied elsewhere", func(t *testing.T, s *Store) {
			write(t, s.conf.Databases.UserDeny.Path, []byte("alice\t2\timap,!pop3,*\tnot today\n"))
		}, nil, ""},
		{"too soon", func(t *testing.T, s *Store) {
			s.conf.POP.MinPoll = time.Minute
			d := open(t, s, "alice")
			if err := d.Update(context.Background(), mailstore.Changes{}); err != nil {
				t.Fatal(err)
			}
			d.Close()
		}, mailstore.ErrLoginDelay, "the next is allowed"},
		{"padded", func(t *testing.T, s *Store) {
			s.conf.POP.MinPoll, s.conf.POP.PollPadding = time.Minute, 3
			d := open(t, s, "alice")
			if err := d.Update(context.Background(), mailstore.Changes{}); err != nil {
				t.Fatal(err)
			}
			d.Close()
		}, nil, ""},
		{"acl", func(t *testing.T, s *Store) {
			s.conf.POP.UseACL = true
			setACL(t, s, "alice", "-r")
		}, mailstore.ErrUnknown, "right r"},
		{"being deleted", func(t *testing.T, s *Store) {
			changeHeader(t, s, "alice", func(h *IndexHeader) { h.Options |= OptionDeleted })
		}, mailstore.ErrUnknown, "being deleted"},
		{"lies elsewhere", func(t *testing.T, s *Store) {
			putEntry(t, s, "alice", func(e *cyrusdb.MailboxEntry) { e.Server = "other.test" })
		}, mailstore.ErrUnknown, "other.test"},
		{"being moved", func(t *testing.T, s *Store) {
			putEntry(t, s, "alice", func(e *cyrusdb.MailboxEntry) { e.Flags |= cyrusdb.TypeMoving })
		}, mailstore.ErrTemporary, "being moved"},
		{"reserved", func(t *testing.T, s *Store) {
			putEntry(t, s, "alice", func(e *cyrusdb.MailboxEntry) { e.Flags |= cyrusdb.TypeReserved })
		}, mailstore.ErrTemporary, "reserved"},
		{"deleted while it was moved", func(t *testing.T, s *Store) {
			putEntry(t, s, "alice", func(e *cyrusdb.MailboxEntry) { e.Flags |= cyrusdb.TypeMoving | cyrusdb.TypeDeleted })
		}, mailstore.ErrUnknown, "placeholder"},
		{"a calendar", func(t *testing.T, s *Store) {
			putEntry(t, s, "alice", func(e *cyrusdb.MailboxEntry) { e.Kind = 'c' })
		}, mailstore.ErrUnknown, "not mail"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newMailbox(t)
			test.setup(t, s)
			d, err := s.Open(context.Background(), "alice", mailstore.Holder{})
			if err == nil {
				defer d.Close()
			}
			if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v; should be %v, %q", err, test.want, test.says)
			}
			if len(s.Holders()) > 0 && err != nil {
				t.Error("a refused session holds the maildrop")
			}
		})
	}
}

// putEntry changes a mailbox's entry in mailboxes.db.
func putEntry(t *testing.T, s *Store, user string, change func(*cyrusdb.MailboxEntry)) {
	t.Helper()
	name := must(s.name(user))
	list := cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes}
	e, err := list.Lookup(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	change(&e)
	err = cyrusdb.Update(context.Background(), list.Database, func(tx cyrusdb.Tx) error {
		return tx.Put(name.AppendDBName([]byte{'N'}), e.AppendNameValue(nil))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// setACL takes rights from the owner.
func setACL(t *testing.T, s *Store, user, without string) {
	putEntry(t, s, user, func(e *cyrusdb.MailboxEntry) {
		e.ACL[0].Rights = strings.Map(func(r rune) rune {
			if strings.ContainsRune(without[1:], r) {
				return -1
			}
			return r
		}, e.ACL[0].Rights)
	})
}

// changeHeader changes a mailbox's index header.
func changeHeader(t *testing.T, s *Store, user string, change func(*IndexHeader)) {
	t.Helper()
	path := must(s.conf.Path(must(s.lookup(user)), imapdconf.IndexFile))
	b := contents(t, path)
	l, h, err := decodeHeader(path, b)
	if err != nil {
		t.Fatal(err)
	}
	change(&h)
	if err := h.encode(l, path, b); err != nil {
		t.Fatal(err)
	}
	write(t, path, b)
}

// TestReadOnly: removing is refused at once, with the reason, and changes
// nothing; the rest works.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		setup  func(s *Store)
		reason string
	}{
		{"mode", func(s *Store) { s.mode = ReadOnly }, "served read-only"},
		{"readonly", func(s *Store) { s.conf.ReadOnly = true }, "readonly"},
		{"conversations", func(s *Store) { s.conf.Conversations = true }, "conversations"},
		{"quota", func(s *Store) { s.conf.Databases.Quota.Backend = "sql" }, "quota_db sql"},
		{"statuscache", func(s *Store) {
			s.conf.StatusCache, s.conf.Databases.StatusCache.Backend = true, "sql"
		}, "statuscache_db sql"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newMailbox(t)
			sixMessages(t, s)
			test.setup(s)
			d := open(t, s, "alice")
			if err := d.ReadOnly(); !errors.Is(err, mailstore.ErrReadOnly) || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("ReadOnly: %v", err)
			}
			err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{1}})
			if !errors.Is(err, mailstore.ErrReadOnly) {
				t.Errorf("Update: %v", err)
			}
			if err := d.Update(context.Background(), mailstore.Changes{Retrieved: []mailstore.Number{1}}); err != nil {
				t.Errorf("Update without deletions: %v", err)
			}
			d.Close()
			if got := texts(t, s); len(got) != 6 {
				t.Errorf("%q", got)
			}
		})
	}
}

// A removerFunc is a Remover.
type removerFunc func(context.Context, Removal) error

func (f removerFunc) Remove(ctx context.Context, r Removal) error { return f(ctx, r) }

// TestLoginDelayOfOthers: popminpoll counts where the messages are not ours to
// remove, too, and nothing else of the index is written.
func TestLoginDelayOfOthers(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(s *Store){
		"read only":     func(*Store) {},
		"through Cyrus": func(s *Store) { s.remover = removerFunc(func(context.Context, Removal) error { return nil }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMailbox(t)
			sixMessages(t, s)
			s.conf.Conversations, s.conf.POP.MinPoll = true, time.Minute
			setup(s)
			before := must(s.Dump(context.Background(), "alice"))
			d := open(t, s, "alice")
			if err := d.Update(context.Background(), mailstore.Changes{}); err != nil {
				t.Fatal(err)
			}
			d.Close()
			if _, err := s.Open(context.Background(), "alice", mailstore.Holder{}); !errors.Is(err, mailstore.ErrLoginDelay) {
				t.Errorf("a second login: %v", err)
			}
			after := must(s.Dump(context.Background(), "alice"))
			if after.Index.LastLogin != uint64(testTime().Unix()) {
				t.Errorf("last login %d", after.Index.LastLogin)
			}
			after.Index.LastLogin, after.Index.CRC = before.Index.LastLogin, before.Index.CRC
			if diff := cmp.Diff(before, after); diff != "" {
				t.Error(diff)
			}
			clean(t, s, "alice")
		})
	}
}

// TestIMAPFlags: under popuseimapflags deleted messages do not show, and a
// message that was retrieved has been seen.
func TestIMAPFlags(t *testing.T) {
	t.Parallel()
	root := filepath.Join(unpack(t, "uuid-v17/"), "uuid-v17")
	s := fixtureStore(t, root, func(c *imapdconf.Config) { c.POP.UseIMAPFlags = true })
	before := must(s.Dump(context.Background(), "flags"))
	var shown []Record
	for _, r := range before.Records {
		if r.Flags&(FlagExpunged|FlagDeleted) == 0 {
			shown = append(shown, r)
		}
	}
	d := open(t, s, "flags")
	if d.Len() != len(shown) || d.Len() == len(before.Records) {
		t.Fatalf("%d messages, should be %d of %d", d.Len(), len(shown), len(before.Records))
	}
	if _, err := d.Octets(); err != nil {
		t.Fatal(err)
	}
	changes := mailstore.Changes{Deleted: []mailstore.Number{1}, Retrieved: []mailstore.Number{1, 2}}
	if err := d.Update(context.Background(), changes); err != nil {
		t.Fatal(err)
	}
	clean(t, s, "flags")
	for _, r := range must(s.Dump(context.Background(), "flags")).Records {
		switch r.UID {
		case shown[0].UID:
			if r.Flags&FlagExpunged == 0 {
				t.Errorf("UID %d: %x", r.UID, r.Flags)
			}
		case shown[1].UID:
			if r.Flags&FlagSeen == 0 || r.Flags&FlagExpunged != 0 {
				t.Errorf("UID %d: %x", r.UID, r.Flags)
			}
		}
	}
}

// TestACL: deleting needs the right t, marking as seen s.
func TestACL(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	s.conf.POP.UseACL, s.conf.POP.UseIMAPFlags = true, true
	setACL(t, s, "alice", "-tsd")
	d := open(t, s, "alice")
	if err := d.ReadOnly(); !errors.Is(err, mailstore.ErrReadOnly) || !strings.Contains(err.Error(), "right t") {
		t.Errorf("without t DELE may be said: %v", err)
	}
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{1}}); !errors.Is(err, mailstore.ErrReadOnly) {
		t.Errorf("without t: %v", err)
	}
	if err := d.Update(context.Background(), mailstore.Changes{Retrieved: []mailstore.Number{1}}); err != nil {
		t.Fatal(err)
	}
	if r := must(s.Dump(context.Background(), "alice")).Records[0]; r.Flags&FlagSeen != 0 {
		t.Error("seen without the right s")
	}
}

// TestRights: what Cyrus 3.6's pop3d lets say DELE with each of these lists.
func TestRights(t *testing.T) {
	t.Parallel()
	acl := func(pairs ...string) (list []cyrusdb.Right) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, cyrusdb.Right{Identifier: pairs[i], Rights: pairs[i+1]})
		}
		return list
	}
	for _, test := range []struct {
		acl  []cyrusdb.Right
		want bool
	}{
		{acl("alice", "lrkxtecdan"), true},
		{acl("alice", "lrkxtcdan"), true},
		{acl("alice", "lrkxecdan"), false},
		{acl("alice", "lrd"), true},
		{acl("alice", "lrxd"), true},
		{acl("alice", "lred"), false},
		{acl("alice", "lrkxcan"), false},
		{acl("alice", "lr", "anyone", "lrt"), true},
		{acl("alice", "lred", "anyone", "lrd"), true},
		{acl("anyone", "lrt", "-alice", "t"), false},
		{acl("alice", "lrt", "-anyone", "d"), false},
		{acl("alice", "lrt", "-anyone", "ed"), true},
		{acl("bob", "lrt"), false},
		{nil, false},
	} {
		e := cyrusdb.MailboxEntry{Name: must(imapdconf.ParseIntname("user.alice")), ACL: test.acl}
		if got := strings.Contains(rights(&e), "t"); got != test.want {
			t.Errorf("%v: %t", test.acl, got)
		}
	}
}

// TestShowAfter: POP shows only what came later.
func TestShowAfter(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	for i := range 4 {
		_, err := s.Append(context.Background(), "alice", strings.NewReader("Subject: x\n\ny"), testTime().Add(time.Duration(i)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
	}
	changeHeader(t, s, "alice", func(h *IndexHeader) { h.ShowAfter = uint64(testTime().Unix() + 3600) })
	d := open(t, s, "alice")
	if n, err := d.Octets(); d.Len() != 2 || err != nil || n != 2*int64(len("Subject: x\r\n\r\ny\r\n")) {
		t.Errorf("%d messages, %d octets, %v", d.Len(), n, err)
	}
}

// TestOldUIDL: a mailbox of a very old server keeps bare UIDs until it has been
// empty.
func TestOldUIDL(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	appendMessage(t, s, "alice", "x\n")
	changeHeader(t, s, "alice", func(h *IndexHeader) { h.Options &^= OptionNewUIDL })
	d := open(t, s, "alice")
	if id := string(d.AppendUniqueID(nil, 1)); id != "1" {
		t.Errorf("unique-id %q", id)
	}
	d.Close()
	expunge(t, s, "alice", 1)
	appendMessage(t, s, "alice", "x\n")
	d = open(t, s, "alice")
	if id := string(d.AppendUniqueID(nil, 1)); id != "1795500000.2" {
		t.Errorf("unique-id %q", id)
	}
}

// TestExpungeModes: what each leaves for the clean-up.
func TestExpungeModes(t *testing.T) {
	t.Parallel()
	for mode, want := range map[imapdconf.ExpungeMode]struct {
		flags   Flags
		options uint64
	}{
		imapdconf.ExpungeDelayed:     {FlagDeleted | FlagExpunged, OptionNewUIDL},
		imapdconf.ExpungeSemidelayed: {FlagDeleted | FlagExpunged | FlagUnlinked | FlagNeedsCleanup, OptionNewUIDL | OptionNeedsUnlink},
		imapdconf.ExpungeImmediate: {FlagDeleted | FlagExpunged | FlagUnlinked | FlagNeedsCleanup,
			OptionNewUIDL | OptionNeedsUnlink | OptionNeedsRepack},
	} {
		s := newMailbox(t)
		s.conf.Expunge.Mode = mode
		sixMessages(t, s)
		expunge(t, s, "alice", 2)
		d := must(s.Dump(context.Background(), "alice"))
		if d.Records[1].Flags != want.flags || d.Index.Options != want.options {
			t.Errorf("mode %d: flags %x, options %x", mode, d.Records[1].Flags, d.Index.Options)
		}
		clean(t, s, "alice")
		done, err := s.Expire(context.Background(), "alice", time.Hour)
		if err != nil || done.Messages != map[bool]int{true: 0, false: 1}[mode == imapdconf.ExpungeDelayed] {
			t.Errorf("mode %d: expired %+v, %v", mode, done, err)
		}
		clean(t, s, "alice")
	}
}

// TestAnnotations: an expunge takes the terms of a message's annotations out of
// their sum.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	root := filepath.Join(unpack(t, "uuid-v17/"), "uuid-v17")
	s := fixtureStore(t, root, nil)
	before := must(s.Dump(context.Background(), "annot"))
	if before.Index.QuotaAnnot == 0 {
		t.Fatal("the fixture has no annotations")
	}
	expunge(t, s, "annot", 2, 4)
	clean(t, s, "annot")
	if after := must(s.Dump(context.Background(), "annot")); after.Index.QuotaAnnot != 0 {
		t.Errorf("annotations take %d octets", after.Index.QuotaAnnot)
	}
	if done, err := s.Expire(context.Background(), "annot", 0); err != nil || done.Messages != 2 {
		t.Errorf("%+v, %v", done, err)
	}
	clean(t, s, "annot")
}

// TestHeaderWithoutCRC: Cyrus takes a 0 in the index for no CRC of cyrus.header.
func TestHeaderWithoutCRC(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	changeHeader(t, s, "alice", func(h *IndexHeader) { h.HeaderFileCRC = 0 })
	expunge(t, s, "alice", 2)
	clean(t, s, "alice")
}

// TestListMissing: without mailboxes.db, as while its file system is not mounted or a
// backup is put in its place, nobody is unknown: mail waits instead of bouncing,
// and clients do not ask for another password.
func TestListMissing(t *testing.T) {
	t.Parallel()
	s, ctx := newMailbox(t), context.Background()
	path := s.conf.Databases.Mailboxes.Path
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Open(ctx, "alice", mailstore.Holder{})
	for what, err := range map[string]error{
		"open": err, "accepts": s.Accepts(ctx, "alice", 0), "deliver": s.Deliver(ctx, "alice", strings.NewReader("x"), ""),
	} {
		if !errors.Is(err, mailstore.ErrTemporary) || errors.Is(err, mailstore.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, s, "alice", "Subject: one\r\n\r\nx\r\n")
	if got := texts(t, s); !slices.Equal(got, []string{"one"}) {
		t.Errorf("%q", got)
	}
}
