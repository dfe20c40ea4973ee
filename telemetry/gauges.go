package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// AttachmentCount is the number of sessions in one state of attachment.
type AttachmentCount struct {
	Attachment string
	Count      int64
}

// StateCount is the number of backends in one state.
type StateCount struct {
	State string
	Count int64
}

// BackendCount is the number of sessions on one backend.
type BackendCount struct {
	Backend string
	Count   int64
}

// RoutingStats are the values of the routing gauges.
type RoutingStats struct {
	Backends []StateCount
	Sessions []BackendCount
	Pins     int64
	// Age is how long ago discovery last gave an answer that was taken; negative: never.
	Age time.Duration
}

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

// gauge makes a gauge for a callback that observes several instruments at once.
func (b *builder) gauge(name string) metric.Int64ObservableGauge {
	row := b.take(name, Gauge)
	g, err := b.meter.Int64ObservableGauge(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
	b.fail(err)
	return g
}

// observedCounter is gauge for a counter.
func (b *builder) observedCounter(name string) metric.Int64ObservableCounter {
	row := b.take(name, Counter)
	c, err := b.meter.Int64ObservableCounter(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
	b.fail(err)
	return c
}

// observeRouting registers the gauges of routing. One callback reads all four instruments, so that their
// values belong to one moment.
func (b *builder) observeRouting(m *metrics) {
	backends, sessions, pins := b.gauge(nameBackends), b.gauge(nameBackendSessions), b.gauge(namePins)
	row := b.take(nameDiscoveryAge, Gauge)
	age, err := b.meter.Float64ObservableGauge(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
	b.fail(err)

	_, err = b.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
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
		if s.Age >= 0 {
			o.ObserveFloat64(age, s.Age.Seconds())
		}
		return nil
	}, backends, sessions, pins, age)
	b.fail(err)
}
