package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Park counts an attempt to park a session. outcome is "parked", or a constant
// that says why the session kept its connection; strategy is how its mailbox is
// resynced ("qresync", "comparison"), "none" where no mailbox is selected.
func (t *Telemetry) Park(outcome, strategy string) {
	if t.metrics == nil {
		return
	}
	t.metrics.parks.Add(context.Background(), 1, with(label("outcome", outcome), label("strategy", strategy)))
}

// ParkRefused counts a session that has been quiet for long enough and isn't to
// be parked. Whoever looks at it again and again counts it once for each time that
// it fell quiet.
func (t *Telemetry) ParkRefused(reason string) {
	if t.metrics == nil {
		return
	}
	t.metrics.parkRefusals.Add(context.Background(), 1, with(label("reason", reason)))
}

// Resume records that a parked session was given a backend connection, or ended
// for want of one. outcome is "ok" or a constant that says what went wrong; warm
// says whether the connection came from the pool; d runs from what it was needed
// for until that could go on.
func (t *Telemetry) Resume(outcome string, warm bool, d time.Duration) {
	if t.metrics == nil {
		return
	}
	t.metrics.resume.Record(context.Background(), seconds(d), with(label("outcome", outcome), attribute.Bool("warm", warm)))
}

// ParkingStats is what the instruments show of what is done for parked sessions.
// The maps are by the value of the instrument's label. Mailboxes and Waiting are
// as of now, all else counts from the beginning.
type ParkingStats struct {
	Mailboxes map[string]int64 // by watch
	Hints     map[string]int64 // by source
	Resyncs   map[string]int64 // by outcome
	Events    map[string]int64 // by outcome; nil: push events are off
	Waiting   int64
}

// SetParkingGauges registers where the above comes from, under the same terms as
// SetSessionGauge.
func (t *Telemetry) SetParkingGauges(f func() ParkingStats) {
	if t.metrics != nil {
		t.metrics.parking.Store(&f)
	}
}

// observeParking makes the instruments that show ParkingStats, read by one
// callback, so that they show one moment.
func (b *builder) observeParking(m *metrics) {
	gauge := func(name string) metric.Int64ObservableGauge {
		row := b.take(name, Gauge)
		g, err := b.meter.Int64ObservableGauge(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
		b.fail(err)
		return g
	}
	counter := func(name string) metric.Int64ObservableCounter {
		row := b.take(name, Counter)
		c, err := b.meter.Int64ObservableCounter(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
		b.fail(err)
		return c
	}
	mailboxes, waiting := gauge(nameParkMailboxes), gauge(nameParkWaiting)
	hints, resyncs, events := counter(nameParkHints), counter(nameParkResyncs), counter(nameParkEvents)
	_, err := b.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		f := m.parking.Load()
		if f == nil || *f == nil {
			return nil
		}
		s := (*f)()
		for _, one := range []struct {
			what   metric.Int64Observable
			key    string
			counts map[string]int64
		}{
			{mailboxes, "watch", s.Mailboxes}, {hints, "source", s.Hints}, {resyncs, "outcome", s.Resyncs}, {events, "outcome", s.Events},
		} {
			for value, n := range one.counts {
				o.ObserveInt64(one.what, n, with(label(one.key, value)))
			}
		}
		o.ObserveInt64(waiting, s.Waiting)
		return nil
	}, mailboxes, waiting, hints, resyncs, events)
	b.fail(err)
}
