package routing

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A proxy that decides alone keeps a paused backend's users there, whatever discovery and dials say, and half a
// minute longer; then its loss is an ordinary one.
func TestAPausedBackendKeepsItsUsers(t *testing.T) {
	for name, answer := range map[string][]Backend{
		"down":       {{ID: "b1", Address: "127.0.0.1:1", Weight: 1, State: Down}, {ID: "b2", Address: "127.0.0.1:2", Weight: 1}},
		"draining":   {{ID: "b1", Address: "127.0.0.1:1", Weight: 1, State: Draining}, {ID: "b2", Address: "127.0.0.1:2", Weight: 1}},
		"not listed": {{ID: "b2", Address: "127.0.0.1:2", Weight: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			r := fleetOfTwo(t, Options{Storage: Shared, PinGrace: -1, PanicThreshold: 1, Now: clock.Now})
			user := userFor("b1", "b2")
			goes := func() string {
				t.Helper()
				p, err := r.Pick(user, "")
				if err != nil {
					t.Fatal(err)
				}
				defer p.Release()
				return p.Backend.ID
			}
			if goes() != "b1" {
				t.Fatal("the user goes elsewhere before the pause")
			}
			r.ReportDialFailure("b1", errors.New("refused"))
			r.Pause(Pause{Backend: "b1", Since: clock.Now(), Until: clock.Now().Add(time.Minute), By: "jane"})
			r.Apply(Snapshot{Source: "test", Backends: answer})
			for range 2 * suspectAfter {
				r.ReportDialFailure("b1", errors.New("refused"))
			}
			clock.after(10 * time.Second)
			r.Settle()
			if due := r.Trials(); goes() != "b1" || len(due) != 0 {
				t.Errorf("while it is paused the user goes to %s; probes: %d", goes(), len(due))
			}
			if p := r.Pauses(); len(p) != 1 || p[0].By != "jane" {
				t.Errorf("%+v", p)
			}
			if s := r.stats(); s.Paused != 1 {
				t.Errorf("%d backends are paused", s.Paused)
			}
			if !r.Resume("b1") || r.Resume("b1") || len(r.Pauses()) != 0 {
				t.Error("the pause can't be ended, or twice")
			}
			clock.after(PauseSettles - time.Second)
			r.Settle()
			if goes() != "b1" {
				t.Error("a check is late, and the user goes elsewhere")
			}
			clock.after(2 * time.Second)
			r.Settle()
			if name != "draining" && goes() != "b2" {
				t.Error("the backend is down, and the user goes there")
			}
			if b := r.Backends()[0]; b.State == Up {
				t.Errorf("%+v", b)
			}
		})
	}
}

// Callers that wait for the end of a pause learn of its end, of a longer pause, and of their context's end.
func TestWaitsForTheEndOfAPause(t *testing.T) {
	r := fleetOfTwo(t, Options{Storage: Shared})
	if _, _, paused := r.Paused("b1"); paused || !r.Resumed(t.Context(), "b1", 0) {
		t.Fatal("it is paused")
	}
	r.SetPauses([]Pause{{Backend: "b1", Until: time.Now().Add(time.Hour)}})
	if _, _, paused := r.Paused("b2"); paused {
		t.Error("another is paused as well")
	}
	if r.Resumed(t.Context(), "b1", time.Millisecond) {
		t.Error("it isn't paused")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if r.Resumed(over, "b1", time.Hour) {
		t.Error("it isn't paused")
	}
	done := make(chan bool)
	_, changed, _ := r.Paused("b1")
	go func() { done <- r.Resumed(t.Context(), "b1", time.Hour) }()
	r.SetPauses([]Pause{{Backend: "b1", Until: time.Now().Add(2 * time.Hour)}})
	<-changed
	select {
	case <-done:
		t.Fatal("a longer pause ends the wait")
	default:
	}
	r.SetPauses(nil)
	if !<-done {
		t.Error("its end isn't heard of")
	}
	r.Pause(Pause{Backend: "b1", Until: time.Now().Add(20 * time.Millisecond)})
	if !r.Resumed(t.Context(), "b1", time.Hour) { // it ends by itself
		t.Error("the end of its time isn't noticed")
	}
}
