package main

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// TestMemoryGivenBack: memory is given back when work has ended and there is
// something to give, be it that sessions were parked and nothing was allocated.
func TestMemoryGivenBack(t *testing.T) {
	t.Parallel()
	given := usage{allocated: 100 << 20, free: 1 << 20, goroutines: 1000}
	for name, test := range map[string]struct {
		now  usage
		want bool
	}{
		"nothing happened":  {given, false},
		"was allocated":     {usage{allocated: 105 << 20, free: 1 << 20, goroutines: 1000}, true},
		"lies unused":       {usage{allocated: 100 << 20, free: 6 << 20, goroutines: 1000}, true},
		"goroutines ended":  {usage{allocated: 100 << 20, free: 1 << 20, goroutines: 700}, true},
		"some have":         {usage{allocated: 100 << 20, free: 1 << 20, goroutines: 900}, false},
		"goroutines are up": {usage{allocated: 100 << 20, free: 1 << 20, goroutines: 5000}, false},
	} {
		if got := test.now.worthGiving(&given); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if now := measureUsage(); now.allocated == 0 || now.goroutines == 0 {
		t.Errorf("the runtime does not tell: %+v", now)
	}
	if busy := (&usage{allocated: 120 << 20}); busy.quietSince(&given) {
		t.Error("20 MiB in a look are no quiet")
	}
}

// TestPace: the heap may grow when what was allocated does not stay, and must not
// while it does.
func TestPace(t *testing.T) {
	t.Parallel()
	p := newPace()
	now := usage{}
	work := func(allocated, stays uint64) uint64 {
		now.collections++
		now.allocated += allocated
		now.live += stays
		p.follow(now)
		return p.room >> 20
	}
	for i, step := range []struct {
		what             string
		allocated, stays uint64
		want             uint64
	}{
		{"the start", 4 << 20, 1 << 20, 4},
		{"too little to tell", 2 << 20, 0, 4},
		{"a storm of logins", 3 << 20, 0, 16},
		{"it goes on", 16 << 20, 100 << 10, 64},
		{"it goes on, there is no more", 64 << 20, 0, 64},
		{"sessions stay", 64 << 20, 8 << 20, 4},
		{"one collection finds less of them", 20 << 20, 1 << 20, 4},
		{"no more of them come", 12 << 20, 0, 16},
		{"a collection finds much on its way", 16 << 20, 2 << 20, 4},
		{"that was all", 4 << 20, 100 << 10, 16},
	} {
		if got := work(step.allocated, step.stays); got != step.want {
			t.Errorf("%d, %s: room for %d MiB, want %d", i, step.what, got, step.want)
		}
	}
	if p.follow(now); p.room>>20 != 16 {
		t.Error("one collection was counted twice")
	}
}

// TestPercent: the heap is collected at the size that was meant, or at twice what
// is in use (runtime/debug.SetGCPercent).
func TestPercent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ live, roots, room uint64 }{
		{0, 0, 64 << 20}, {1 << 20, 300 << 10, 4 << 20}, {1 << 20, 300 << 10, 16 << 20}, {1 << 20, 300 << 10, 64 << 20},
		{5 << 20, 9 << 20, 64 << 20}, {60 << 20, 1 << 20, 64 << 20}, {100 << 20, 1 << 20, 64 << 20}, {100 << 20, 1 << 20, 4 << 20},
	} {
		u := usage{live: test.live, roots: test.roots}
		percent := uint64(u.percent(test.room))                                          //nolint:gosec // G115: positive
		goal := max(heapLeast*percent/100, test.live+(test.live+test.roots)*percent/100) // as runtime/mgcpacer.go has it
		if most := max(test.room, 2*test.live+test.roots); percent < 100 || goal > most+most/50 || goal < test.room-test.room/50 {
			t.Errorf("%+v: %d %%, which is %d KiB", test, percent, goal>>10)
		}
	}
}

// TestCollectionsTold: collections are seen, more than once.
func TestCollectionsTold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	told := collections(ctx)
	for range 3 {
		for seen := false; !seen; {
			runtime.GC()
			select {
			case <-told:
				seen = true
			case <-ctx.Done():
				t.Fatal("nothing was told of a collection")
			case <-time.After(50 * time.Millisecond): // the cleanup may come after the next
			}
		}
	}
}
