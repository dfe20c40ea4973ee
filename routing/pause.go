package routing

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// SetPauses replaces all pauses. Those whose Until has passed still keep discovery's answer from counting.
func (r *Router) SetPauses(all []Pause) {
	of := make(map[string]Pause, len(all))
	for _, p := range all {
		of[p.Backend] = p
	}
	r.changePauses(func(map[string]Pause) map[string]Pause { return of })
}

// Pause pauses a backend; it replaces a pause that the backend has already.
func (r *Router) Pause(p Pause) {
	r.changePauses(func(of map[string]Pause) map[string]Pause { of[p.Backend] = p; return of })
}

// Resume ends a backend's pause now. It returns false if the backend isn't paused.
func (r *Router) Resume(id string) (was bool) {
	now := r.opts.Load().Now()
	r.changePauses(func(of map[string]Pause) map[string]Pause {
		p, ok := of[id]
		if was = ok && now.Before(p.Until); was {
			p.Until = now
			of[id] = p
		}
		return of
	})
	return was
}

// changePauses stores what change makes of a copy of the pauses, and forgets dials that failed at backends
// that are newly paused. It wakes all that wait for the end of a pause.
func (r *Router) changePauses(change func(map[string]Pause) map[string]Pause) {
	tx := newWriteTxn(r.db) // one change at a time
	defer tx.abort()
	old := r.pauses.Load()
	of := map[string]Pause{}
	if old != nil {
		of = maps.Clone(old.of)
	}
	of = change(of)
	if old != nil && maps.Equal(of, old.of) || old == nil && len(of) == 0 {
		return
	}
	for id := range of {
		if h := tx.health(id); h != nil && (old == nil || of[id].Since != old.of[id].Since) {
			tx.deleteHealth(h)
		}
	}
	r.pauses.Store(&pauses{of: of, changed: make(chan struct{})})
	tx.commit()
	if old != nil {
		close(old.changed)
	}
}

// Pauses returns the backends that are paused now, by ID.
func (r *Router) Pauses() (all []Pause) {
	now := r.opts.Load().Now()
	if held := r.pauses.Load(); held != nil {
		for _, p := range held.of {
			if now.Before(p.Until) {
				all = append(all, p)
			}
		}
	}
	slices.SortFunc(all, func(a, b Pause) int { return strings.Compare(a.Backend, b.Backend) })
	return all
}

// Paused says whether a backend is paused now: for how long still, at most, and a channel that closes when
// that may have changed.
func (r *Router) Paused(id string) (left time.Duration, changed <-chan struct{}, paused bool) {
	held := r.pauses.Load()
	if held == nil {
		return 0, nil, false
	}
	left = held.of[id].Until.Sub(r.opts.Load().Now())
	return max(left, 0), held.changed, left > 0
}

// Resumed waits until a backend isn't paused, or for so long. It returns false if the backend is still paused
// then, or ctx has ended.
func (r *Router) Resumed(ctx context.Context, id string, limit time.Duration) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		left, changed, paused := r.Paused(id)
		if !paused {
			return true
		}
		timer := time.NewTimer(left + time.Millisecond)
		select {
		case <-changed:
		case <-timer.C:
		case <-end.C:
			timer.Stop()
			_, _, paused = r.Paused(id)
			return !paused
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// isPaused is Paused for code that doesn't wait.
func (r *Router) isPaused(id string) bool {
	_, _, paused := r.Paused(id)
	return paused
}

// keepPaused returns discovery's answer with the backends that are paused, or were until a moment ago, as they
// were, if they took users. With an Agreement the fleet has kept them already.
func (r *Router) keepPaused(incoming []Backend, old []*backendRow, o *Options, now time.Time) []Backend {
	held := r.pauses.Load()
	if held == nil || o.Agreement != nil {
		return incoming
	}
	for _, row := range old {
		if p, ok := held.of[row.ID]; !ok || row.gone || row.State != Up || !now.Before(p.Until.Add(PauseSettles)) {
			continue
		}
		i := slices.IndexFunc(incoming, func(b Backend) bool { return b.ID == row.ID })
		if i < 0 {
			incoming = append(incoming, row.Backend)
			i = len(incoming) - 1
			incoming[i].State = Down
		}
		if b := &incoming[i]; b.State != Up {
			b.State, b.Reason, b.Weight, b.Pending = Up, PausedReason, row.Weight, false
		}
	}
	return incoming
}

// settledPauses forgets pauses that ended PauseSettles ago, and reports whether there were any. Where the
// proxies agree, their next fleet does that.
func (r *Router) settledPauses(now time.Time) (any bool) {
	held, o := r.pauses.Load(), r.opts.Load()
	if held == nil || o.Agreement != nil {
		return false
	}
	over := func(_ string, p Pause) bool { return !now.Before(p.Until.Add(PauseSettles)) }
	for id, p := range held.of {
		any = any || over(id, p)
	}
	if any {
		r.changePauses(func(of map[string]Pause) map[string]Pause { maps.DeleteFunc(of, over); return of })
	}
	return any
}
