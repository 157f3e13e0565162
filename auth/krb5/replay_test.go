package krb5_test

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth/krb5"
)

func keyNumber(n int) (k [32]byte) {
	binary.BigEndian.PutUint64(k[:], uint64(n))
	return k
}

// TestReplayConcurrent presents each of 10,000 authenticators 64 times at once:
// exactly one presentation each is fresh.
func TestReplayConcurrent(t *testing.T) {
	t.Parallel()
	const rounds, presenters = 10_000, 64
	cache := krb5.NewReplayCache(0)
	fresh := make([]atomic.Int32, rounds)
	expire := time.Now().Add(time.Hour)
	var wg sync.WaitGroup
	for range presenters {
		wg.Go(func() {
			for n := range rounds {
				ok, err := cache.Add(t.Context(), keyNumber(n), expire)
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					fresh[n].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for n := range fresh {
		if got := fresh[n].Load(); got != 1 {
			t.Fatalf("authenticator %d was accepted %d times", n, got)
		}
	}
}

// TestReplayAccept does the same through the whole acceptor.
func TestReplayAccept(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	a := newAcceptor(kt)
	a.Replay = krb5.NewReplayCache(0)
	a.Now = time.Now
	for range 20 {
		f := newForge(t, kt, 18)
		f.ctime = time.Now().UTC()
		f.start, f.end = f.ctime.Add(-time.Hour), f.ctime.Add(time.Hour)
		b := f.apReq(t)
		var accepted, replayed atomic.Int32
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				switch _, err := a.Accept(t.Context(), b, krb5.UseKPOP, nil); refusal(err).ID {
				case "none":
					accepted.Add(1)
				case "KP-116":
					replayed.Add(1)
				}
			})
		}
		wg.Wait()
		if accepted.Load() != 1 || replayed.Load() != 63 {
			t.Fatalf("accepted %d, replayed %d", accepted.Load(), replayed.Load())
		}
	}
}

func TestReplayJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "replay")
	open := func(limit int) *krb5.ReplayCache {
		t.Helper()
		r, err := krb5.OpenReplayJournal(path, limit)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	add := func(r *krb5.ReplayCache, n int, live time.Duration) bool {
		t.Helper()
		ok, err := r.Add(t.Context(), keyNumber(n), time.Now().Add(live))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	r := open(0)
	if !r.Floor().IsZero() {
		t.Error("a new journal has a floor")
	}
	if _, err := krb5.OpenReplayJournal(path, 0); err == nil {
		t.Error("opened twice")
	}
	for n := range 100 {
		if !add(r, n, time.Hour) {
			t.Fatal("not fresh")
		}
	}
	add(r, 1000, -time.Hour)
	// No Close: a killed process does not call it either. The lock is
	// taken away by hand.
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	r = open(0)
	if !r.Floor().IsZero() || r.Len() != 100 {
		t.Errorf("floor %v, %d entries", r.Floor(), r.Len())
	}
	for n := range 100 {
		if add(r, n, time.Hour) {
			t.Fatalf("%d was forgotten", n)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(t.Context(), keyNumber(5000), time.Now().Add(time.Hour)); err == nil {
		t.Error("fresh after Close")
	}
	r = open(101)
	add(r, 2000, time.Hour)
	if _, err := r.Add(t.Context(), keyNumber(2001), time.Now().Add(time.Hour)); !errors.Is(err, krb5.ErrReplayFull) {
		t.Errorf("full cache: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// TestReplayJournalDamage: what is missing is known to be missing.
func TestReplayJournalDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"cut":          func(b []byte) []byte { return b[:len(b)-3] },
		"flipped":      func(b []byte) []byte { b[60] ^= 1; return b },
		"another boot": func(b []byte) []byte { b[20] ^= 1; return b },
		"other file":   func([]byte) []byte { return []byte("hello") },
		"empty":        func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "replay")
			r, err := krb5.OpenReplayJournal(path, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Add(t.Context(), keyNumber(1), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			if r, err = krb5.OpenReplayJournal(path, 0); err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if time.Since(r.Floor()) > time.Minute {
				t.Fatalf("floor %v", r.Floor())
			}
			kt := keytabOf(t, all, service)
			a := newAcceptor(kt)
			a.Replay, a.Now = r, time.Now
			f := newForge(t, kt, 18)
			f.start, f.end = time.Now().UTC().Add(-time.Hour), time.Now().UTC().Add(time.Hour)
			f.ctime = r.Floor().UTC().Add(-time.Second)
			if _, err := a.Accept(t.Context(), f.apReq(t), krb5.UseKPOP, nil); refusal(err).ID != "KP-125" {
				t.Errorf("authenticator from before: %v", err)
			}
			f.ctime = r.Floor().UTC().Add(time.Second)
			if _, err := a.Accept(t.Context(), f.apReq(t), krb5.UseKPOP, nil); err != nil {
				t.Errorf("authenticator from after: %v", err)
			}
		})
	}
}

func TestReplayJournalRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := krb5.OpenReplayJournal(filepath.Join(dir, "none", "replay"), 0); err == nil {
		t.Error("opened in a directory that is not there")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	if _, err := krb5.OpenReplayJournal(link, 0); err == nil {
		t.Error("followed a symbolic link")
	}
}

// TestReplayCompaction: the journal does not grow with every login for ever.
func TestReplayCompaction(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "replay")
	r, err := krb5.OpenReplayJournal(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 10_000 {
		var k [32]byte
		if _, err := rand.Read(k[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Add(t.Context(), k, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Len() > 1 || info.Size() > 250_000 {
		t.Errorf("%d entries, journal of %d octets", r.Len(), info.Size())
	}
}
