package cyrus

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
)

const (
	// dotsFrom is the size from which on a message's dots are remembered. What
	// is smaller is soon searched again (BenchmarkRetrFile of kpop).
	dotsFrom = 64 << 10

	// dotsMost bounds a dotMemo: some 3 MiB.
	dotsMost = 1 << 14

	// settledAfter is how long a file must have been left alone. It is more than
	// the grain of any file system's times, so that a change that comes later
	// has another time (git calls a file without that racily clean).
	settledAfter = time.Second
)

// A fileState is a file as it was at a time. Every write(2) sets the time of the
// last change, and unlike that of the last writing no program can choose it. (What
// is stored through a mapping sets it once in a while only; no mail program does
// that to a message.)
type fileState struct {
	device, inode uint64
	size          int64
	changed       unix.Timespec
}

// A dotMemo remembers where in large files lines begin with a dot
// (mailstore.FileMessage). Of a file that was changed, copied or replaced it
// knows nothing. It lives as long as the process: most messages are fetched soon
// after they were measured, and every fetch tells it more.
type dotMemo struct {
	now func() time.Time // by the clock that stamps files

	mu sync.Mutex
	by map[fileState][]int64
}

// A dottedFile is an open file for which a dotMemo may be asked, or told what
// was found in it since it was asked.
type dottedFile struct {
	memo    *dotMemo // nil: the file is too small
	fd      int
	size    int64
	state   fileState
	settled bool // a change that came after state will show
}

func (m *dotMemo) file(fd int, size int64) dottedFile {
	if size < dotsFrom {
		return dottedFile{}
	}
	return dottedFile{memo: m, fd: fd, size: size}
}

// Dots looks at the file and gives what is known of it in that state.
func (f *dottedFile) Dots() (at []int64, ok bool) {
	if f.memo == nil || !f.look() {
		return nil, false
	}
	f.memo.mu.Lock()
	defer f.memo.mu.Unlock()
	at, ok = f.memo.by[f.state]
	return at, ok
}

func (f *dottedFile) look() bool {
	var s unix.Stat_t
	now := f.memo.now()
	if err := unix.Fstat(f.fd, &s); err != nil || s.Size != f.size {
		f.settled = false
		return false
	}
	f.state = fileState{uint64(s.Dev), s.Ino, s.Size, s.Ctim} //nolint:unconvert // other widths on other machines
	f.settled = now.Sub(time.Unix(s.Ctim.Unix())) > settledAfter
	return true
}

// NoteDots notes what was found in the file since Dots was called.
func (f *dottedFile) NoteDots(at []int64) {
	if f.memo == nil || !f.settled || len(at) > mailstore.MostDots {
		return
	}
	f.memo.mu.Lock()
	defer f.memo.mu.Unlock()
	if f.memo.by == nil || len(f.memo.by) >= dotsMost {
		f.memo.by = map[fileState][]int64{} // what is still wanted is found again
	}
	f.memo.by[f.state] = at
}

// A dotList gathers the dots of a message that is read block by block. One that
// is nil gathers nothing.
type dotList struct {
	at   []int64
	many bool  // more than are worth remembering
	end  int64 // of the block, in the message
}

// advance begins a block.
func (l *dotList) advance(octets int) {
	if l != nil {
		l.end += int64(octets)
	}
}

// add notes a dot so many octets before the block's end.
func (l *dotList) add(before int) {
	switch {
	case l == nil:
	case len(l.at) < mailstore.MostDots:
		l.at = append(l.at, l.end-int64(before))
	default:
		l.many = true
	}
}
