package proxy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/routing"
)

// Other programs are sent to the backend of the user's sessions, and a user without sessions to the one to which a login would
// go.
func TestARouteGoesWhereTheUserIs(t *testing.T) {
	l := newLab(t, labOptions{rows: []routing.Backend{{ID: "b1", Address: "192.0.2.1:143", Weight: 100}, {ID: "b2", Address: "192.0.2.2:143", Weight: 100}},
		change: func(o *Options) { o.Names = auth.Names{Lowercase: true, DefaultDomain: "example.org"} }})
	seen := map[string]int{}
	for i := range 20 {
		name := fmt.Sprintf("User%d", i)
		r, err := l.srv.Route(t.Context(), name)
		must(t, err)
		want, _, err := l.router.Where(fmt.Sprintf("user%d@example.org", i), "")
		must(t, err)
		if r.Backend.ID != want.ID || r.User != fmt.Sprintf("user%d@example.org", i) || r.For != DefaultRouteFor {
			t.Errorf("%s: %+v, a login would go to %s", name, r, want.ID)
		}
		seen[r.Backend.ID]++
	}
	if len(seen) != 2 {
		t.Errorf("all are at one backend: %v", seen)
	}
	for _, name := range []string{"", "a\x00b", "@example.org"} {
		if _, err := l.srv.Route(t.Context(), name); !errors.Is(err, auth.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// With separate storage the placement decides, and without one there is no answer.
func TestARouteFollowsThePlacement(t *testing.T) {
	l := newLab(t, labOptions{storage: routing.Separate, rows: []routing.Backend{{ID: "b1", Address: "192.0.2.1:143"}, {ID: "b2", Address: "192.0.2.2:143"}},
		change: func(o *Options) {
			o.Placement = func(_ context.Context, user string) (string, bool, error) {
				switch user {
				case "alice":
					return "b2", true, nil
				case "bob":
					return "", false, errors.New("Consul doesn't answer")
				}
				return "", false, nil
			}
		}})
	if r, err := l.srv.Route(t.Context(), "alice"); err != nil || r.Backend.ID != "b2" || r.Why != routing.ByPlacement {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := l.srv.Route(t.Context(), "bob"); err == nil || err.Error() != "Consul doesn't answer" {
		t.Errorf("%v", err)
	}
	if _, err := l.srv.Route(t.Context(), "carol"); !errors.Is(err, routing.ErrNoPlacement) {
		t.Errorf("%v", err)
	}
	if l.srv.routes.places != 1 {
		t.Errorf("%d places are taken, want alice's alone", l.srv.routes.places)
	}
}

// While an answer holds the user isn't sent elsewhere; asking again doesn't keep the user from leaving. A lookup that comes during the move waits for
// its end, and is sent to the new backend.
func TestAMoveWaitsForTheEndOfARoute(t *testing.T) {
	l := newMoveLab(t, "push", func(o *Options) { o.RouteFor = 300 * time.Millisecond })
	first, err := l.srv.Route(t.Context(), "alice")
	must(t, err)
	again, err := l.srv.Route(t.Context(), "alice")
	must(t, err)
	if _, _, conns := l.agreement.At("alice"); first.Backend.ID != "b1" || again.Backend.ID != "b1" || conns != 1 {
		t.Errorf("%+v %+v, held %d times", first, again, conns)
	}
	l.agreement.Move("alice", "b2")
	if at, moving, _ := l.agreement.At("alice"); at != "b1" || !moving {
		t.Errorf("alice is at %s before the answer's end", at)
	}
	for {
		r, err := l.srv.Route(t.Context(), "alice")
		must(t, err)
		if r.Backend.ID == "b2" {
			break
		}
	}
	if at, _, _ := l.agreement.At("alice"); at != "b2" {
		t.Errorf("alice is at %s", at)
	}
	l.arrived("alice", "b2")
	eventually(t, "no hold", func() bool { _, _, conns := l.agreement.At("alice"); return conns == 0 })
}

// A user whom an answer has held has no pin afterwards: lookups of addresses that no user has leave nothing.
func TestARouteLeavesNothing(t *testing.T) {
	l := newLab(t, labOptions{rows: []routing.Backend{{ID: "b1", Address: "192.0.2.1:143", Weight: 100}}, change: func(o *Options) { o.RouteFor = time.Millisecond }})
	for i := range 100 {
		if _, err := l.srv.Route(t.Context(), fmt.Sprintf("user%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "no pins", func() bool { return len(l.router.Pins("")) == 0 })
	l.srv.routes.mu.Lock()
	defer l.srv.routes.mu.Unlock()
	if l.srv.routes.places != 0 || len(l.srv.routes.held) != 0 {
		t.Errorf("%d places, %d held", l.srv.routes.places, len(l.srv.routes.held))
	}
}

// However many addresses are asked for, few users are held at a time; those that are held are answered.
func TestRoutesAreBounded(t *testing.T) {
	l := newLab(t, labOptions{rows: []routing.Backend{{ID: "b1", Address: "192.0.2.1:143", Weight: 100}}, change: func(o *Options) { o.RouteFor = time.Hour }})
	for i := range maxRoutes {
		_, err := l.srv.Route(t.Context(), fmt.Sprintf("user%d", i))
		must(t, err)
	}
	if _, err := l.srv.Route(t.Context(), "one more"); err == nil {
		t.Error("a name with a space is taken")
	}
	if _, err := l.srv.Route(t.Context(), "onemore"); !errors.Is(err, ErrManyRoutes) {
		t.Errorf("%v", err)
	}
	if _, err := l.srv.Route(t.Context(), "user0"); err != nil {
		t.Errorf("%v", err)
	}
}
