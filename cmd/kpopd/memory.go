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

	// memoryWorth is what must have been allocated since memory was given back
	// for doing it again: a collection looks at everything that is in use.
	memoryWorth = 4 << 20
)

// tendMemory sets the pace of collections, and returns memory to the system each
// time that work has ended.
func tendMemory(ctx context.Context) {
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	given, last, set := uint64(0), allocated(), 0
	for {
		if percent := pace(inUse()); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now := allocated()
		if now-last < memoryBusy && now-given > memoryWorth {
			debug.FreeOSMemory()
			given = allocated()
		}
		last = now
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

// allocated is the number of octets ever allocated.
func allocated() uint64 { return readMetric("/gc/heap/allocs:bytes") }

// inUse is what the last collection found in use.
func inUse() uint64 { return readMetric("/gc/heap/live:bytes") }

func readMetric(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
