package krb5

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A jumping clock: time passes on both, and the day's clock can be set besides.
type jumping struct {
	day time.Time
	up  time.Duration
}

func (j *jumping) clock() clock {
	return clock{func() time.Time { return j.day }, func() time.Duration { return j.up }}
}

func (j *jumping) pass(d time.Duration) { j.day, j.up = j.day.Add(d), j.up+d }

// A jumpRun presents authenticators to a cache whose clock jumps. A login is what
// the acceptor asks about: an authenticator whose time is within the skew.
type jumpRun struct {
	t *testing.T
	*jumping
	cache  *ReplayCache
	path   string // of the journal
	number uint64
	made   []login
}

type login struct {
	key   [32]byte
	ctime time.Time
}

const jumpSkew = 5 * time.Minute

// aBoot and anotherBoot are ids as the kernel has them.
var aBoot, anotherBoot = []byte("3a9b2c1e-0000-4000-8000-1234567890ab\n"), []byte("3a9b2c1e-0000-4000-8000-1234567890ac\n")

func newJumpRun(t *testing.T) *jumpRun {
	t.Helper()
	r := &jumpRun{t: t, jumping: &jumping{time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), 100 * time.Hour}, path: filepath.Join(t.TempDir(), "replay")}
	r.open()
	t.Cleanup(func() { _ = r.cache.Close() })
	return r
}

func (r *jumpRun) open() {
	r.t.Helper()
	cache, err := openReplayJournal(r.path, aBoot, newReplayCache(0, r.clock()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.cache = cache
}

func (r *jumpRun) restart() {
	r.t.Helper()
	if err := r.cache.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

func (r *jumpRun) present(l login) (bool, error) {
	return r.cache.Add(r.t.Context(), l.key, l.ctime.Add(2*jumpSkew))
}

// user logs in with a clock like ours, and must be let in.
func (r *jumpRun) user() {
	r.t.Helper()
	r.number++
	l := login{replayKey([]byte(time.Duration(r.number).String())), r.day}
	if fresh, err := r.present(l); !fresh || err != nil {
		r.t.Fatalf("a user is locked out at %v: %v %v", r.day, fresh, err)
	}
	r.made = append(r.made, l)
}

// thief presents again everything that was ever accepted and that the check of
// the clock would let through now.
func (r *jumpRun) thief() (tried int) {
	r.t.Helper()
	for _, l := range r.made {
		if d := l.ctime.Sub(r.day); d > jumpSkew || d < -jumpSkew {
			continue
		}
		tried++
		if fresh, err := r.present(l); fresh {
			r.t.Fatalf("a login of %v is accepted again at %v: %v", l.ctime, r.day, err)
		}
	}
	return tried
}

// work lets an hour of logins pass, one a minute, with a thief at each.
func (r *jumpRun) work() {
	r.t.Helper()
	for range 60 {
		r.user()
		r.thief()
		r.pass(time.Minute)
	}
}

// TestClockJumps sets the clock a day in either direction, and back, soon and
// late, with a restart in between or not: no login is accepted twice, and whoever
// has the clock that we have gets in, but for times that were served before.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, play := range map[string]func(*jumpRun){
		"forward and back at once": func(r *jumpRun) {
			r.day = r.day.Add(day)
			r.user()
			r.day = r.day.Add(-day)
			if r.thief() == 0 {
				r.t.Error("nothing to present again")
			}
			r.work()
		},
		"forward and back after an hour": func(r *jumpRun) {
			r.day = r.day.Add(day)
			r.work()
			r.day = r.day.Add(-day)
			r.work()
		},
		"forward for good": func(r *jumpRun) {
			r.day = r.day.Add(day)
			r.work()
			r.work()
		},
		"back for good": func(r *jumpRun) {
			r.day = r.day.Add(-day)
			r.work()
			r.work()
		},
		"back and forward at once": func(r *jumpRun) {
			r.day = r.day.Add(-day)
			r.user()
			r.day = r.day.Add(day)
			if r.thief() == 0 {
				r.t.Error("nothing to present again")
			}
			r.work()
		},
		"back, until its time comes again": func(r *jumpRun) {
			r.day = r.day.Add(-day)
			r.pass(day - 2*time.Minute)
			if r.thief() == 0 {
				r.t.Error("nothing to present again")
			}
		},
		"back to what was served and dropped": func(r *jumpRun) {
			r.day = r.day.Add(-40 * time.Minute)
			if r.thief() == 0 {
				r.t.Error("nothing to present again")
			}
			if _, err := r.present(login{[32]byte{1}, r.day}); !errors.Is(err, ErrReplayForgotten) {
				r.t.Errorf("a time that was served before: %v", err)
			}
			r.day = r.day.Add(40 * time.Minute)
			r.work()
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := newJumpRun(t)
				r.work()
				if restart {
					r.restart()
					r.thief()
				}
				play(r)
				if restart {
					r.restart()
					r.thief()
				}
			})
		}
	}
}

// TestClockFarOff: who has a ticket can send any time he likes. Such an
// authenticator is called a replay the second time, and keeps nobody out.
func TestClockFarOff(t *testing.T) {
	t.Parallel()
	r := newJumpRun(t)
	odd := login{key: [32]byte{7}}
	for n, want := range []bool{true, false} {
		if fresh, err := r.cache.Add(t.Context(), odd.key, time.Time{}); fresh != want || err != nil {
			t.Errorf("presentation %d: %v %v", n, fresh, err)
		}
	}
	r.pass(time.Hour)
	r.user()
	if r.cache.Len() != 1 {
		t.Errorf("%d entries", r.cache.Len())
	}
}

// FuzzJournal opens a file of any content as the journal: it opens, what it holds
// is refused, and what it can be missing is said.
func FuzzJournal(f *testing.F) {
	good := filepath.Join(f.TempDir(), "replay")
	seed, err := OpenReplayJournal(good, 0)
	if err != nil {
		f.Fatal(err)
	}
	known := [32]byte{1, 2, 3}
	if _, err := seed.Add(f.Context(), known, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		f.Fatal(err)
	}
	if err := seed.Close(); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(good)
	if err != nil {
		f.Fatal(err)
	}
	for _, cut := range []int{0, 8, headerSize, headerSize + 40, len(b)} {
		f.Add(b[:cut])
	}
	path := filepath.Join(f.TempDir(), "replay")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReplayJournal(path, 16)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, held := r.seen[known]; !held && r.Floor().IsZero() && len(content) != headerSize {
			t.Fatalf("%x is taken for whole", content)
		}
		if r.Len() > 16 {
			t.Fatalf("%d entries", r.Len())
		}
	})
}

// TestReplayAnswers: what a Replay says is told apart in the log.
func TestReplayAnswers(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{idForgotten: ErrReplayForgotten, idReplayStore: ErrReplayFull, idReplay: nil} {
		a := &Acceptor{Replay: answering{err}}
		if got := a.checkReplay(t.Context(), &Context{}, nil); got == nil || got.ID != want {
			t.Errorf("%v: %v, want %s", err, got, want)
		}
	}
}

type answering struct{ error }

func (a answering) Add(context.Context, [32]byte, time.Time) (bool, error) { return false, a.error }

// TestFloorFollowsTheClock: when the clock was wrong at the start and is set
// right, the time before the start is still what is refused, and no more.
func TestFloorFollowsTheClock(t *testing.T) {
	t.Parallel()
	r := newJumpRun(t)
	r.cache.floored = true
	r.pass(2 * time.Minute)
	for _, jump := range []time.Duration{0, -24 * time.Hour, 48 * time.Hour} {
		r.day = r.day.Add(jump)
		if got := r.day.Sub(r.cache.Floor()); got != 2*time.Minute {
			t.Errorf("floor %v before now", got)
		}
	}
}

// TestJournalOfAnotherBoot: what may have been lost is covered by the floor, also where
// the boot's id cannot be read; and a journal that was written anew by a process that
// cannot read it any more is of its boot all the same.
func TestJournalOfAnotherBoot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, now []byte
		floored     bool
	}{
		"the same boot":       {aBoot, aBoot, false},
		"another boot":        {aBoot, anotherBoot, true},
		"not known any more":  {aBoot, nil, true},
		"not known before":    {nil, aBoot, true},
		"never known":         {nil, nil, true},
		"cut off in the read": {aBoot[:20], aBoot[:20], true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "replay")
			open := func(boot []byte) *ReplayCache {
				t.Helper()
				r, err := openReplayJournal(path, boot, newReplayCache(0, systemClock))
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			r := open(c.before)
			if !r.Floor().IsZero() {
				t.Error("a new journal has a floor")
			}
			if err := errors.Join(r.journal.rewrite(r), r.Close()); err != nil {
				t.Fatal(err)
			}
			if r = open(c.now); r.Floor().IsZero() == c.floored {
				t.Errorf("floor %v", r.Floor())
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
