package cyrusdb_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

// TestPlaces: with remembered places every Lookup gives what a search from the
// top gives, while mailboxes come, change and go, and the file is written anew.
func TestPlaces(t *testing.T) {
	t.Parallel()
	l, entry := listOf(t)
	remembering := l
	remembering.Places = &cyrusdb.Places{}
	const names = 12
	name := func(i int) string { return fmt.Sprintf("user.u%d", i) }
	compare := func(step int) {
		t.Helper()
		for range 2 { // found, then remembered
			for i := range names {
				want, wantErr := l.Lookup(t.Context(), intname(t, name(i)))
				got, err := remembering.Lookup(t.Context(), intname(t, name(i)))
				if d := cmp.Diff(want.UniqueID, got.UniqueID); d != "" || want.MTime != got.MTime || errors.Is(err, cyrusdb.ErrNoMailbox) != errors.Is(wantErr, cyrusdb.ErrNoMailbox) {
					t.Fatalf("step %d, %s: %v, %v; %s", step, name(i), wantErr, err, d)
				}
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for step := range 150 {
		n := intname(t, name(random.IntN(names)))
		var err error
		switch random.IntN(4) {
		case 0, 1:
			err = l.Create(t.Context(), entry(n.Intname(), fmt.Sprint("id", step)), nil)
		case 2:
			err = l.Remove(t.Context(), n)
		case 3:
			err = l.Bury(t.Context(), n, int64(step))
		}
		if err != nil && !errors.Is(err, cyrusdb.ErrMailboxExists) && !errors.Is(err, cyrusdb.ErrNoMailbox) {
			t.Fatal(err)
		}
		if step%50 == 49 {
			if err := cyrusdb.Checkpoint(t.Context(), l.Database); err != nil {
				t.Fatal(err)
			}
		}
		compare(step)
	}
}

// TestPlacesOfAnotherFile: a file that was put in the place of the other, with
// the same header, is another one.
func TestPlacesOfAnotherFile(t *testing.T) {
	t.Parallel()
	a, entry := listOf(t, "user.a", "user.b")
	b, _ := listOf(t)
	for _, n := range []string{"user.b", "user.a"} { // so the records lie the other way round
		if err := b.Create(t.Context(), entry(n, "xd-of-"+n), nil); err != nil {
			t.Fatal(err)
		}
	}
	a.Places = &cyrusdb.Places{}
	look := func(want string) {
		t.Helper()
		for range 2 {
			if e, err := a.Lookup(t.Context(), intname(t, "user.a")); err != nil || e.UniqueID != want {
				t.Errorf("%q, %v; want %q", e.UniqueID, err, want)
			}
		}
	}
	look("id-of-user.a")
	if err := os.Rename(b.Database.Path, a.Database.Path); err != nil {
		t.Fatal(err)
	}
	look("xd-of-user.a")
}
