package cyrus

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// TestCheckList: the list's own faults, one at a time.
func TestCheckList(t *testing.T) {
	t.Parallel()
	put := func(t *testing.T, s *Store, key, value string) {
		t.Helper()
		err := cyrusdb.Update(context.Background(), s.conf.Databases.Mailboxes, func(tx cyrusdb.Tx) error {
			if value == "" {
				return tx.Delete([]byte(key))
			}
			return tx.Put([]byte(key), []byte(value))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	id := func(s *Store) string { return must(s.lookup("alice")).UniqueID }
	for name, test := range map[string]struct {
		do   func(t *testing.T, s *Store)
		says string
	}{
		"nothing":        {func(*testing.T, *Store) {}, ""},
		"no I record":    {func(t *testing.T, s *Store) { put(t, s, "I"+id(s), "") }, "user.alice has no record under its uniqueid"},
		"no N record":    {func(t *testing.T, s *Store) { put(t, s, "Nuser\x1falice", "") }, "which has no such record"},
		"another's name": {func(t *testing.T, s *Store) { put(t, s, "I"+id(s), "%(T e N user\x1fbob P default V 1)") }, "said to be user.bob, but is that of user.alice"},
		"bad value":      {func(t *testing.T, s *Store) { put(t, s, "Nuser\x1fcarol", "%(T e") }, "user.carol: "},
		"bad I value":    {func(t *testing.T, s *Store) { put(t, s, "Ixyz", "%(T e") }, "uniqueid xyz"},
		"bad name":       {func(t *testing.T, s *Store) { put(t, s, "Nuser\x1f..", "%(T e I abcdefgh P default V 1)") }, "key \"Nuser"},
		"same uniqueid": {func(t *testing.T, s *Store) {
			put(t, s, "Nuser\x1fcarol", "%(T e I "+id(s)+" P default V 1)")
		}, "user.alice and user.carol have the same uniqueid"},
		"damaged": {func(t *testing.T, s *Store) { write(t, s.conf.Databases.Mailboxes.Path, []byte("nonsense")) }, "mailboxes.db"},
		"missing": {func(t *testing.T, s *Store) {
			os.Remove(s.conf.Databases.Mailboxes.Path)
			os.RemoveAll(s.conf.Layout.Partitions["default"].Root)
		}, ""},
		"former mailbox": {func(t *testing.T, s *Store) { put(t, s, "Iold", "%(T ed N user\x1fcarol P default V 1)") }, ""},
		"dropped by cyr_expire": {func(t *testing.T, s *Store) {
			put(t, s, "Iold", "%(T e N DELETED\x1fuser\x1fcarol\x1f6B0DE453 P default V 1 H (%(N user\x1fcarol V 1 T ed)))")
		}, ""},
		"dropped, of another prefix": {func(t *testing.T, s *Store) {
			put(t, s, "Iold", "%(T e N REMOVED\x1fuser\x1fcarol\x1f6B0DE453 P default V 1)")
		}, "is said to be REMOVED.user.carol.6B0DE453, which has no such record"},
		"directory": {func(t *testing.T, s *Store) {
			from := directory(t, s, "alice")
			to := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(from))), "x", "y", "xyz")
			write(t, filepath.Join(to, "cyrus.header"), contents(t, filepath.Join(from, "cyrus.header")))
		}, "/uuid/x/y/xyz: mailboxes.db has no such mailbox (of user.alice)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newMailbox(t)
			if err := s.CreateMailbox(context.Background(), "dora"); err != nil {
				t.Fatal(err)
			}
			test.do(t, s)
			faults, err := s.CheckList(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if test.says == "" && len(faults) == 0 {
				return
			}
			if len(faults) == 0 || !strings.Contains(faults[0].Error(), test.says) || test.says == "" {
				t.Errorf("%v; should say %q", faults, test.says)
			}
		})
	}
}

// TestCheckListOfCyrus: what Cyrus has written has no faults, in either scheme.
func TestCheckListOfCyrus(t *testing.T) {
	t.Parallel()
	for fixture := range goldenUsers() {
		root := filepath.Join(unpack(t, fixture+"/"), fixture)
		s := fixtureStore(t, root, func(*imapdconf.Config) {})
		if faults, err := s.CheckList(context.Background()); err != nil || len(faults) != 0 {
			t.Errorf("%s: %v, %v", fixture, faults, err)
		}
	}
}

// TestCheckListMeanwhile: a mailbox that is made while the list is examined is no
// fault.
func TestCheckListMeanwhile(t *testing.T) {
	t.Parallel()
	s, ctx := newMailbox(t), context.Background()
	l := newListChecker(s)
	if err := cyrusdb.View(ctx, s.conf.Databases.Mailboxes, l.records); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateMailbox(ctx, "erin"); err != nil {
		t.Fatal(err)
	}
	if err := l.directories(ctx); err != nil || len(l.faults) != 0 {
		t.Errorf("%v, %v", l.faults, err)
	}
}
