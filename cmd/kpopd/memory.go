package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How memory is kept and given back. The runtime keeps what a storm has used, and
// shrinks the stacks of waiting sessions only when it collects: a service that is
// quiet gives all that back.
const (
	memoryLook = 3 * time.Second

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
	pace := newPace()
	collected := collections(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-collected:
			pace.set(measureUsage())
			continue
		case <-look.C:
		}
		now := measureUsage()
		if now.quietSince(&last) && now.worthGiving(&given) {
			debug.FreeOSMemory()
			given = measureUsage()
			pace.restart(given)
		}
		given.goroutines = max(given.goroutines, now.goroutines)
		last = now
	}
}

// collections tells when a collection has been: of several at least once.
func collections(ctx context.Context) <-chan struct{} {
	done := make(chan struct{}, 1)
	var watch func()
	watch = func() {
		// Nobody refers to it, so that the next collection finds it.
		runtime.AddCleanup(&struct{ _ *byte }{}, func(struct{}) {
			if ctx.Err() == nil {
				watch()
			}
			select {
			case done <- struct{}{}:
			default:
			}
		}, struct{}{})
	}
	watch()
	return done
}

// The runtime collects when the heap has doubled, at 4 MiB at the soonest. A small
// heap does that all the time in a storm of logins that leave nothing behind: then
// it may grow to heapMost, for nothing is gained sooner. But sessions that stay would
// be strewn over all that, a few of their objects in each page, and no page could
// be given back: where much stays, the heap is collected as often as the runtime
// wants, and what comes next fills the gaps.
const (
	heapLeast = 4 << 20 // the runtime's own
	heapMost  = 64 << 20

	// muchStays is the part of what was allocated that outlives collections when
	// sessions stay: it is one eighth if all do. Of one collection alone littleStays
	// tells as much: it also finds what is only on its way.
	muchStays, littleStays = 1. / 16, 1. / 32
)

// A pace is how far the heap may grow before it is collected.
type pace struct {
	room    uint64 // octets, if less than twice what is in use
	since   usage  // from when on what stays is counted
	last    usage  // at the last collection
	percent int    // as the runtime has it
}

func newPace() *pace { return &pace{room: heapLeast, percent: -1} }

// set sets the pace after a collection.
func (p *pace) set(now usage) {
	p.follow(now)
	if percent := now.percent(p.room); percent != p.percent {
		debug.SetGCPercent(percent)
		p.percent = percent
	}
}

// follow makes more room when little has stayed of what was allocated since there
// was more the last time, or since a quiet time; or of what was allocated since the
// last collection, as when more clients have come that all go again.
func (p *pace) follow(now usage) {
	last := p.last
	if p.last = now; now.collections == last.collections {
		return
	}
	switch {
	case last.collections == 0:
		p.since = now
	case now.allocated-p.since.allocated < heapLeast: // too little to tell
	case now.stayed(&p.since) > muchStays && now.stayed(&last) > littleStays:
		p.room = heapLeast
	default:
		p.room, p.since = min(4*p.room, heapMost), now
	}
}

// restart begins anew after a collection: what comes after a quiet time may stay.
func (p *pace) restart(now usage) {
	p.room, p.since, p.last = heapLeast, now, now
	p.set(now)
}

// percent is for debug.SetGCPercent: what must come to the heap in use, in percent
// of it and of the stacks and variables that are looked at as well, for it to
// reach room. The runtime's least heap grows with it.
func (u *usage) percent(room uint64) int {
	if room <= u.live {
		return 100
	}
	return int(max(100, min(100*(room-u.live)/max(u.live+u.roots, 1), 100*room/heapLeast))) //nolint:gosec // G115: at most 1600
}

// usage is what the process has of memory.
type usage struct {
	allocated   uint64 // octets, ever
	live        uint64 // found in use by the last collection
	roots       uint64 // of stacks and variables, which it looked at
	free        uint64 // not in use and not given back
	goroutines  uint64
	collections uint64
}

func measureUsage() (u usage) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/sched/goroutines:goroutines"}, {Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(samples)
	var stacks, variables uint64
	for i, value := range []*uint64{&u.allocated, &u.live, &u.free, &u.goroutines, &u.collections, &stacks, &variables} {
		*value = samples[i].Value.Uint64()
	}
	u.roots = stacks + variables
	return u
}

// stayed is the part of what was allocated since last that was in use at the last
// collection.
func (u *usage) stayed(last *usage) float64 {
	more := max(u.live, last.live) - last.live
	return float64(more) / float64(max(u.allocated-last.allocated, 1))
}

// quietSince: little was done since last.
func (u *usage) quietSince(last *usage) bool { return u.allocated-last.allocated < memoryBusy }

// worthGiving: there is something to give back since given, when that was done.
func (u *usage) worthGiving(given *usage) bool {
	return u.allocated-given.allocated > memoryWorth || u.free > given.free+memoryWorth || u.goroutines+stacksWorth < given.goroutines
}
