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

// How the garbage collector is set, where GOGC doesn't say otherwise. Memory goes to
// what many idle sessions hold, so little is left lying beside it (gcPercent). A heap
// that is small would be collected all the time then: the collector is made to
// believe that gcFloor bytes more are in use. They are never touched, so the
// system never gives them; but a memory limit (GOMEMLIMIT) counts them, and spent on
// them would have the collector run all the time: they take an eighth of it at most.
const (
	gcPercent = 25
	gcFloor   = 96 << 20
)

// When the memory that a burst of logins has left behind is given back to the system. By
// itself Go keeps as much as the next collection will be due at, half of all that is
// in use, however quiet it has become.
const (
	// tidyEvery is how often that is looked at.
	tidyEvery = 5 * time.Second
	// tidyFrom is the least unused memory for which a collection is done.
	tidyFrom = 12 << 20
	// tidyQuiet: the burst is over when less than the tidyQuiet-th part of what lies unused was
	// allocated since the last look; else it would be needed again at once.
	tidyQuiet = 10
	// tidyPause is the least time between two, and tidyShare how many times as long as
	// the last one took: it may take a hundredth of one core.
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

// floorUnder is how many bytes are set aside under a memory limit.
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

// heap is the part of runtime/metrics that tidiness goes by, in bytes.
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

// tidiness decides when memory is given back.
type tidiness struct {
	allocated uint64 // at the last look
	notBefore time.Time
}

// due says whether now is the time: enough may lie unused, no burst is going on that
// would have it all back, and the last time is long enough ago.
func (t *tidiness) due(now time.Time, h heap) bool {
	lately := h.allocated - t.allocated
	t.allocated = h.allocated
	unused := h.free + h.used - min(h.live, h.used)
	return unused >= tidyFrom && lately < unused/tidyQuiet && !now.Before(t.notBefore)
}

func (t *tidiness) done(began time.Time, took time.Duration) {
	t.notBefore = began.Add(max(tidyPause, tidyShare*took))
}
