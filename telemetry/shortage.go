package telemetry

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// shortageEvery is the time between two log lines about a lasting shortage.
const shortageEvery = time.Minute

// The places of a shortage, which are the values of Shortage.At.
const (
	ShortageAtAccept   = "accept"
	ShortageAtDial     = "dial"
	ShortageAtProbe    = "probe"
	ShortageAtHandover = "handover"
)

// Shortage records that the proxy couldn't accept or make a connection for lack of
// a resource of its own. It is counted each time, and logged at most once a minute.
func (t *Telemetry) Shortage(of, at string, err error) {
	if t.metrics != nil {
		t.metrics.shortages.Add(context.Background(), 1, with(label("of", of), label("at", at)))
	}
	now := t.now()
	t.scarce.mu.Lock()
	if t.scarce.all == nil {
		t.scarce.all = map[[2]string]*shortage{}
	}
	s := t.scarce.all[[2]string{of, at}]
	if s == nil {
		s = &shortage{Shortage: Shortage{Of: of, At: at}}
		t.scarce.all[[2]string{of, at}] = s
	}
	s.Count++
	s.Last, s.Error = now, err.Error()
	log := s.logged.IsZero() || now.Sub(s.logged) >= shortageEvery
	unlogged := s.quiet
	if s.quiet++; log {
		s.logged, s.quiet = now, 0
	}
	t.scarce.mu.Unlock()
	if log {
		t.Log.Error("the proxy itself is short of a resource; no backend is to blame", "of", of, "at", at,
			"error", err, "not_logged", unlogged)
	}
}

// Shortages returns the resources that the proxy has run out of since the start, the latest first.
func (t *Telemetry) Shortages() []Shortage {
	t.scarce.mu.Lock()
	defer t.scarce.mu.Unlock()
	var all []Shortage
	for _, s := range t.scarce.all {
		all = append(all, s.Shortage)
	}
	slices.SortFunc(all, func(a, b Shortage) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Of+a.At, b.Of+b.At))
	})
	return all
}
