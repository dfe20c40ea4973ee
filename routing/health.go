package routing

import "unicode/utf8"

// ReportDialFailure says that a session couldn't reach the backend: no
// connection, no TLS, no greeting, a BYE instead of a login. Not for wrong
// credentials or what else is one user's own. After a few in a row new users
// are sent elsewhere for DialRetry at a time, then one session tries again.
func (r *Router) ReportDialFailure(id string, cause error) {
	tx := newWriteTxn(r.db)
	defer tx.abort()
	if tx.backend(id) == nil {
		return
	}
	o := r.opts.Load()
	now := o.Now()
	h := healthRow{backend: id, first: now}
	if old := tx.health(id); old != nil && now.Sub(old.last) < failureRun {
		h = *old
	}
	h.failures++
	h.last = now
	h.retryAt = now.Add(o.DialRetry)
	h.lastError = clip(cause)
	tx.putHealth(&h)
	tx.commit()
	switch h.failures {
	case 1:
		r.tel.Log.Warn("backend refused a session", "backend", id, "error", h.lastError)
	case suspectAfter:
		r.tel.Log.Error("backend keeps refusing; new users go elsewhere, one session at a time tries it",
			"backend", id, "failures", h.failures, "retry", o.DialRetry, "error", h.lastError)
	}
}

// ReportDialSuccess says that a session reached the backend, which ends a run
// of failures. Confirm says the same.
func (r *Router) ReportDialSuccess(id string) {
	if newReadTxn(r.db).health(id) == nil {
		return // nearly always, and it costs no lock
	}
	tx := newWriteTxn(r.db)
	defer tx.abort()
	h := tx.health(id)
	if h == nil {
		return
	}
	tx.deleteHealth(h)
	tx.commit()
	r.tel.Log.Info("backend accepts sessions again", "backend", id, "failures", h.failures, "since", h.first)
}

// clip is the error's text, bounded.
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
