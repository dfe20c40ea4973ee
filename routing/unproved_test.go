package routing

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// unproved is a login whose password the backend is to prove.
func unproved(t testing.TB, r *Router, user string, tried ...string) *Pick {
	t.Helper()
	p, err := r.PickUnproved(t.Context(), 0, user, "", tried...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stays fails the test when a user's pin isn't there, or the session has to leave.
func stays(t testing.TB, r *Router, p *Pick, backend string, sessions int) {
	t.Helper()
	pins := r.Pins(p.user)
	if p.voided() || len(pins) != 1 || pins[0].Backend != backend || pins[0].Sessions != sessions {
		t.Errorf("void %v, pins %+v", p.voided(), pins)
	}
}

// A guess at a user whose session is parked finds the backend full, and tries another: that moves
// no user. The user's own login from there does.
func TestALoginMovesItsUserWhenItIsProved(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2", "b3"))
	user := userFor("b1", "b2", "b3")
	parked := unproved(t, r, user)
	if !parked.Confirm() || !parked.Rest() {
		t.Fatal("the user can't log in")
	}
	for range 3 {
		guess := unproved(t, r, user, "b1")
		if guess.Backend.ID != "b2" || guess.Why != ByFailover {
			t.Errorf("%s, %s", guess.Backend.ID, guess.Why)
		}
		stays(t, r, parked, "b1", 1)
		guess.Release()
		stays(t, r, parked, "b1", 1)
	}
	first, second := unproved(t, r, user, "b1"), unproved(t, r, user, "b1")
	if !first.Confirm() || !second.Confirm() || !first.Confirm() {
		t.Error("the user isn't let in")
	}
	if !parked.voided() || parked.Hold() {
		t.Error("the user is on two backends")
	}
	stays(t, r, first, "b2", 2)
	stays(t, r, second, "b2", 2)
	parked.Release()
	second.Release()
	stays(t, r, first, "b2", 1)
}

// The backend is well again, and the user's parked session has come back there, while a login
// is proved by another.
func TestALoginElsewhereEndsNoSessionThatHasComeBack(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2", "b3"))
	user := userFor("b1", "b2", "b3")
	parked := unproved(t, r, user)
	_ = parked.Confirm() && parked.Rest()
	late := unproved(t, r, user, "b1")
	if !parked.Hold() || late.Confirm() {
		t.Error("the user is on two backends")
	}
	late.Release()
	stays(t, r, parked, "b1", 1)
}

// A backend hangs: sessions with a connection to it hold their user there for
// FailoverAfter, and no longer.
func TestALoginMovesItsUserFromABackendThatHangs(t *testing.T) {
	r, c := newTestRouter(t, Options{Storage: Shared, FailoverAfter: 30 * time.Second})
	r.Apply(parseFleet(t, "b1", "b2", "b3"))
	user := userFor("b1", "b2", "b3")
	stuck := unproved(t, r, user)
	_ = stuck.Confirm()
	r.ReportDialFailure("b1", errors.New("no answer"))
	if _, err := r.PickUnproved(t.Context(), 0, user, "", "b1"); !errors.Is(err, ErrBackendDown) {
		t.Error(err)
	}
	c.after(31 * time.Second)
	login := unproved(t, r, user, "b1")
	stays(t, r, stuck, "b1", 1)
	if !login.Confirm() || !stuck.voided() {
		t.Error("the user isn't moved")
	}
	stays(t, r, login, "b2", 1)
}

// The pin has ended, or is another, when a login aside it is proved.
func TestThePinHasChangedWhenALoginIsProved(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		r, _ := newTestRouter(t, Options{Storage: Shared})
		r.Apply(parseFleet(t, "b1", "b2", "b3"))
		user := userFor("b1", "b2", "b3")
		first := unproved(t, r, user)
		login := unproved(t, r, user, "b1")
		if !elsewhere {
			first.Release() // never proved: it leaves no pin
			if !login.Confirm() {
				t.Error("the user isn't let in")
			}
			stays(t, r, login, "b2", 1)
			continue
		}
		third := unproved(t, r, user, "b1", "b2")
		if !third.Confirm() || login.Confirm() || first.Confirm() {
			t.Error("the user is on two backends")
		}
		first.Release()
		login.Release()
		stays(t, r, third, "b3", 1)
	}
}

func TestUnprovedFailoversAtOnceAgree(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2", "b3"))
	user := userFor("b1", "b2", "b3")
	parked := unproved(t, r, user)
	_ = parked.Confirm() && parked.Rest()
	picks := make([]*Pick, 16)
	var logins sync.WaitGroup
	for i := range picks {
		logins.Go(func() {
			var tried []string
			for {
				p, err := r.PickUnproved(t.Context(), 0, user, "", tried...)
				switch {
				case err != nil:
					t.Error(err)
					return
				case p.Backend.ID == "b1":
					tried = append(tried, "b1")
				case p.Confirm():
					picks[i] = p
					return
				}
				p.Release()
			}
		})
	}
	logins.Wait()
	if slices.ContainsFunc(picks, func(p *Pick) bool { return p == nil || p.Backend.ID != "b2" || p.voided() }) || !parked.voided() {
		t.Errorf("the user is on more backends than one: %+v", picks)
	}
	parked.Release()
	stays(t, r, picks[0], "b2", len(picks))
}
