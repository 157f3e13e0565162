package cyrusdb_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

func put(t *testing.T, db imapdconf.Database, pairs ...string) {
	t.Helper()
	err := cyrusdb.Update(t.Context(), db, func(tx cyrusdb.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCreateAndUpdate(t *testing.T) {
	t.Parallel()
	db := database(filepath.Join(t.TempDir(), "new.db"))
	if err := cyrusdb.Update(t.Context(), db, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Update made a file: %v", err)
	}
	for range 2 { // the second time it is there
		if err := cyrusdb.Create(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	put(t, db, "b", "2", "a", "1", "b", "3")
	if got := dump(t, db.Path); got != "a\t1\nb\t3\n" {
		t.Errorf("%q", got)
	}
	refused := errors.New("refused")
	err := cyrusdb.Update(t.Context(), db, func(tx cyrusdb.Tx) error {
		if err := tx.Put([]byte("c"), []byte("4")); err != nil {
			return err
		}
		if value, found, err := tx.Get([]byte("c")); !found || err != nil || string(value) != "4" {
			t.Errorf("a transaction does not see its own change: %q, %v, %v", value, found, err)
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	if got := dump(t, db.Path); got != "a\t1\nb\t3\n" {
		t.Errorf("after a transaction that was taken back: %q", got)
	}
}

func TestLargeValues(t *testing.T) {
	t.Parallel()
	db := database(filepath.Join(t.TempDir(), "new.db"))
	if err := cyrusdb.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	key, value := strings.Repeat("k", 65535), strings.Repeat("v", 1<<20)
	put(t, db, key, value, "a", "", "z", "last")
	if got := dump(t, db.Path); got != "a\t\n"+key+"\t"+value+"\nz\tlast\n" {
		t.Errorf("a long key or value is not what was put: %d octets", len(got))
	}
	err := cyrusdb.Update(t.Context(), db, func(tx cyrusdb.Tx) error { return tx.Put(make([]byte, 1<<17), nil) })
	if err == nil {
		t.Error("a key of 128 KiB was accepted")
	}
}

func TestRecoveryOfCyrusFile(t *testing.T) {
	t.Parallel()
	path := copyOf(t, "dirty.db")
	put(t, database(path), "new", "value")
	if got, want := dump(t, path), testdata(t, "churned.txt")+"new\tvalue\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFlatUpdate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "user_deny.db")
	if err := os.WriteFile(path, []byte("alice\t2\tpop3\tgone\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	db := imapdconf.Database{Backend: "flat", Path: path}
	put(t, db, "bob", "2\tpop3\tno", "aaron", "x")
	err := cyrusdb.Update(t.Context(), db, func(tx cyrusdb.Tx) error { return tx.Delete([]byte("alice")) })
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "aaron\tx\nbob\t2\tpop3\tno\n" {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	err = cyrusdb.Update(t.Context(), db, func(tx cyrusdb.Tx) error { return tx.Put([]byte("a\tb"), nil) })
	if err == nil {
		t.Error("a key with a tab was accepted")
	}
}

// TestWritersAndCheckpoint lets goroutines write while others put a new file
// in the place of the database.
func TestWritersAndCheckpoint(t *testing.T) {
	t.Parallel()
	db := database(filepath.Join(t.TempDir(), "shared.db"))
	if err := cyrusdb.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 4, 25
	value := strings.Repeat("x", 600)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				err := cyrusdb.Update(t.Context(), db, func(tx cyrusdb.Tx) error {
					// A value that is replaced each time makes the file grow.
					if err := tx.Put(fmt.Appendf(nil, "same%d", w), []byte(value)); err != nil {
						return err
					}
					return tx.Put(fmt.Appendf(nil, "key%d-%02d", w, i), []byte("v"))
				})
				if err == nil && i%5 == 4 {
					err = cyrusdb.Checkpoint(t.Context(), db)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := strings.Count(dump(t, db.Path), "\n"); got != writers*rounds+writers {
		t.Errorf("%d keys", got)
	}
	head := make([]byte, 64)
	f, err := os.Open(db.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(head); err != nil || head[31] < 2 {
		t.Errorf("generation %d: no checkpoint was made (%v)", head[31], err)
	}
}

func TestLockedByAnother(t *testing.T) {
	t.Parallel()
	path := copyOf(t, "churned.db")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ok, err := ofd.TryLock(f, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err = cyrusdb.View(ctx, database(path), func(cyrusdb.Reader) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// BenchmarkLookup is what a login asks of mailboxes.db.
func BenchmarkLookup(b *testing.B) {
	for _, users := range []int{100, 10000} {
		b.Run(fmt.Sprint(users), func(b *testing.B) {
			list := cyrusdb.MailboxList{Database: database(filepath.Join(b.TempDir(), "mailboxes.db"))}
			fill(b, list, users)
			name, err := imapdconf.ParseIntname(fmt.Sprintf("user.user%d", users/2))
			if err != nil {
				b.Fatal(err)
			}
			for how, places := range map[string]*cyrusdb.Places{"search": nil, "remembered": {}} {
				b.Run(how, func(b *testing.B) {
					list := list
					list.Places = places
					b.ReportAllocs()
					for b.Loop() {
						if _, err := list.Lookup(b.Context(), name); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

func fill(tb testing.TB, list cyrusdb.MailboxList, users int) {
	tb.Helper()
	if err := cyrusdb.Create(tb.Context(), list.Database); err != nil {
		tb.Fatal(err)
	}
	err := cyrusdb.Update(tb.Context(), list.Database, func(tx cyrusdb.Tx) error {
		for i := range users {
			name, err := imapdconf.ParseIntname(fmt.Sprintf("user.user%d", i))
			if err != nil {
				return err
			}
			e := cyrusdb.MailboxEntry{
				Name: name, Kind: 'e', UniqueID: fmt.Sprintf("id%d", i), Partition: "default", UIDValidity: 1, MTime: 1,
				ACL: []cyrusdb.Right{{Identifier: name.Userid(), Rights: "lrswipkxtecdan"}},
			}
			if err := tx.Put(name.AppendDBName([]byte{'N'}), e.AppendNameValue(nil)); err != nil {
				return err
			}
			if err := tx.Put([]byte("I"+e.UniqueID), e.AppendIDValue(nil)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

func TestBlanksKeepHeadsWithinBlocks(t *testing.T) {
	t.Parallel()
	db := database(filepath.Join(t.TempDir(), "new.db"))
	if err := cyrusdb.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		put(t, db, fmt.Sprintf("key%03d", i), strings.Repeat("v", i%90))
	}
	data, err := os.ReadFile(db.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(" BLANK\x07\xa0")) {
		t.Error("200 transactions without one blank")
	}
}
