package routing

import (
	"strings"
	"testing"
	"time"
)

// stateOf is a backend's state and whether it is damped.
func stateOf(r *Router, id string) string {
	for _, b := range r.Backends() {
		if b.ID == id {
			if b.Damped {
				return b.State.String() + ", damped"
			}
			return b.State.String()
		}
	}
	return "not there"
}

// A check that flaps every second moved the backend's users away and back every second.
func TestABackendThatFlapsGetsNoNewUsers(t *testing.T) {
	r, c := newTestRouter(t, Options{Storage: Shared})
	well, ill := parseFleet(t, "b1", "b2", "b3"), parseFleet(t, "b1", "b2=down", "b3")
	r.Apply(well)
	var got []string
	for range 5 {
		for _, s := range []Snapshot{ill, well} {
			c.after(time.Second)
			r.Apply(s)
			got = append(got, stateOf(r, "b2"))
		}
	}
	if want := "down; up; down; draining, damped; down; draining, damped; down; draining, damped; down; draining, damped"; strings.Join(got, "; ") != want {
		t.Errorf("it was %s", strings.Join(got, "; "))
	}

	c.after(DefaultFlapDamp - time.Second)
	if r.Settle(); stateOf(r, "b2") != "draining, damped" {
		t.Errorf("before its time it is %s", stateOf(r, "b2"))
	}
	changed := r.Watch("b2")
	c.after(time.Second)
	if r.Settle(); stateOf(r, "b2") != "up" {
		t.Errorf("after its time it is %s", stateOf(r, "b2"))
	}
	select {
	case <-changed:
	default:
		t.Error("who watches it isn't told")
	}

	// A fall long after is the first one again.
	c.after(flapWindow*DefaultFlapDamp + time.Second)
	r.Apply(ill)
	if r.Apply(well); stateOf(r, "b2") != "up" {
		t.Errorf("after one fall it is %s", stateOf(r, "b2"))
	}
}

func TestWhatIsNeverDamped(t *testing.T) {
	flap := func(r *Router, c *clock, ill, well Snapshot) {
		r.Apply(well)
		for range 5 {
			c.after(time.Second)
			r.Apply(ill)
			c.after(time.Second)
			r.Apply(well)
		}
	}
	t.Run("with separate storage", func(t *testing.T) {
		r, c := newTestRouter(t, Options{Storage: Separate})
		if flap(r, c, parseFleet(t, "b1", "b2=down", "b3"), parseFleet(t, "b1", "b2", "b3")); stateOf(r, "b2") != "up" {
			t.Errorf("it is %s", stateOf(r, "b2"))
		}
	})
	t.Run("switched off", func(t *testing.T) {
		r, c := newTestRouter(t, Options{Storage: Shared, FlapDamp: -1})
		if flap(r, c, parseFleet(t, "b1", "b2=down", "b3"), parseFleet(t, "b1", "b2", "b3")); stateOf(r, "b2") != "up" {
			t.Errorf("it is %s", stateOf(r, "b2"))
		}
	})
	t.Run("nothing else is up", func(t *testing.T) {
		r, c := newTestRouter(t, Options{Storage: Shared, PanicThreshold: 1})
		if flap(r, c, parseFleet(t, "b1=down", "b2=down"), parseFleet(t, "b1=down", "b2")); stateOf(r, "b2") != "up" {
			t.Errorf("it is %s", stateOf(r, "b2"))
		}
	})
	t.Run("the panic threshold kept it", func(t *testing.T) {
		r, c := newTestRouter(t, Options{Storage: Shared})
		flap(r, c, parseFleet(t, "b1=down", "b2=down", "b3"), parseFleet(t, "b1", "b2", "b3"))
		if stateOf(r, "b1") != "up" || stateOf(r, "b2") != "up" {
			t.Errorf("they are %s, %s", stateOf(r, "b1"), stateOf(r, "b2"))
		}
	})
}
