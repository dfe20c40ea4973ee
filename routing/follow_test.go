package routing

import (
	"errors"
	"testing"
)

// fleetOfTwo is a router with the backends b1 and b2.
func fleetOfTwo(t *testing.T, o Options) *Router {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Apply(Snapshot{Source: "test", Backends: []Backend{
		{ID: "b1", Address: "127.0.0.1:1", Weight: 1}, {ID: "b2", Address: "127.0.0.1:2", Weight: 1},
	}})
	return r
}

// login makes the pick of a session that is logged in.
func login(t *testing.T, r *Router, user, placement string) *Pick {
	t.Helper()
	p, err := r.PickWithin(t.Context(), 0, user, placement)
	if err != nil || !p.Confirm() {
		t.Fatal(err)
	}
	return p
}

// A session without a connection joins its user's other sessions where they are, and counts there.
func TestARestingPickFollowsItsUser(t *testing.T) {
	r := fleetOfTwo(t, Options{Storage: Shared})
	old := login(t, r, "ann", "b1")
	if _, err := old.Follow("b2"); err == nil {
		t.Fatal("it has a connection, and follows")
	}
	if !old.Rest() {
		t.Fatal("it doesn't rest")
	}
	second := login(t, r, "ann", "b2")
	select {
	case <-old.Void():
	default:
		t.Fatal("it isn't void")
	}
	p, err := old.Follow("")
	if err != nil || p.Backend.ID != "b2" || p.Why != ByMove {
		t.Fatalf("%+v, %v", p, err)
	}
	if pins := r.Pins("ann"); len(pins) != 1 || pins[0].Sessions != 2 || pins[0].Holding != 1 {
		t.Errorf("%+v", pins)
	}
	if _, err := old.Follow(""); err == nil {
		t.Error("it is followed twice")
	}
	old.Release()
	if !p.Hold() {
		t.Error("it can't hold")
	}
	p.Release()
	second.Release()
	for _, b := range r.Backends() {
		if b.Sessions != 0 {
			t.Errorf("%d sessions are counted on %s", b.Sessions, b.ID)
		}
	}
}

// The backend of the user's other sessions isn't listed any more. Once none of them has a connection there, a session goes where a login would.
func TestAPickDoesntFollowToABackendThatIsGone(t *testing.T) {
	r := fleetOfTwo(t, Options{Storage: Shared})
	old := login(t, r, "ann", "b1")
	old.Rest()
	second := login(t, r, "ann", "b2")
	r.Apply(Snapshot{Source: "test", Backends: []Backend{{ID: "b1", Address: "127.0.0.1:1", Weight: 1}}})
	if _, err := old.Follow(""); !errors.Is(err, ErrNoBackend) {
		t.Fatalf("another session is connected there: %v", err)
	}
	second.Rest()
	p, err := old.Follow("")
	if err != nil || p.Backend.ID != "b1" {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := second.Follow(""); err != nil {
		t.Error(err)
	}
	if pins := r.Pins("ann"); len(pins) != 1 || pins[0].Sessions != 2 {
		t.Errorf("%+v", pins)
	}
}

// A session that gives its connection up after its user has moved can follow like any other.
func TestAPickRestsThoughItsUserHasMoved(t *testing.T) {
	r := fleetOfTwo(t, Options{Storage: Shared})
	p := login(t, r, "ann", "b1")
	other := login(t, r, "ann", "b2")
	if p.Rest() {
		t.Error("the user hasn't moved")
	}
	next, err := p.Follow("")
	if err != nil || next.Backend.ID != "b2" {
		t.Fatal(err)
	}
	next.Release()
	other.Release()
}

// Where a backend is named the user's pin goes there, too; one that isn't listed is waited for.
func TestAPickFollowsToWhereTheProxiesHaveItsUser(t *testing.T) {
	d := &decided{at: map[string]string{"ann": "b1"}}
	r := fleetOfTwo(t, Options{Storage: Shared, Agreement: d})
	p := login(t, r, "ann", "")
	p.Rest()
	if _, err := p.Follow("b3"); !errors.Is(err, ErrNoBackend) {
		t.Fatal(err)
	}
	d.at["ann"] = "b2"
	at, err := r.Agreed(t.Context(), "ann")
	if err != nil || at != "b2" || d.held != 0 {
		t.Fatalf("at %q, %d claims: %v", at, d.held, err)
	}
	next, err := p.Follow(at)
	if err != nil || next.Backend.ID != "b2" || d.held != 0 {
		t.Fatal(err)
	}
	if pins := r.Pins("ann"); len(pins) != 1 || pins[0].Backend != "b2" {
		t.Errorf("%+v", pins)
	}
	next.Release()
	delete(d.at, "ann")
	if _, err := r.Agreed(t.Context(), "ann"); !errors.Is(err, ErrNotAgreed) {
		t.Error(err)
	}
}
