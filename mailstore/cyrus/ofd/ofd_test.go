package ofd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestTwoDescriptors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	a, b := open(t, path), open(t, path)
	must := func(f *os.File, exclusive, want bool) {
		t.Helper()
		got, err := ofd.TryLock(f, exclusive)
		if err != nil || got != want {
			t.Fatalf("TryLock exclusive=%v: %v, %v; want %v", exclusive, got, err, want)
		}
	}
	must(a, false, true)
	must(b, false, true) // readers share
	must(b, true, false)
	if err := ofd.Unlock(a); err != nil {
		t.Fatal(err)
	}
	must(b, true, true)
	must(a, false, false)
	b.Close()
	must(a, true, true)
}

func TestCloseOfAnotherDescriptor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	a, b, c := open(t, path), open(t, path), open(t, path)
	if ok, err := ofd.TryLock(a, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	c.Close() // a POSIX lock would be gone now
	if ok, err := ofd.TryLock(b, true); ok || err != nil {
		t.Fatalf("the lock was lost when another descriptor was closed: %v, %v", ok, err)
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	a, b := open(t, path), open(t, path)
	if ok, err := ofd.TryLockRange(a, true, 7, 1); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := ofd.TryLockRange(b, true, 8, 1); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := ofd.TryLockRange(b, true, 7, 1); ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := ofd.UnlockRange(a, 7, 1); err != nil {
		t.Fatal(err)
	}
	if ok, err := ofd.TryLockRange(b, true, 7, 1); !ok || err != nil {
		t.Fatal(ok, err)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	a, b := open(t, path), open(t, path)
	if err := ofd.Lock(t.Context(), a, true); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := ofd.Lock(ctx, b, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
}

func TestExclusion(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	var inside, counter atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		f := open(t, path)
		wg.Go(func() {
			for range 20 {
				if err := ofd.Lock(t.Context(), f, true); err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two holders at once")
				}
				counter.Add(1)
				inside.Add(-1)
				if err := ofd.Unlock(f); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := counter.Load(); n != 160 {
		t.Errorf("counter %d", n)
	}
}

func TestReadOnlyDescriptor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	open(t, path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ofd.Lock(t.Context(), f, true); err == nil {
		t.Fatal("an exclusive lock on a read-only descriptor was granted")
	}
}

// TestPause: no pause is shorter than it should be, and none outlives its context.
func TestPause(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		const pause = 4 * time.Millisecond
		began := time.Now()
		if err := ofd.Pause(t.Context(), pause, plain); err != nil || time.Since(began) < pause {
			t.Errorf("plain %v: %v, after %v", plain, err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ofd.Pause(ctx, time.Hour, plain); !errors.Is(err, context.Canceled) {
			t.Errorf("plain %v: %v", plain, err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), pause)
		if err := ofd.Pause(ctx, time.Hour, plain); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("plain %v: %v", plain, err)
		}
		cancel()
	}
}
