package fair

import "testing"

func TestKnownKeysGoFirstWhereTheyAreTo(t *testing.T) {
	q := NewQueue[string](Options{Slots: 1, KnownFirst: true})
	ctx := t.Context()
	if err := q.Acquire(ctx, "holder"); err != nil {
		t.Fatal(err)
	}
	waits := map[string]<-chan error{}
	for _, key := range []string{"a", "b"} {
		waits[key] = enqueue(t, q, key, ctx)
	}
	for _, key := range []string{"urgent", "more urgent"} {
		done := make(chan error, 1)
		_, before := q.Stats()
		go func() { done <- q.AcquireAs(ctx, key, true) }() // ends with its turn
		for n := before; n == before; {
			_, n = q.Stats()
		}
		waits[key] = done
	}
	holder := "holder"
	for _, next := range []string{"urgent", "more urgent", "a", "b"} {
		q.Release(holder)
		if err := <-waits[next]; err != nil {
			t.Fatal(err)
		}
		holder = next
	}
	q.Release(holder)
}

// queued starts a caller that waits, and returns when it does.
func queued(t *testing.T, q *Queue[string], key string, known bool) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	_, before := q.Stats()
	go func() { done <- q.AcquireAs(t.Context(), key, known) }() // ends with its turn
	for n := before; n == before; {
		_, n = q.Stats()
	}
	return done
}

// However many known callers come, the others get a slot now and then.
func TestOthersArentStarvedByKnownKeys(t *testing.T) {
	q := NewQueue[string](Options{Slots: 1, KnownFirst: true})
	if err := q.Acquire(t.Context(), "holder"); err != nil {
		t.Fatal(err)
	}
	other := queued(t, q, "other", false)
	holder := "holder"
	for n := 0; ; n++ {
		next := queued(t, q, "urgent", true)
		q.Release(holder)
		select {
		case err := <-next:
			if err != nil || n == knownTurns {
				t.Fatalf("%d known callers, and the other waits: %v", n+1, err)
			}
			holder = "urgent"
			continue
		case err := <-other:
			if err != nil || n < knownTurns {
				t.Errorf("it comes behind %d known callers: %v", n, err)
			}
			q.Release("other")
			<-next
			q.Release("urgent")
		}
		return
	}
}

// A caller that isn't known takes nothing from a known one of the same key.
func TestAKnownCallerGoesBeforeTheOthersOfItsKey(t *testing.T) {
	q := NewQueue[string](Options{Slots: 1, KnownFirst: true})
	if err := q.Acquire(t.Context(), "holder"); err != nil {
		t.Fatal(err)
	}
	all := []struct {
		key   string
		known bool
		wait  <-chan error
	}{{key: "b"}, {key: "a"}, {key: "a", known: true}, {key: "a"}, {key: "c", known: true}}
	for i := range all {
		all[i].wait = queued(t, q, all[i].key, all[i].known)
	}
	holder := "holder"
	for _, next := range []int{2, 4, 0, 1, 3} {
		q.Release(holder)
		if err := <-all[next].wait; err != nil {
			t.Fatal(err)
		}
		holder = all[next].key
	}
	q.Release(holder)
	if len(q.keys) != 0 {
		t.Errorf("%d keys are remembered", len(q.keys))
	}
}
