package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// The window of Recent, in slots of a minute: the current one, and those before it.
const (
	RecentFor   = 5 * time.Minute
	recentSlots = int64(RecentFor/time.Minute) + 1
)

// SlowAnswer is how long a login at a backend, or the wait for a command's answer, takes at least to count as slow.
const SlowAnswer = 2 * time.Second

// maxRecent bounds the backends of which something is remembered.
const maxRecent = 2000

// BackendRecent is what has happened at a backend in the last five minutes, to the minute.
type BackendRecent struct {
	Answers int // logins and commands that the backend has answered
	Slow    int // of these, those that took SlowAnswer and longer; and logins that weren't answered in time
	Refused int // logins of clients that were refused because of it
	GivenUp int // connections on which it was silent
}

// recent holds each backend's BackendRecent. Relayed commands count without a lock and without an allocation: the map is replaced, never
// changed. A count at the beginning of a minute may be lost.
type recent struct {
	mu  sync.Mutex // held while the map is replaced
	all atomic.Pointer[map[string]*recentBackend]
}

type recentBackend struct{ slots [recentSlots]recentSlot }

// recentSlot has the counts of one minute.
type recentSlot struct{ minute, answers, slow, refused, givenUp atomic.Int64 }

// at returns the counts of a backend. A new backend beyond maxRecent removes the counts of all others.
func (r *recent) at(backend string) *recentBackend {
	if all := r.all.Load(); all != nil {
		if b := (*all)[backend]; b != nil {
			return b
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := map[string]*recentBackend{}
	if all := r.all.Load(); all != nil {
		if b := (*all)[backend]; b != nil {
			return b
		}
		if len(*all) < maxRecent {
			maps.Copy(next, *all)
		}
	}
	b := &recentBackend{}
	next[backend] = b
	r.all.Store(&next)
	return b
}

// slot returns the counts of the present minute.
func (b *recentBackend) slot(now time.Time) *recentSlot {
	minute := now.Unix() / 60
	s := &b.slots[uint64(minute)%uint64(recentSlots)]
	if old := s.minute.Load(); old != minute && s.minute.CompareAndSwap(old, minute) {
		s.answers.Store(0)
		s.slow.Store(0)
		s.refused.Store(0)
		s.givenUp.Store(0)
	}
	return s
}

func (s *recentSlot) answered(took time.Duration) {
	s.answers.Add(1)
	if took >= SlowAnswer {
		s.slow.Add(1)
	}
}
