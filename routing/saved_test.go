package routing

import (
	"strings"
	"testing"
	"time"
)

// saved is a fleet that was kept on disk an hour ago.
func saved(t *testing.T, c *clock, words ...string) Snapshot {
	t.Helper()
	s := parseFleet(t, words...)
	s.Saved = c.Now().Add(-time.Hour)
	return s
}

func TestASavedSetIsUsedWhileNothingElseIsKnown(t *testing.T) {
	r, c := newTestRouter(t, Options{Storage: Shared})
	at := c.Now().Add(-time.Hour)
	if r.Apply(saved(t, c, "b1", "b2=down")); !r.Ready() || !r.FromSaved() || !r.LastGood().Equal(at) {
		t.Fatalf("ready %v, saved %v, last good %v", r.Ready(), r.FromSaved(), r.LastGood())
	}
	if p, err := r.Pick("ann", ""); err != nil || p.Backend.ID != "b1" {
		t.Fatal(err)
	}
	if age := r.stats().Age; age != time.Hour {
		t.Errorf("its age is %v", age)
	}
}

func TestASavedSetNeverOverridesALiveAnswer(t *testing.T) {
	r, c := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2"))
	if r.Apply(saved(t, c, "b1=down", "b3")) || r.FromSaved() {
		t.Fatal("the saved set was taken")
	}
	if n := len(r.Backends()); n != 2 || !r.LastGood().Equal(c.Now()) {
		t.Errorf("%d backends", n)
	}
}

// What a file remembers isn't evidence that the checks are wrong: the first live answer
// is taken whole, whatever it takes away, and counts as no loss afterwards.
func TestTheFirstLiveAnswerAfterASavedSetIsTakenWhole(t *testing.T) {
	r, c := newTestRouter(t, Options{Storage: Shared})
	r.Apply(saved(t, c, "b1", "b2", "b3", "b4"))
	if !r.Apply(parseFleet(t, "b1", "b2", "b3=down")) || r.FromSaved() {
		t.Fatal("the live answer wasn't taken whole")
	}
	r.Apply(parseFleet(t, "b1", "b2=down", "b3=down"))
	for id, want := range map[string]State{"b1": Up, "b2": Down, "b3": Down} {
		for _, b := range r.Backends() {
			if b.ID == id && b.State != want {
				t.Errorf("%s is %v", id, b.State)
			}
		}
	}
	if r.Apply(parseFleet(t, "b1=down", "b2=down", "b3=down")) {
		t.Error("the panic threshold doesn't hold any more")
	}
}

func TestAnEmptyAnswerIsNotBelievedAfterASavedSet(t *testing.T) {
	r, log := newLoggedRouter(t)
	s := parseFleet(t, "b1")
	s.Saved = time.Now().Add(-time.Hour)
	r.Apply(s)
	if r.Apply(Snapshot{Source: "test"}) || !r.FromSaved() || len(r.Backends()) != 1 {
		t.Error("it was believed")
	}
	if !strings.Contains(log.String(), "using the last good set, which was saved on disk") || !strings.Contains(log.String(), "keeping the last good set") {
		t.Error(log.String())
	}
	if err := r.Reload(Options{Storage: Shared, PanicThreshold: 1}); err != nil || !r.FromSaved() {
		t.Error("a reload makes it a live answer")
	}
}
