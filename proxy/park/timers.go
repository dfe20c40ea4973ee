package park

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// timer is a time at which its owner is called. It is a field of its owner's, guarded by the
// hub's mutex.
type timer struct {
	at    time.Time
	place int // in the heap, from 1 on; 0: it isn't set
	owner interface {
		// timerLocked is called once when the time has come. It may set the timer again.
		timerLocked()
	}
}

// timers are all timers that are set, the soonest first: one goroutine waits for
// the whole of them, so that a parked mailbox needs neither a goroutine nor a
// time.Timer. They are guarded by the hub's mutex.
type timers struct {
	list    []*timer
	changed chan struct{} // has a token when the soonest may be another
}

func (ts *timers) Len() int           { return len(ts.list) }
func (ts *timers) Less(i, j int) bool { return ts.list[i].at.Before(ts.list[j].at) }
func (ts *timers) Swap(i, j int) {
	ts.list[i], ts.list[j] = ts.list[j], ts.list[i]
	ts.list[i].place, ts.list[j].place = i+1, j+1
}

// Push is heap.Interface's.
func (ts *timers) Push(x any) {
	t := x.(*timer)
	ts.list = append(ts.list, t)
	t.place = len(ts.list)
}

// Pop is heap.Interface's.
func (ts *timers) Pop() any {
	last := len(ts.list) - 1
	t := ts.list[last]
	ts.list[last] = nil
	ts.list = ts.list[:last]
	t.place = 0
	return t
}

// setLocked sets a timer, or moves it.
func (ts *timers) setLocked(t *timer, at time.Time) {
	if t.place != 0 && t.at.Equal(at) {
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

// recheck has the goroutine that waits for the timers look at the clock.
func (ts *timers) recheck() {
	select {
	case ts.changed <- struct{}{}:
	default: // it will anyway
	}
}

// fireLocked calls the owners of the timers whose time has come, and says how long it is to the
// next. false: no timer is set.
func (ts *timers) fireLocked(now time.Time) (next time.Duration, ok bool) {
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

// jittered spreads what happens every d.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}
