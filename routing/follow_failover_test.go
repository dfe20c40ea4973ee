package routing

import (
	"testing"
	"time"
)

// A session whose backend is down goes on where a login of its user would go.
func TestAPickFailsOver(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := fleetOfTwo(t, Options{Storage: Shared, FailoverAfter: time.Minute, Now: func() time.Time { return now }})
	p := login(t, r, "ann", "")
	from, to := p.Backend.ID, map[string]string{"b1": "b2", "b2": "b1"}[p.Backend.ID]
	other := login(t, r, "ann", "")
	if !p.Rest() {
		t.Fatal("it doesn't rest")
	}
	if b, err := p.FailsOver(); err == nil {
		t.Errorf("its backend is up, and it goes to %s", b)
	}
	fleet := []Backend{{ID: "b1", Address: "127.0.0.1:1", Weight: 1}, {ID: "b2", Address: "127.0.0.1:2", Weight: 1}}
	for i := range fleet {
		if fleet[i].ID == from {
			fleet[i].State, fleet[i].Reason = Down, "critical"
		}
	}
	r.Apply(Snapshot{Source: "test", Backends: fleet})
	if b, err := p.FailsOver(); err == nil {
		t.Errorf("another session holds the user, and it goes to %s", b)
	}
	other.Rest()
	b, err := p.FailsOver()
	if err != nil || b != to {
		t.Fatalf("%s, %v", b, err)
	}
	if moved, err := p.Follow(b); err != nil || moved.Backend.ID != to {
		t.Fatal(err)
	}
	select {
	case <-other.Void():
	default:
		t.Error("the user's other session isn't told")
	}
}
