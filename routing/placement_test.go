package routing

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// doubled is a fleet in which the id "mail" is there twice.
func doubled() Snapshot {
	return Snapshot{Source: "test", Backends: []Backend{
		{ID: "mail@u1", Name: "mail@n1", Service: "mail", Node: "n1", Address: "192.0.2.1:143", Weight: 1},
		{ID: "mail@u2", Name: "mail@n2", Service: "mail", Node: "n2", Address: "192.0.2.2:143", Weight: 1},
		{ID: "own@u3", Name: "own", Service: "own", Node: "n3", Address: "192.0.2.3:143", Weight: 1},
	}}
}

func TestAPlacementNamesABackendByEachOfItsNames(t *testing.T) {
	for _, storage := range []Storage{Shared, Separate} {
		r, _ := newTestRouter(t, Options{Storage: storage})
		r.Apply(doubled())
		for placement, want := range map[string]string{
			"mail@u1": "mail@u1", "mail@n1": "mail@u1", "mail@n2": "mail@u2",
			"own": "own@u3", "own@n3": "own@u3", "own@u3": "own@u3", "192.0.2.2:143": "mail@u2", "192.0.2.3:143": "own@u3",
		} {
			p, err := r.Pick("user of "+placement, placement)
			if err != nil {
				t.Errorf("%v, %q: %v", storage, placement, err)
				continue
			}
			if p.Backend.ID != want || p.Why != ByPlacement {
				t.Errorf("%v, %q: %s by %s, want %s", storage, placement, p.Backend.ID, p.Why, want)
			}
			p.Release()
		}
	}
}

// An id that two machines have says which backend is meant only for a user who is there.
func TestAPlacementThatNamesSeveral(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Separate})
	one := doubled()
	one.Backends = one.Backends[1:]
	one.Backends[0].Name = "mail"
	r.Apply(one)
	ann, err := r.Pick("ann", "mail")
	if err != nil || !ann.Confirm() {
		t.Fatal(err)
	}
	r.Apply(doubled())
	if p, err := r.Pick("ann", "mail"); err != nil || p.Backend.ID != "mail@u2" {
		t.Errorf("ann's next session: %v %v", p, err)
	}
	_, err = r.Pick("bob", "mail")
	if !errors.Is(err, ErrUnknownPlacement) || !strings.Contains(err.Error(), "mail@n1, mail@n2") {
		t.Errorf("bob, who isn't anywhere: %v", err)
	}
	select {
	case <-ann.Void():
		t.Error("ann was moved")
	default:
	}
}

// An error about one backend names it, however it is wrapped; others name none.
func TestAnErrorNamesTheBackendThatIsDown(t *testing.T) {
	err := fmt.Errorf("first: %w", errors.Join(errors.New("x"), down("imap1", ": %s", "critical")))
	if got := DownBackend(err); got != "imap1" || !errors.Is(err, ErrBackendDown) || !strings.Contains(err.Error(), "the user's backend is down: imap1: critical") {
		t.Errorf("%q of %v", got, err)
	}
	if got := DownBackend(ErrNoBackend); got != "" {
		t.Error(got)
	}
}
