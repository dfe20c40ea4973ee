package proxy

import (
	"context"
	"slices"
)

// proveSharing finds out at the start, after a reload, and when a backend has come or returned, whether backends may share mailboxes.
func (s *Server) proveSharing(ctx context.Context) {
	var known []string // the backends that served at the last round
	again := true
	for {
		serving, changed := s.set.Load().Router.Serving()
		var now []string
		for _, b := range serving {
			now = append(now, b.ID+" "+b.Lost.String())
		}
		if len(serving) > 0 && (again || !slices.Equal(now, known)) {
			known, again = now, false
			s.set.Load().sessions.ProveSharing(ctx, s.tel.Log)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.proves:
			again = true
		case <-changed:
		}
	}
}

// proveSoon has proveSharing look again.
func (s *Server) proveSoon() {
	select {
	case s.proves <- struct{}{}:
	default: // a round is pending already
	}
}
