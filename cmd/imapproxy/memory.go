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

// Settings of the garbage collector, unless GOGC is set. Most memory is held by idle sessions, so little
// unused memory is kept beside it (gcPercent). With that alone a small heap would be collected all the time,
// so gcFloor bytes are allocated in addition. They are never written, so they take no memory of the system;
// but a memory limit (GOMEMLIMIT) counts them, so they have at most an eighth of it.
const (
	gcPercent = 25
	gcFloor   = 96 << 20
)

// When memory that a burst of logins leaves unused is returned to the system. By itself Go keeps the memory
// up to the size at which the next collection is due, also if no more is allocated.
const (
	// tidyEvery is how often unused memory is checked.
	tidyEvery = 5 * time.Second
	// tidyFrom is the least unused memory for which a collection is done.
	tidyFrom = 12 << 20
	// tidyQuiet: a burst is over when less than 1/tidyQuiet of the unused memory was allocated since the last
	// check; before, it would be needed again at once.
	tidyQuiet = 10
	// tidyPause is the least time between two collections. It is also at least tidyShare times the duration
	// of the last one, so they take at most a hundredth of one core.
	tidyPause = time.Minute
	tidyShare = 100
)

// memory manages the process's memory from manageMemory to end.
type memory struct {
	floor   []byte
	tidying *task.Task // nil if the environment sets GOGC, which then stays as set
}

func manageMemory() *memory {
	m := &memory{}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		m.floor = make([]byte, floorUnder(debug.SetMemoryLimit(-1)))
		m.tidying = task.Start(tidy)
	}
	return m
}

// floorUnder returns how many bytes are allocated in addition under a memory limit.
func floorUnder(limit int64) int64 { return min(gcFloor, limit/8) }

func (m *memory) end() {
	_ = m.tidying.Stop()
	runtime.KeepAlive(m.floor)
}

// tidy returns unused memory to the system until ctx ends.
func tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	var t tidiness
	for {
		select {
		case <-ctx.Done():
			return nil
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
}

func readHeap() heap {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(s)
	return heap{used: s[0].Value.Uint64(), live: s[1].Value.Uint64(), free: s[2].Value.Uint64(), allocated: s[3].Value.Uint64()}
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
