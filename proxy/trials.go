package proxy

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

const (
	// trialTimeout bounds a probe: a backend that doesn't greet in that time counts as failed.
	trialTimeout = 3 * time.Second
	// trialsEvery is how often the router is asked for due probes.
	trialsEvery = time.Second
	// trialsAtATime bounds concurrent probes; there is at most one per backend.
	trialsAtATime = 32
)

func newTrials(s *Server) *trials {
	return &trials{srv: s, news: make(chan struct{}, 1), suspects: map[string]struct{}{}}
}

// run makes due probes until ctx ends.
func (t *trials) run(ctx context.Context) {
	tick := time.NewTicker(trialsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.news:
		case <-tick.C:
		}
		var group errgroup.Group
		group.SetLimit(trialsAtATime)
		router := t.srv.set.Load().Router
		router.Settle()
		for _, b := range router.Trials() {
			group.Go(func() error { t.trial(ctx, b); return nil })
		}
		for _, b := range t.suspected() {
			group.Go(func() error {
				began := t.srv.now()
				if failed := t.trial(ctx, b); ctx.Err() == nil {
					t.srv.env.Stalls.Probed(b.ID, began, failed)
				}
				return nil
			})
		}
		_ = group.Wait()
	}
}

// suspect has backends probed soon.
func (t *trials) suspect(ids []string) {
	if len(ids) == 0 {
		return
	}
	t.mu.Lock()
	for _, id := range ids {
		t.suspects[id] = struct{}{}
	}
	t.mu.Unlock()
	t.soon()
}

// suspected takes the backends that suspect has named, as far as there are such backends.
func (t *trials) suspected() (all []*routing.Backend) {
	t.mu.Lock()
	ids := t.suspects
	t.suspects = map[string]struct{}{}
	t.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	for _, b := range t.srv.set.Load().Router.Backends() {
		if _, ok := ids[b.ID]; ok {
			all = append(all, &b.Backend)
		}
	}
	return all
}

// soon ends the wait of run.
func (t *trials) soon() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// trial probes one backend and reports the result. It returns whether the result is evidence against the
// backend.
func (t *trials) trial(ctx context.Context, b *routing.Backend) (failed bool) {
	set := t.srv.set.Load()
	target := set.sessions.TargetOf(b)
	err := t.Probe(ctx, target)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		set.Router.ReportDialSuccess(b.ID)
	case !set.Dialer.Room().Excuses(b.ID, err) && upstream.FaultOf(err) == upstream.FaultBackend:
		set.Router.ReportDialFailure(b.ID, err)
		return true
	}
	return false
}

// Failed implements Probes.
func (t *trials) Failed(id string, err error) {
	t.srv.set.Load().Router.ReportDialFailure(id, err)
	t.soon()
}

// Probe implements Probes: it reads a backend's greeting and capabilities.
func (t *trials) Probe(ctx context.Context, target upstream.Target) error {
	done := t.flight.DoChan(target.ID, func() (any, error) {
		within, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), trialTimeout, upstream.ErrTimeout)
		defer cancel()
		caps, err := t.srv.set.Load().Dialer.Probe(within, target)
		if err == nil {
			t.srv.env.Capabilities.Listed(target.ID, caps, t.srv.now())
		}
		if of := upstream.ShortageOf(err); of != "" {
			t.srv.tel.Shortage(of, telemetry.ShortageAtProbe, err)
		}
		return nil, err
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}
