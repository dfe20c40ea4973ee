package park

import (
	"container/heap"
	"context"
	"time"
)

// alarm is a time at which somebody wants to be woken. It stands in its owner;
// guarded by the hub's mutex.
type alarm struct {
	at    time.Time
	place int // in the heap, from 1 on; 0: not set
	owner interface {
		// alarmLocked is called once at has come. It may set the alarm again.
		alarmLocked()
	}
}

// alarms are all alarms that are set, the soonest first: one goroutine waits for
// the whole of them, so that a parked mailbox needs neither a goroutine nor a
// timer.
type alarms struct {
	list    []*alarm
	changed chan struct{} // has a token when the soonest may be another
}

func (a *alarms) Len() int           { return len(a.list) }
func (a *alarms) Less(i, j int) bool { return a.list[i].at.Before(a.list[j].at) }
func (a *alarms) Swap(i, j int) {
	a.list[i], a.list[j] = a.list[j], a.list[i]
	a.list[i].place, a.list[j].place = i+1, j+1
}

// Push is heap.Interface's.
func (a *alarms) Push(x any) {
	al := x.(*alarm)
	a.list = append(a.list, al)
	al.place = len(a.list)
}

// Pop is heap.Interface's.
func (a *alarms) Pop() any {
	last := len(a.list) - 1
	al := a.list[last]
	a.list[last] = nil
	a.list = a.list[:last]
	al.place = 0
	return al
}

// setAlarmLocked sets it, or moves it.
func (h *Hub) setAlarmLocked(al *alarm, at time.Time) {
	if al.place != 0 && al.at.Equal(at) {
		return
	}
	al.at = at
	if al.place == 0 {
		heap.Push(&h.alarms, al)
	} else {
		heap.Fix(&h.alarms, al.place-1)
	}
	if h.alarms.list[0] == al {
		h.pokeClock()
	}
}

func (h *Hub) clearAlarmLocked(al *alarm) {
	if al.place != 0 {
		heap.Remove(&h.alarms, al.place-1)
	}
}

// pokeClock has the clock looked at.
func (h *Hub) pokeClock() {
	select {
	case h.alarms.changed <- struct{}{}:
	default: // it will be anyway
	}
}

// watchClock raises alarms until the hub ends.
func (h *Hub) watchClock() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-h.alarms.changed:
		case <-h.ctx.Done():
			return
		}
		if next, ok := h.raise(); ok {
			timer.Reset(next)
		}
	}
}

// raise raises the alarms that are due, and says how long it is to the next.
func (h *Hub) raise() (next time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for len(h.alarms.list) > 0 {
		if first := h.alarms.list[0]; first.at.After(now) {
			return first.at.Sub(now), true
		}
		heap.Pop(&h.alarms).(*alarm).owner.alarmLocked()
	}
	return 0, false
}

// nap is a pause of a goroutine's.
type nap struct {
	alarm
	over chan struct{}
}

func (n *nap) alarmLocked() { close(n.over) }

// pause waits for d, or until ctx ends.
func (h *Hub) pause(ctx context.Context, d time.Duration) {
	n := &nap{over: make(chan struct{})}
	n.owner = n
	h.mu.Lock()
	h.setAlarmLocked(&n.alarm, h.now().Add(d))
	h.mu.Unlock()
	select {
	case <-n.over:
	case <-ctx.Done():
		h.mu.Lock()
		h.clearAlarmLocked(&n.alarm)
		h.mu.Unlock()
	}
}
