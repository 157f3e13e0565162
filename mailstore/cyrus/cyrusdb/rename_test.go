package cyrusdb_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

func listOf(t *testing.T, names ...string) (cyrusdb.MailboxList, func(name, id string) cyrusdb.MailboxEntry) {
	t.Helper()
	l := cyrusdb.MailboxList{Database: imapdconf.Database{Backend: "twoskip", Path: filepath.Join(t.TempDir(), "mailboxes.db")}}
	if err := cyrusdb.Create(t.Context(), l.Database); err != nil {
		t.Fatal(err)
	}
	entry := func(name, id string) cyrusdb.MailboxEntry {
		return cyrusdb.MailboxEntry{Name: intname(t, name), Kind: 'e', Partition: "default", UniqueID: id, UIDValidity: 7}
	}
	for _, name := range names {
		if err := l.Create(t.Context(), entry(name, "id-of-"+name), nil); err != nil {
			t.Fatal(err)
		}
	}
	return l, entry
}

// TestRename: all get their names or none, and Below sees what is below.
func TestRename(t *testing.T) {
	t.Parallel()
	l, entry := listOf(t, "user.a", "user.a.x", "user.a.x.y", "user.a.xy", "user.ab")
	below := func(top string) (names []string) {
		err := l.Below(t.Context(), intname(t, top), func(e cyrusdb.MailboxEntry) error {
			names = append(names, e.Name.Intname())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if got := below("user.a"); !slices.Equal(got, []string{"user.a.x", "user.a.x.y", "user.a.xy"}) {
		t.Errorf("%q", got)
	}
	old := []cyrusdb.MailboxEntry{entry("user.a.x", "id-of-user.a.x"), entry("user.a.x.y", "id-of-user.a.x.y")}
	taken := []cyrusdb.MailboxEntry{entry("user.a.z", old[0].UniqueID), entry("user.a.xy", old[1].UniqueID)}
	if err := l.Rename(t.Context(), old, taken); !errors.Is(err, cyrusdb.ErrMailboxExists) {
		t.Errorf("to a name that is taken: %v", err)
	}
	free := []cyrusdb.MailboxEntry{entry("user.a.z", old[0].UniqueID), entry("user.a.z.y", old[1].UniqueID)}
	if err := l.Rename(t.Context(), old, free); err != nil {
		t.Fatal(err)
	}
	if got := below("user.a"); !slices.Equal(got, []string{"user.a.xy", "user.a.z", "user.a.z.y"}) {
		t.Errorf("%q", got)
	}
}

// TestBury: a mailbox that is deleted leaves a placeholder, which gives way. One
// that Cyrus has left where a mailbox was renamed has that mailbox's uniqueid, and
// takes nothing of it along.
func TestBury(t *testing.T) {
	t.Parallel()
	l, entry := listOf(t, "user.a", "user.a.x")
	name := intname(t, "user.a.x")
	if err := l.Bury(t.Context(), name, 99); err != nil {
		t.Fatal(err)
	}
	e, err := l.Lookup(t.Context(), name)
	if ok, _ := e.Serves(""); ok || err != nil || e.UIDValidity != 7 || e.MTime != 99 || e.Partition != "" {
		t.Errorf("%+v, %v", e, err)
	}
	if err := l.Create(t.Context(), entry("user.a.x", "another"), nil); err != nil {
		t.Fatal(err)
	}
	has := func(key string) (found bool) {
		err := cyrusdb.View(t.Context(), l.Database, func(r cyrusdb.Reader) (err error) {
			_, found, err = r.Get([]byte(key))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if has("Iid-of-user.a.x") || !has("Ianother") {
		t.Error("the placeholder's record by uniqueid is still there")
	}
	renamed := entry("user.a.x", "id-of-user.a")
	renamed.Flags = cyrusdb.TypeDeleted // as if user.a had been here once
	err = cyrusdb.Update(t.Context(), l.Database, func(tx cyrusdb.Tx) error {
		return tx.Put(renamed.Name.AppendDBName([]byte{'N'}), renamed.AppendNameValue(nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Create(t.Context(), entry("user.a.x", "third"), nil); err != nil {
		t.Fatal(err)
	}
	if !has("Iid-of-user.a") {
		t.Error("the record of the mailbox that was renamed is gone")
	}
}
