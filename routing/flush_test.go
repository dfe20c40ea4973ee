package routing

import (
	"testing"
	"time"
)

// A pin is flushed at once where no session needs it; else it goes with the last one, whatever its
// grace, and until then holds the user where they are.
func TestAFlushedPinEndsWithTheLastSession(t *testing.T) {
	c := newClock()
	r, err := New(Options{Storage: Shared, Now: c.Now, PinGrace: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	fleet := func(of ...Backend) { r.Apply(Snapshot{Source: "test", Backends: of}) }
	b1, b2 := Backend{ID: "b1", Address: "b1:143", Weight: 1}, Backend{ID: "b2", Address: "b2:143", Weight: 1}
	fleet(b1)
	if did := r.Flush("ann"); did != FlushedNone {
		t.Errorf("no pin: %s", did)
	}
	login := func() *Pick {
		t.Helper()
		p, err := r.Pick("ann", "")
		if err != nil || !p.Confirm() {
			t.Fatal(err)
		}
		return p
	}
	b2.Weight = 1 << 16 // chosen for users without a pin
	first := login()
	fleet(b1, b2)
	if did := r.Flush("ann"); did != FlushedLater {
		t.Errorf("with a session: %s", did)
	}
	if b, why, err := r.Where("ann", ""); err != nil || b.ID != "b1" || why != ByPin {
		t.Errorf("a login would go to %v by %s, %v", b, why, err)
	}
	second := login() // the pin holds as long as one is there
	if second.Backend.ID != "b1" {
		t.Errorf("beside a session on b1, on %s", second.Backend.ID)
	}
	first.Release()
	if !second.Rest() { // a parked one counts
		t.Error("the user was moved")
	}
	if pins := r.Pins("ann"); len(pins) != 1 || !pins[0].Flushed || pins[0].Sessions != 1 || pins[0].Holding != 0 {
		t.Errorf("%+v", pins)
	}
	second.Release()
	if pins := r.Pins("ann"); len(pins) != 0 {
		t.Errorf("after the last session: %+v", pins)
	}
	if b, why, err := r.Where("ann", ""); err != nil || b.ID != "b2" || why != ByRendezvous {
		t.Errorf("a login would go to %v by %s, %v", b, why, err)
	}
	third := login()
	third.Release()
	if third.Backend.ID != "b2" || len(r.Pins("ann")) != 1 {
		t.Errorf("on %s, pins %+v", third.Backend.ID, r.Pins("ann"))
	}
	if did := r.Flush("ann"); did != FlushedNow || len(r.Pins("ann")) != 0 {
		t.Errorf("in its grace: %s, %+v", did, r.Pins("ann"))
	}
	for _, b := range r.Backends() {
		if b.Pins != 0 || b.Sessions != 0 {
			t.Errorf("%s counts %d pins and %d sessions", b.ID, b.Pins, b.Sessions)
		}
	}
}
