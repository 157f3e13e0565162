package main

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How memory is kept and given back. The runtime collects when the heap has
// doubled, which a small one does all the time in a storm of logins: below
// heapFloor nothing is gained by it. And it keeps what a storm has used, and
// shrinks the stacks of waiting sessions only when it collects: a service that
// is quiet gives all that back.
const (
	memoryLook = 3 * time.Second

	// heapFloor is what the heap may grow to before it is collected.
	heapFloor = 16 << 20

	// memoryBusy is what is allocated between two looks by a service that
	// works.
	memoryBusy = 8 << 20

	// memoryWorth is what must have been allocated or freed since memory was given
	// back for doing it again: a collection looks at everything that is in use.
	memoryWorth = 4 << 20

	// stacksWorth is how many goroutines must have ended since for it: their stacks
	// are freed by a collection only. So many sessions that are parked have made
	// room for 4 MiB at least, and allocate nothing any more.
	stacksWorth = 256
)

// tendMemory sets the pace of collections, and returns memory to the system each
// time that work has ended.
func tendMemory(ctx context.Context) {
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	var given, last usage
	set := 0
	for {
		now := measureUsage()
		if percent := pace(now.live); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
		if now.quietSince(&last) && now.worthGiving(&given) {
			debug.FreeOSMemory()
			given = measureUsage()
		}
		given.goroutines = max(given.goroutines, now.goroutines)
		last = now
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// pace is how much the heap may grow, in percent of what is in use, until it is
// collected: to heapFloor, or to twice its size.
func pace(used uint64) int {
	if used == 0 {
		used = 1 << 20 // nothing was collected yet
	}
	return int(max(100, min(100*heapFloor/used, math.MaxInt16)))
}

// usage is what the process has of memory.
type usage struct {
	allocated  uint64 // octets, ever
	live       uint64 // found in use by the last collection
	free       uint64 // not in use and not given back
	goroutines uint64
}

func measureUsage() (u usage) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(samples)
	for i, value := range []*uint64{&u.allocated, &u.live, &u.free, &u.goroutines} {
		*value = samples[i].Value.Uint64()
	}
	return u
}

// quietSince: little was done since last.
func (u *usage) quietSince(last *usage) bool { return u.allocated-last.allocated < memoryBusy }

// worthGiving: there is something to give back since given, when that was done.
func (u *usage) worthGiving(given *usage) bool {
	return u.allocated-given.allocated > memoryWorth || u.free > given.free+memoryWorth || u.goroutines+stacksWorth < given.goroutines
}
