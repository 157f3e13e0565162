package ofd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// TestReadWhatIsNotInMemory: what has to come from the disk comes, while others work
// and collect garbage.
func TestReadWhatIsNotInMemory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "large")
	octets := make([]byte, 4<<20)
	for i := range octets {
		octets[i] = byte(i ^ i>>8 ^ i>>16)
	}
	if err := os.WriteFile(path, octets, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := ofd.Open(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	forget(t, path)
	var wg sync.WaitGroup
	for reader := range 8 {
		wg.Go(func() {
			var b [4099]byte // on the stack
			for at := reader << 10; at+len(b) <= len(octets); at += 8 << 10 {
				if n, err := f.ReadAt(b[:], int64(at)); err != nil || !bytes.Equal(b[:n], octets[at:at+len(b)]) {
					t.Errorf("at %d: %d octets, %v", at, n, err)
					return
				}
			}
			runtime.GC()
		})
	}
	wg.Wait()
	if n, err := f.ReadAt(make([]byte, 10), int64(len(octets))-3); n != 3 || !errors.Is(err, io.EOF) {
		t.Errorf("beyond the end: %d octets, %v", n, err)
	}
	if _, err := ofd.Pread(-1, make([]byte, 1), 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("of no file: %v", err)
	}
}

// forget asks the system to let go of a file's pages.
func forget(t *testing.T, path string) {
	t.Helper()
	if err := unix.Fadvise(int(open(t, path).Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// TestOpenAt: it opens and refuses what openat(2) does. One that empties the file is
// never done without waiting.
func TestOpenAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("octets"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("d/", 200)
	if err := os.MkdirAll(filepath.Join(dir, long), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path  string
		flags int
	}{
		{path, unix.O_RDONLY},
		{dir, unix.O_RDONLY | unix.O_DIRECTORY},
		{filepath.Join(dir, long), unix.O_RDONLY},
		{filepath.Join(dir, "link"), unix.O_RDONLY},
		{filepath.Join(dir, "link"), unix.O_RDONLY | unix.O_NOFOLLOW},
		{filepath.Join(dir, "none"), unix.O_RDONLY},
		{path + "/none", unix.O_RDONLY},
		{path, unix.O_RDONLY | unix.O_DIRECTORY},
		{path + "\x00none", unix.O_RDONLY},
		{"", unix.O_RDONLY},
		{path, unix.O_RDWR | unix.O_TRUNC},
		{filepath.Join(dir, "none"), unix.O_RDWR | unix.O_TRUNC},
	} {
		want, wantErr := unix.Openat(unix.AT_FDCWD, test.path, test.flags|unix.O_CLOEXEC, 0)
		got, err := ofd.OpenAt(unix.AT_FDCWD, test.path, test.flags|unix.O_CLOEXEC)
		if !errors.Is(err, wantErr) || (err != nil) != (got == -1) {
			t.Errorf("%q, %#x: %d, %v, want %v", test.path, test.flags, got, err, wantErr)
		}
		if wantErr == nil {
			unix.Close(want)
		}
		if err == nil {
			unix.Close(got)
		}
	}
}
