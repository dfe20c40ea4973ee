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
