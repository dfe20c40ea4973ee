package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
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

	FailedDials  int // TCP connects that failed
	FailedLogins int // logins that failed, of clients and of the proxy's own connections; also those with a wrong password
}

// Timed is what is timed of a backend.
type Timed int

// What is timed of a backend.
const (
	TimedDial   Timed = iota // TCP connects that succeeded
	TimedLogin               // logins that succeeded, from the established connection on
	TimedAnswer              // commands, from the last byte that the backend was sent to the first byte of its answer
	timedCount
)

// Quantiles are of the times of a BackendTimes. Each is the upper bound of a range of which the lower one is at least three quarters.
type Quantiles struct {
	Count    int
	P50, P99 time.Duration // 0: there were none
}

// recent holds each backend's BackendRecent. Relayed commands count without a lock and without an allocation: the map is replaced, never
// changed. A count at the beginning of a minute may be lost.
type recent struct {
	mu  sync.Mutex // held while the map is replaced
	all atomic.Pointer[map[string]*recentBackend]
}

// recentBackend takes 5 KB.
type recentBackend struct {
	slots   [recentSlots]recentSlot
	answers [classCount][statusCount]atomic.Pointer[hotSeries] // of the histogram of commands by backend; looked for once, when they are needed
}

// series returns the series of h that has the commands of this class and status.
func (b *recentBackend) series(h *hotHistogram, backend string, c class, status int) *hotSeries {
	cell := &b.answers[c][status]
	if found := cell.Load(); found != nil {
		return found
	}
	found := h.series(attribute.NewSet(
		label("backend", backend), attribute.String("class", classLabels[c]), attribute.String("status", statusLabels[status])))
	cell.Store(found)
	return found
}

// recentSlot has the counts of one minute.
type recentSlot struct {
	minute                                                    atomic.Int64
	answers, slow, refused, givenUp, failedDial, failedLogins atomic.Int64
	times                                                     [timedCount][tallyCells]atomic.Uint32
}

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
		for _, n := range []*atomic.Int64{&s.answers, &s.slow, &s.refused, &s.givenUp, &s.failedDial, &s.failedLogins} {
			n.Store(0)
		}
		for of := range s.times {
			for cell := range s.times[of] {
				s.times[of][cell].Store(0)
			}
		}
	}
	return s
}

func (s *recentSlot) answered(took time.Duration) {
	s.answers.Add(1)
	if took >= SlowAnswer {
		s.slow.Add(1)
	}
}

func (s *recentSlot) timed(of Timed, took time.Duration) { s.times[of][tallyCell(took)].Add(1) }
