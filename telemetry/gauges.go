package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/metric"
)

// SetSessionGauge registers the source of the sessions' gauge. It replaces the previous source. f is called
// at each scrape and each push, possibly concurrently, and must return quickly.
func (t *Telemetry) SetSessionGauge(f func() []AttachmentCount) {
	if t.metrics != nil {
		t.metrics.sessions.Store(&f)
	}
}

// SetRoutingGauges registers the source of the gauges of routing, under the
// same terms as SetSessionGauge.
func (t *Telemetry) SetRoutingGauges(f func() RoutingStats) {
	if t.metrics != nil {
		t.metrics.routing.Store(&f)
	}
}

// SetLeavingGauges registers the source of LeavingStats, under the same terms as SetSessionGauge.
func (t *Telemetry) SetLeavingGauges(f func() LeavingStats) {
	if t.metrics != nil {
		t.metrics.leaving.Store(&f)
	}
}

// SetProblemGauge registers the source of the number of problems by kind, with 0 for kinds of which there is none, under the same
// terms as SetSessionGauge.
func (t *Telemetry) SetProblemGauge(f func() map[string]int64) {
	if t.metrics != nil {
		t.metrics.problems.Store(&f)
	}
}

// SetProcessGauges registers the source of ProcessStats, under the same terms as SetSessionGauge.
func (t *Telemetry) SetProcessGauges(f func() ProcessStats) {
	if t.metrics != nil {
		t.metrics.process.Store(&f)
	}
}

// observeProblems exports the gauge of the problems.
func (m *metrics) observeProblems(_ context.Context, o metric.Int64Observer) error {
	f := m.problems.Load()
	if f == nil || *f == nil {
		return nil
	}
	for kind, n := range (*f)() {
		o.Observe(n, with(label("kind", kind)))
	}
	return nil
}

// observeLeaving registers the gauges of LeavingStats.
func (b *builder) observeLeaving(m *metrics) {
	processes, sessions := b.gauge(nameLeavingProcesses), b.gauge(nameLeavingSessions)
	_, err := b.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if f := m.leaving.Load(); f != nil && *f != nil {
			s := (*f)()
			o.ObserveInt64(processes, s.Processes)
			o.ObserveInt64(sessions, s.Sessions)
		}
		return nil
	}, processes, sessions)
	b.fail(err)
}

// observeSessions exports the gauge of the sessions.
func (m *metrics) observeSessions(_ context.Context, o metric.Int64Observer) error {
	f := m.sessions.Load()
	if f == nil || *f == nil {
		return nil
	}
	for _, c := range (*f)() {
		o.Observe(c.Count, with(label("attachment", c.Attachment)))
	}
	return nil
}

// observeRouting registers the gauges of routing. One callback reads all instruments, so that their
// values belong to one moment.
func (b *builder) observeRouting(m *metrics) {
	backends, sessions, pins, paused := b.gauge(nameBackends), b.gauge(nameBackendSessions), b.gauge(namePins), b.gauge(nameBackendsPaused)
	age := b.floatGauge(nameDiscoveryAge)
	_, err := b.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		f := m.routing.Load()
		if f == nil || *f == nil {
			return nil
		}
		s := (*f)()
		for _, c := range s.Backends {
			o.ObserveInt64(backends, c.Count, with(label("state", c.State)))
		}
		for _, c := range s.Sessions {
			o.ObserveInt64(sessions, c.Count, with(label("backend", c.Backend)))
		}
		o.ObserveInt64(pins, s.Pins)
		o.ObserveInt64(paused, s.Paused)
		if s.Age >= 0 {
			o.ObserveFloat64(age, s.Age.Seconds())
		}
		return nil
	}, backends, sessions, pins, paused, age)
	b.fail(err)
}
