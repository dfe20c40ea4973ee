package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"imapproxy/internal/task"
)

// Settings of the garbage collector, unless GOGC is set. Most memory is held by idle sessions, so the unused memory beside
// it is kept small: a collection is due when gcPercent of the memory in use has been allocated. With that alone a small heap would be collected all the
// time, so it is also at least gcLeast bytes. Go has no setting for that: the percentage follows the memory in use, after each collection (collected).
const (
	gcPercent = 25
	gcLeast   = 24 << 20
	// gcStart is about what is in use before the first collection.
	gcStart = 4 << 20
)

// When memory that a burst of logins leaves unused is returned to the system. By itself Go keeps the memory
// up to the size at which the next collection is due, also if no more is allocated.
const (
	// tidyEvery is how often unused memory is checked.
	tidyEvery = 5 * time.Second
	// tidyFrom is the least unused memory for which a collection is done.
	tidyFrom = 6 << 20
	// tidyQuiet: a burst is over when less than 1/tidyQuiet of the unused memory was allocated since the last
	// check; before, it would be needed again at once. What many idle clients cause, such as lines that keep them alive, isn't a burst.
	tidyQuiet = 3
	// tidyPause is the least time between two collections. It is also at least tidyShare times the duration
	// of the last one, so they take at most a hundredth of one core.
	tidyPause = 30 * time.Second
	tidyShare = 100
)

// memory manages the process's memory from manageMemory to end.
type memory struct {
	tidying *task.Task // nil if the environment sets GOGC, which then stays as set
}

func manageMemory() *memory {
	m := &memory{}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percentFor(0))
		m.tidying = task.Start(tidy)
	}
	return m
}

func (m *memory) end() { _ = m.tidying.Stop() }

// percentFor returns the percentage with which the next collection is due after gcPercent of inUse, and not before gcLeast bytes.
func percentFor(inUse uint64) int {
	return int(max(gcPercent, 100*gcLeast/max(inUse, gcStart)))
}

// collected sends to ended, if that has room, once the next collection has found what is in use. It waits for no one.
func collected(ended chan<- struct{}) {
	type watched struct{ _ [64]byte } // not so small that it shares memory with others
	runtime.AddCleanup(new(watched), func(ended chan<- struct{}) {
		select {
		case ended <- struct{}{}:
		default:
		}
	}, ended)
}

// tidy has collections come when they are due, and returns unused memory to the system, until ctx ends.
func tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	percent := percentFor(0)
	ended := make(chan struct{}, 1)
	collected(ended)
	var t tidiness
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			collected(ended)
			if now := percentFor(readHeap().marked); now != percent {
				percent = now
				debug.SetGCPercent(percent) // stops the process for some 10 µs
			}
			continue
		case <-tick.C:
		}
		if now := time.Now(); t.due(now, readHeap()) {
			debug.FreeOSMemory()
			t.done(now, time.Since(now))
		}
	}
}

// heap is the part of runtime/metrics that tidiness uses, in bytes.
type heap struct {
	used      uint64 // by objects, dead ones that haven't been swept included
	live      uint64 // of these, as the last collection found
	free      uint64 // held for objects to come
	allocated uint64 // since the process began
	marked    uint64 // what gcPercent is a part of: live, the stacks and the variables of packages, as the last collection found them
}

func readHeap() heap {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(s)
	n := func(i int) uint64 { return s[i].Value.Uint64() }
	return heap{used: n(0), live: n(1), free: n(2), allocated: n(3), marked: n(1) + n(4) + n(5)}
}

// tidiness decides when memory is returned to the system.
type tidiness struct {
	allocated uint64 // at the last look
	notBefore time.Time
}

// due says whether to return memory now: enough may be unused, no burst of allocations would need it again,
// and the last collection is long enough ago.
func (t *tidiness) due(now time.Time, h heap) bool {
	lately := h.allocated - t.allocated
	t.allocated = h.allocated
	unused := h.free + h.used - min(h.live, h.used)
	return unused >= tidyFrom && lately < unused/tidyQuiet && !now.Before(t.notBefore)
}

func (t *tidiness) done(began time.Time, took time.Duration) {
	t.notBefore = began.Add(max(tidyPause, tidyShare*took))
}
