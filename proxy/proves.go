package proxy

import (
	"context"
	"slices"
	"time"

	"imapproxy/routing"
)

// proveSharing finds out at the start, after a reload, and when a backend has come or returned, whether backends may share mailboxes. A paused
// backend is asked after its pause.
func (s *Server) proveSharing(ctx context.Context) {
	var known, paused []string // the backends that served at the last round, and those that were paused then
	again := true
	for {
		router := s.set.Load().Router
		serving, changed := router.Serving()
		var now []string
		for _, b := range serving {
			now = append(now, b.ID+" "+b.Lost.String())
		}
		if len(serving) > 0 && (again || !slices.Equal(now, known)) {
			known, again = now, false
			paused = s.set.Load().sessions.ProveSharing(ctx, s.tel.Log)
		}
		left, resumed := firstResumed(router, paused)
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.proves:
			again = true
		case <-timer.C:
			again, paused = again || len(paused) > 0, nil
		case <-changed:
		case <-resumed:
		}
		timer.Stop()
	}
}

// firstResumed returns how long the pause of the first of some backends lasts still, at most an hour, and a channel that closes when that may have
// changed; nil: it can't.
func firstResumed(router *routing.Router, paused []string) (left time.Duration, changed <-chan struct{}) {
	left = time.Hour
	for _, id := range paused {
		lasts, change, _ := router.Paused(id)
		left, changed = min(left, lasts+time.Millisecond), change // 1 ms if it has ended
	}
	return left, changed
}

// proveSoon has proveSharing look again.
func (s *Server) proveSoon() {
	select {
	case s.proves <- struct{}{}:
	default: // a round is pending already
	}
}
