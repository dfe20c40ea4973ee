package routing

import (
	"time"
	"unicode/utf8"
)

// ReportDialFailure reports that a connection to the backend failed: no TCP connection, no
// TLS, no greeting, or BYE instead of a greeting. Don't report failures that one user's bytes
// or limits may have caused, a full backend, or a shortage of the proxy's own. Sessions'
// logins and probes (Trials) report failures. After a few in a row no user is sent to the
// backend, unless there is no other, until ReportDialSuccess.
func (r *Router) ReportDialFailure(id string, cause error) {
	tx := newWriteTxn(r.db)
	defer tx.abort()
	b := tx.backend(id)
	if b == nil || r.isPaused(id) {
		return
	}
	o := r.opts.Load()
	now := o.Now()
	h := healthRow{backend: id, first: now, trialAt: now}
	if old := tx.health(id); old != nil && now.Sub(old.last) < failureRun {
		h = *old
	}
	h.failures++
	h.last = now
	h.lastError = clip(cause)
	tx.putHealth(&h)
	tx.commit()
	switch h.failures {
	case 1:
		r.tel.Log.Warn("backend can't be reached; the proxy probes it", "backend", b.Name, "error", h.lastError)
	case suspectAfter:
		r.tel.Log.Error("backend can't be reached; users go elsewhere until a probe succeeds",
			"backend", b.Name, "failures", h.failures, "probed_every", o.DialRetry, "error", h.lastError)
	}
}

// ReportDialSuccess reports that a new connection to the backend, by a
// session's login or a probe, got a greeting. It ends a run of failures. Don't report an
// existing connection, such as one from the pool.
func (r *Router) ReportDialSuccess(id string) {
	if newReadTxn(r.db).health(id) == nil {
		return // almost always, and without a lock
	}
	tx := newWriteTxn(r.db)
	defer tx.abort()
	h := tx.health(id)
	if h == nil {
		return
	}
	name := tx.shown(id)
	tx.deleteHealth(h)
	tx.commit()
	r.tel.Log.Info("backend can be reached again", "backend", name, "failures", h.failures, "since", h.first)
}

// trialPause is the time between probes of a backend of which it isn't clear yet whether it can be reached.
const trialPause = time.Second

// Trials returns the backends for which a probe is due: those whose last connection
// failed, every DialRetry, and more often until their state is clear. Each returned
// backend counts as being probed. The prober reports the result.
func (r *Router) Trials() []*Backend {
	if len(newReadTxn(r.db).allHealth()) == 0 {
		return nil // almost always, and without a lock
	}
	tx := newWriteTxn(r.db)
	defer tx.abort()
	o := r.opts.Load()
	now := o.Now()
	var due []*Backend
	for id, h := range tx.allHealth() {
		b := tx.backend(id)
		if b == nil || b.gone || now.Before(h.trialAt) || r.isPaused(id) {
			continue
		}
		next := *h
		next.trialAt = now.Add(o.DialRetry)
		if h.failures < suspectAfter {
			next.trialAt = now.Add(min(trialPause, o.DialRetry))
		}
		tx.putHealth(&next)
		due = append(due, &b.Backend)
	}
	tx.commit()
	return due
}

// clip returns the error's text, bounded.
func clip(err error) string {
	if err == nil {
		return "no reason given"
	}
	s := err.Error()
	if len(s) <= maxErrorText {
		return s
	}
	cut := maxErrorText
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
