package routing

import "time"

// maxEvents bounds the log lines about one answer; further events are counted.
const maxEvents = 20

// Apply takes a source's whole set of backends, computes what changed, stores it, and logs the difference. An
// empty set, or one without usable backends, is ignored if the router has a better one: an agent that
// restarted has forgotten all services, and its answer is valid and empty. A set that removes too many
// backends at once is applied in part (PanicThreshold).
//
// A saved set (Snapshot.Saved) is applied only while no set is known. The first live answer after it is
// applied whole: the contents of a file must not restrict it.
//
// Apply reports whether the set was applied whole, which makes it the last good set.
func (r *Router) Apply(s Snapshot) (whole bool) { return r.apply(s, true) }

// apply is Apply. fresh: the answer is new; otherwise the last one is judged again, with other settings or at
// a later time.
func (r *Router) apply(s Snapshot, fresh bool) (whole bool) {
	incoming, bad := s.cleaned()
	for i, sentence := range bad {
		if i == maxEvents {
			break
		}
		r.tel.Log.Error("discovery lists a backend that can't be used", "source", s.Source, "problem", sentence)
	}
	if fresh && len(incoming) == 0 {
		r.refuseEmpty(s)
		return false
	}
	tx := newWriteTxn(r.db)
	defer tx.abort()
	r.mu.Lock()
	known, onSaved := !r.mu.learned.IsZero(), r.mu.saved
	if !fresh { // only now: an answer that arrives meanwhile waits for this transaction
		s = r.mu.last
	}
	r.mu.Unlock()
	if fresh && known && !s.Saved.IsZero() {
		return false
	}
	if !fresh {
		incoming, _ = s.cleaned()
	}
	o := r.opts.Load()
	now := o.Now()
	r.sweep(tx, o, now, sweepStep)
	var old []*backendRow
	tx.backends(func(b *backendRow) bool { old = append(old, b); return true })
	incoming = r.keepPaused(incoming, old, o, now)
	p := r.plan(old, incoming, o, now, fresh && onSaved)
	for _, row := range p.put {
		tx.putBackend(row)
		if was := tx.health(row.ID); was != nil && row.State == Up && !row.kept {
			tx.deleteHealth(was) // its state changed: let the next session try it
		}
	}
	changed := len(p.put) > 0
	for _, row := range r.forgettable(tx, now, o.PanicWindow) {
		tx.deleteBackend(row)
		if h := tx.health(row.ID); h != nil {
			tx.deleteHealth(h)
		}
	}
	r.mu.Lock()
	r.mu.last, r.mu.settle = s, p.settle
	r.mu.Unlock()
	tx.commit()

	r.mu.Lock()
	if fresh && p.kept == 0 || r.mu.learned.IsZero() {
		r.mu.learned, r.mu.saved = now, false
	}
	if !s.Saved.IsZero() {
		r.mu.learned, r.mu.saved = s.Saved, true
	}
	close(r.mu.news)
	r.mu.news = make(chan struct{})
	r.mu.Unlock()
	if fresh && !s.Saved.IsZero() {
		r.tel.Log.Warn("discovery doesn't answer: using the last good set, which was saved on disk", "source", s.Source,
			"age", now.Sub(s.Saved).Round(time.Second), "backends", len(incoming))
		r.tel.Discovery(s.Source, "saved")
	}
	r.report(s, p, o, changed)
	return p.kept == 0
}

// plan is planApply. afterSaved: the answer is the first live one after a saved set, so no loss counts for
// the panic threshold. With an Agreement, the proxies have applied the threshold to the fleet before.
func (r *Router) plan(old []*backendRow, incoming []Backend, o *Options, now time.Time, afterSaved bool) plan {
	if !afterSaved && o.Agreement == nil {
		return planApply(old, incoming, o, now)
	}
	all := *o
	all.PanicThreshold = 1
	p := planApply(old, incoming, &all, now)
	for _, row := range p.put { // not stored yet
		row.lostAt = time.Time{}
	}
	return p
}

// forgettable returns the rows of backends that no source lists, no user is pinned to, and that weren't lost
// lately.
func (r *Router) forgettable(tx writeTxn, now time.Time, window time.Duration) []*backendRow {
	var rows []*backendRow
	tx.backends(func(b *backendRow) bool {
		if b.gone && !b.lostWithin(window, now) && !tx.pinnedTo(b.ID) {
			rows = append(rows, b)
		}
		return true
	})
	return rows
}

// refuseEmpty logs that an empty answer was ignored.
func (r *Router) refuseEmpty(s Snapshot) {
	r.mu.Lock()
	learned := r.mu.learned
	r.mu.Unlock()
	r.tel.Discovery(s.Source, "kept")
	if learned.IsZero() {
		r.tel.Log.Warn("discovery lists no backends yet", "source", s.Source)
		return
	}
	r.tel.Log.Warn("discovery lists no backends: keeping the last good set", "source", s.Source,
		"age", r.opts.Load().Now().Sub(learned).Round(time.Second))
}

// report logs and counts the effects of an answer. No lock is held.
func (r *Router) report(s Snapshot, p plan, o *Options, changed bool) {
	log, source := r.tel.Log, s.Source
	for _, name := range p.flaps {
		r.tel.Flap(name)
	}
	outcome := "unchanged"
	switch {
	case p.kept > 0:
		outcome = "kept"
	case changed:
		outcome = "applied"
	}
	if s.Saved.IsZero() {
		r.tel.Discovery(source, outcome)
	}
	if p.kept > 0 && changed {
		log.Error("discovery took away many backends at once: they are kept as they were", "source", source, "discovery", p.summary(o))
	}
	for i, e := range p.events {
		if i == maxEvents {
			log.Info("more changes of backends, not listed", "source", source, "count", len(p.events)-i)
			return
		}
		b := e.backend
		log.Info(e.what, "source", source, "backend", b.Name, "id", b.ID, "address", b.Address, "state", b.State,
			"was", e.was, "weight", b.Weight, "reason", b.Reason)
	}
}

// Settle gives new users again to backends that got none because they flapped, and that have been usable for
// long enough, and lets discovery's state count again for those that were paused. The router has no timers: call Settle about every second.
func (r *Router) Settle() {
	now := r.opts.Load().Now()
	r.mu.Lock()
	due := !r.mu.settle.IsZero() && !now.Before(r.mu.settle)
	r.mu.Unlock()
	if r.settledPauses(now) || due {
		r.apply(Snapshot{}, false)
	}
}
