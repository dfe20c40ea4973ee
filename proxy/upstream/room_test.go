package upstream

import (
	"testing"
	"time"
)

// What a backend takes is learnt from refusals for want of room alone: who makes a backend
// close by what they send as a login has a few waiting connections closed, no more.
func TestOnlyARefusalForWantOfRoomTeaches(t *testing.T) {
	now := time.Now()
	r := NewRoom(RoomOptions{Now: func() time.Time { return now }})
	waiting := 0
	r.Evicts(func(_ string, n int) int {
		n = min(n, waiting)
		waiting -= n
		for range n {
			r.leave("b1")
		}
		return n
	}, func(int) int { return 0 })
	for range 40 {
		r.enter("b1")(true)
		waiting++
	}
	if !r.Refused("b1", false) || r.Status("b1").Learnt != 0 || waiting != 35 {
		t.Errorf("uncertain: %+v, %d wait", r.Status("b1"), waiting)
	}
	if !r.Refused("b1", true) || r.Status("b1").Learnt != 35 || r.Status("b1").Bound >= 35 {
		t.Errorf("certain: %+v", r.Status("b1"))
	}
	bound := r.Status("b1").Bound
	now = now.Add(roomRaiseEvery)
	if b := r.Status("b1"); r.Status("b1").Bound <= bound {
		t.Errorf("it doesn't rise: %+v", b)
	}
	now = now.Add(100 * roomRaiseEvery)
	if b := r.Status("b1"); b.Learnt != 0 || b.Bound != 0 {
		t.Errorf("it isn't forgotten: %+v", b)
	}
	waiting = 0
	if r.Refused("b1", true) || r.Status("b1").Learnt != 0 {
		t.Error("it learns from a backend that nothing of the proxy's fills")
	}
}
