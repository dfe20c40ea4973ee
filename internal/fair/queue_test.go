package fair

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
)

// enqueue starts a caller that waits, and returns when it does.
func enqueue(t *testing.T, q *Queue[string], key string, ctx context.Context) <-chan error {
	t.Helper()
	_, before := q.Stats()
	done := make(chan error, 1)
	go func() { done <- q.Acquire(ctx, key) }()
	for {
		if _, n := q.Stats(); n > before {
			return done
		}
		select {
		case err := <-done:
			t.Fatalf("Acquire(%s) didn't wait: %v", key, err)
		default:
		}
	}
}

func TestKeysTakeTurnsAndOneKeyKeepsItsOrder(t *testing.T) {
	q := NewQueue[string](Options{Slots: 1})
	ctx := t.Context()
	if err := q.Acquire(ctx, "busy"); err != nil {
		t.Fatal(err)
	}
	var waits []<-chan error
	for _, key := range []string{"busy", "busy", "busy", "quiet", "other"} {
		waits = append(waits, enqueue(t, q, key, ctx))
	}
	keys := []string{"busy", "quiet", "other", "busy", "busy"}
	holder := "busy"
	for i, next := range []int{0, 3, 4, 1, 2} {
		q.Release(holder)
		if err := <-waits[next]; err != nil {
			t.Fatal(err)
		}
		holder = keys[i]
	}
	q.Release(holder)
	if held, waiting := q.Stats(); held != 0 || waiting != 0 || len(q.keys) != 0 {
		t.Fatalf("held %d, waiting %d, keys %d after all have gone", held, waiting, len(q.keys))
	}
}

func TestOneKeyHoldsNoMoreThanItsShare(t *testing.T) {
	q := NewQueue[string](Options{Slots: 3, PerKey: 2, Waiting: 1})
	ctx := t.Context()
	for range 2 {
		if err := q.Acquire(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	third := enqueue(t, q, "a", ctx)
	if err := q.Acquire(ctx, "a"); !errors.Is(err, ErrFull) {
		t.Fatalf("a second caller may wait: %v", err)
	}
	if err := q.Acquire(ctx, "b"); err != nil { // the third slot is free for others
		t.Fatal(err)
	}
	q.Release("b")
	select {
	case <-third:
		t.Fatal("a third slot for a")
	default:
	}
	q.Release("a")
	if err := <-third; err != nil {
		t.Fatal(err)
	}
}

func TestWhoGivesUpLeavesNothingBehind(t *testing.T) {
	q := NewQueue[string](Options{Slots: 1})
	if err := q.Acquire(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := enqueue(t, q, "b", ctx)
	stays := enqueue(t, q, "c", t.Context())
	cancel(cause)
	if err := <-gone; err != cause {
		t.Fatal(err)
	}
	q.Release("a")
	if err := <-stays; err != nil {
		t.Fatal(err)
	}
	if q.TryAcquire("d") {
		t.Fatal("a second slot")
	}
	q.Release("c")
	if !q.TryAcquire("d") {
		t.Fatal("no slot, though none is held")
	}
	q.Release("d")
	if len(q.keys) != 0 {
		t.Fatalf("%d keys remembered", len(q.keys))
	}
}

func TestMoreSlotsServeThoseWhoWait(t *testing.T) {
	q := NewQueue[string](Options{Slots: 1, PerKey: 1})
	if err := q.Acquire(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	again, other := enqueue(t, q, "a", t.Context()), enqueue(t, q, "b", t.Context())
	q.SetOptions(Options{Slots: 3})
	for _, w := range []<-chan error{again, other} {
		if err := <-w; err != nil {
			t.Fatal(err)
		}
	}
}

func TestNeverMoreThanTheBoundsUnderLoad(t *testing.T) {
	const slots, perKey = 4, 2
	q := NewQueue[int](Options{Slots: slots, PerKey: perKey, Waiting: 8})
	var held atomic.Int64
	var byKey [5]atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 200 {
				key := r.IntN(len(byKey))
				ctx, cancel := context.WithCancel(context.Background())
				if r.IntN(3) == 0 {
					go cancel()
				}
				if q.AcquireAs(ctx, key, r.IntN(2) == 0) == nil {
					if held.Add(1) > slots || byKey[key].Add(1) > perKey {
						t.Error("over the bounds")
					}
					held.Add(-1)
					byKey[key].Add(-1)
					q.Release(key)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if h, w := q.Stats(); h != 0 || w != 0 || len(q.keys) != 0 || q.turns[0].Len()+q.turns[1].Len() != 0 {
		t.Fatalf("held %d, waiting %d, keys %d, turns %d", h, w, len(q.keys), q.turns[0].Len()+q.turns[1].Len())
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24", "2001:db8:1:2ff::1": "2001:db8:1:200::/56", "fe80::1%eth0": "fe80::/56",
	} {
		if got := Network(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("Network(%s) = %s, want %s", in, got, want)
		}
	}
	if Network(netip.Addr{}).IsValid() {
		t.Error("an invalid address has a network")
	}
}
