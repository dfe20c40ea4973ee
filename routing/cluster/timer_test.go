package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"imapproxy/routing"
	"imapproxy/routing/agree"
)

// hanging is a Consul of one proxy, which does all that it is asked for, and then answers nothing any more.
type hanging struct {
	mu      sync.Mutex
	index   uint64
	pairs   map[string]agree.Pair
	decoder agree.Decoder
	hangs   bool
}

// do answers a request; false: there is no answer.
func (h *hanging) do(op agree.Op) (r agree.Result, answered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Sent = time.Now()
	switch op.Kind {
	case agree.CreateSession:
		r.Session = "session"
	case agree.Write:
		h.index++
		for _, o := range op.Txn {
			if o.Verb == agree.Lock || o.Verb == agree.CAS {
				h.pairs[o.Key] = agree.Pair{Key: o.Key, Value: o.Value, ModifyIndex: h.index, Session: o.Session}
			}
		}
		r.Index = h.index
	case agree.Read:
		var pairs []agree.Pair
		for _, key := range slices.Sorted(maps.Keys(h.pairs)) {
			pairs = append(pairs, h.pairs[key])
		}
		r.Reading = h.decoder.Reading(h.index, true, pairs)
	}
	return r, !h.hangs
}

// No client sends a command and no request to Consul is answered: with isolated = "hold" the timer alone has all
// connections closed at the deadline. Without the timer they are open when the session's TTL is over.
func TestTheTimerClosesAllConnections(t *testing.T) {
	for name, timer := range map[string]bool{"with the timer": true, "without": false} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { closedByTimer(t, timer) }) })
	}
}

func closedByTimer(t *testing.T, timer bool) {
	closed := make(chan agree.Effect, 10)
	c, err := New(Options{
		Service: "imapproxy", Switched: func(*agree.Fleet) {}, LetGo: func(e agree.Effect) { closed <- e },
		Member: agree.Options{ID: "a", Storage: routing.Shared, Users: "lower", Isolated: agree.Hold},
	})
	if err != nil {
		t.Fatal(err)
	}
	consul := &hanging{index: 1, pairs: make(map[string]agree.Pair)}
	ctx, cancel := context.WithCancel(t.Context())
	keeps, stopTimer := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer stopTimer()
	c.start = func(op agree.Op) {
		running.Go(func() {
			if r, answered := consul.do(op); answered {
				c.with(func(m *agree.Member, now time.Time) { m.Done(op.ID, r, now) })
			}
		})
	}
	running.Go(func() { c.keepTime(keeps) })
	running.Go(func() { c.act(ctx) })
	c.Discover(1, true, backends(routing.Up))
	if _, err := c.Claim(ctx, time.Minute, "ann", ""); err != nil {
		t.Fatal(err)
	}
	consul.mu.Lock()
	consul.hangs = true
	consul.mu.Unlock()
	if !timer {
		stopTimer()
	}
	time.Sleep(c.untilDeadline() - time.Millisecond)
	synctest.Wait()
	if len(closed) > 0 {
		t.Fatalf("before the deadline: %+v", <-closed)
	}
	wait := 2 * time.Millisecond
	if !timer {
		wait = time.Minute // the TTL is over
	}
	time.Sleep(wait)
	synctest.Wait()
	if all := len(closed) > 0 && (<-closed).Kind == agree.CloseAll; all != timer {
		t.Errorf("all are closed: %v", all)
	}
}
