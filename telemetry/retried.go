package telemetry

import (
	"sync"
	"time"
)

// Bounds of the traces of retried work that failed or was slow: of each kind, at each backend.
const (
	keptRetried   = 10
	retriedWithin = 10 * time.Second
)

// retried counts the traces of resyncs and of watches' conversations. While a backend is down, each is tried again and again for every parked
// mailbox, and their spans would leave the queue no room for those of logins and commands.
type retried struct {
	mu    sync.Mutex // guards the fields below
	since time.Time
	kept  map[retriedAt]int // since then
}

// retriedAt is a kind of work, by its span, at a backend.
type retriedAt struct{ span, backend string }

// mayKeep says whether one more trace may be kept, and counts it.
func (u *retried) mayKeep(span, backend string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.kept == nil || now.Sub(u.since) >= retriedWithin {
		u.since, u.kept = now, map[retriedAt]int{}
	}
	at := retriedAt{span, backend}
	if u.kept[at] == keptRetried {
		return false
	}
	u.kept[at]++
	return true
}
