package routing

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestABackendWhoseStateIsNotKnownYet(t *testing.T) {
	for name, script := range map[string]string{
		"others don't wait for it": `
			fleet b1 b2=pending b3=pending
			pick A u123 = b1 rendezvous
			pick B u213 = not-ready
			pick C u321 = not-ready
			fleet b1 b2 b3=pending
			pick B u213 = b2 rendezvous
			pick C u321 = not-ready
			fleet b1 b2 b3=down
			pick C u321 = b2 rendezvous
		`,
		"a placement waits": `
			fleet b1 b2=pending
			pick A u123 at b2 = not-ready
			fleet b1 b2
			pick A u123 at b2 = b2 placement
		`,
		"one that gets no users keeps nobody waiting": `
			fleet b1 b2=pending
			fleet b1 b2=up/0
			pick A u213 = b1 rendezvous
		`,
		"none is left once a better one is known to be down": `
			fleet b1=down b2=pending
			pick A u123 = not-ready
			fleet b1=down b2=down
			pick A u123 = no-backend
		`,
		"one that is known keeps its state when it is probed anew": `
			fleet b1 b2=down
			pick A u123 = b1 rendezvous
			confirm A = true
			fleet b1=pending b2=pending b3=pending
			state b1 = up
			state b2 = down
			void A = false
			pick B u123 = b1 pin
		`,
		"a list that replaces the old one whole is taken": `
			fleet b4 b5
			fleet b1=pending b2=pending
			state b4 = down  gone
			fleet b1 b2=pending
			pick A u213 = not-ready
			fleet b1 b2=down
			pick A u213 = b1 rendezvous
		`,
	} {
		t.Run(name, func(t *testing.T) {
			runScript(t, Options{Storage: Shared}, script)
		})
	}
	runScript(t, Options{Storage: Separate}, `
		fleet b1 b2=pending
		pick A u123 at b2 = not-ready
		pick B u123 at b1 = b1 placement
		pick C u123 at b9 = unknown-placement
	`)
}

func TestABackendThatIsNotKnownYetIsNeitherUpNorDownInTheGauge(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2=pending"))
	for _, s := range r.stats().Backends {
		if want := map[string]int64{"up": 1}[s.State]; s.Count != want {
			t.Errorf("%d backends are %s", s.Count, s.State)
		}
	}
}

// waitingPick is a PickWithin that has gone to wait.
func waitingPick(t *testing.T, r *Router, ctx context.Context, user string) <-chan error {
	t.Helper()
	got := make(chan error, 1)
	go func() {
		p, err := r.PickWithin(ctx, time.Hour, user, "")
		if err == nil && p.Backend.ID != "b2" {
			err = errors.New("sent to " + p.Backend.ID)
		}
		got <- err
	}()
	return got
}

func TestALoginWaitsForTheFirstAnswerAboutItsBackend(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	got := waitingPick(t, r, t.Context(), userFor("b2", "b1"))
	for _, fleet := range [][]string{{"b1", "b2=pending"}, {"b1=down", "b2=pending"}} {
		r.Apply(parseFleet(t, fleet...))
		select {
		case err := <-got:
			t.Fatalf("it was answered before its backend was known: %v", err)
		default:
		}
	}
	r.Apply(parseFleet(t, "b1", "b2"))
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

func TestALoginThatIsGivenUpStopsWaiting(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	ctx, cancel := context.WithCancel(t.Context())
	got := waitingPick(t, r, ctx, "ann")
	cancel()
	if err := <-got; !errors.Is(err, ErrNotReady) {
		t.Fatal(err)
	}
}

func TestALoginDoesNotWaitForEver(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	user := userFor("b2", "b1")
	if _, err := r.PickWithin(t.Context(), time.Millisecond, user, ""); !errors.Is(err, ErrNotReady) {
		t.Fatalf("nothing is known: %v", err)
	}
	r.Apply(parseFleet(t, "b1", "b2=pending"))
	if p, err := r.PickWithin(t.Context(), time.Millisecond, user, ""); err != nil || p.Backend.ID != "b1" {
		t.Fatalf("b2 doesn't answer, b1 is up: %v", err)
	}
}

func TestThePanicLogSaysTheFiguresThatItWasJudgedBy(t *testing.T) {
	r, log := newLoggedRouter(t)
	r.Apply(parseFleet(t, "b1", "b2", "b3", "b4"))
	r.Apply(parseFleet(t, "b1=down", "b2=down", "b3", "b4"))
	log.Reset()
	r.Apply(parseFleet(t, "b1=down", "b2=down", "b3=down", "b4"))
	if want := "took away 3 of 4 backends (1 in this answer, 2 in the last 1m0s), more than panic_threshold (50%)"; !strings.Contains(log.String(), want) {
		t.Errorf("the log doesn't say %q:\n%s", want, log)
	}
}

func TestAShareThatIsNotExactInBinaryIsStillNotBeyondItself(t *testing.T) {
	for _, c := range []struct {
		lost, base int
		threshold  float64
		want       bool
	}{{29, 50, 0.58, false}, {30, 50, 0.58, true}, {7, 10, 0.7, false}, {1, 2, 0.5, false}, {2, 2, 0.99, true}, {5, 5, 1, false}} {
		if got := beyond(c.lost, c.base, c.threshold); got != c.want {
			t.Errorf("%d of %d is beyond %v: %v", c.lost, c.base, c.threshold, got)
		}
	}
}
