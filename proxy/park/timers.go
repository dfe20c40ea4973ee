package park

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// moment is a time on the hub's clock, in nanoseconds since the hub was made, and later than 0, which is no time. A time.Time takes three times
// as much of the record that each parked mailbox has.
type moment int64

func (t moment) Add(d time.Duration) moment    { return t + moment(d) }
func (t moment) Sub(from moment) time.Duration { return time.Duration(t - from) }
func (t moment) Before(o moment) bool          { return t < o }
func (t moment) After(o moment) bool           { return t > o }
func (t moment) IsZero() bool                  { return t == 0 }

// timer calls its owner at a time. It is a field of its owner, and guarded by Hub.mu.
type timer struct {
	at    moment
	place int // its index in the heap plus 1; 0: it isn't set
	owner interface {
		// timerLocked is called once the time is reached, with Hub.mu held. It may set the timer again.
		timerLocked()
	}
}

// timers are all timers that are set, as a heap with the earliest first. One goroutine waits for all of them, so
// that a parked mailbox needs neither a goroutine nor a time.Timer. They are guarded by Hub.mu.
type timers struct {
	list    []*timer
	changed chan struct{} // has a token if another timer may be the earliest by now
}

func (ts *timers) Len() int           { return len(ts.list) }
func (ts *timers) Less(i, j int) bool { return ts.list[i].at.Before(ts.list[j].at) }
func (ts *timers) Swap(i, j int) {
	ts.list[i], ts.list[j] = ts.list[j], ts.list[i]
	ts.list[i].place, ts.list[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (ts *timers) Push(x any) {
	t := x.(*timer)
	ts.list = append(ts.list, t)
	t.place = len(ts.list)
}

// Pop implements heap.Interface.
func (ts *timers) Pop() any {
	last := len(ts.list) - 1
	t := ts.list[last]
	ts.list[last] = nil
	ts.list = ts.list[:last]
	t.place = 0
	return t
}

// setLocked sets a timer, or changes its time.
func (ts *timers) setLocked(t *timer, at moment) {
	if t.place != 0 && t.at == at {
		return
	}
	t.at = at
	if t.place == 0 {
		heap.Push(ts, t)
	} else {
		heap.Fix(ts, t.place-1)
	}
	if ts.list[0] == t {
		ts.recheck()
	}
}

func (ts *timers) clearLocked(t *timer) {
	if t.place != 0 {
		heap.Remove(ts, t.place-1)
	}
}

// recheck makes the goroutine that waits for the timers compare them with the clock.
func (ts *timers) recheck() {
	select {
	case ts.changed <- struct{}{}:
	default: // a token is there already
	}
}

// fireLocked calls the owners of the timers whose time is reached, and returns the time until the next one. ok is
// false if no timer is set.
func (ts *timers) fireLocked(now moment) (next time.Duration, ok bool) {
	for len(ts.list) > 0 {
		if first := ts.list[0]; first.at.After(now) {
			return first.at.Sub(now), true
		}
		heap.Pop(ts).(*timer).owner.timerLocked()
	}
	return 0, false
}

// sleep is a timer that a goroutine waits for.
type sleep struct {
	timer
	over chan struct{}
}

func newSleep() *sleep {
	s := &sleep{over: make(chan struct{})}
	s.owner = s
	return s
}

func (s *sleep) timerLocked() { close(s.over) }

// jittered returns d, more or less a quarter of it at random, so that periodic work is spread over time.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}
