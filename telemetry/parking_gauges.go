package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/metric"
)

// SetParkingGauges registers the source of ParkingStats, under the same terms as
// SetSessionGauge.
func (t *Telemetry) SetParkingGauges(f func() ParkingStats) {
	if t.metrics != nil {
		t.metrics.parking.Store(&f)
	}
}

// observeParking registers the instruments of ParkingStats. One callback reads all of them, so that their
// values belong to one moment.
func (b *builder) observeParking(m *metrics) {
	mailboxes, waiting := b.gauge(nameParkMailboxes), b.gauge(nameParkWaiting)
	hints, watches := b.observedCounter(nameParkHints), b.observedCounter(nameParkWatches)
	events, notices, forwarded := b.observedCounter(nameParkEvents), b.observedCounter(nameParkNotices), b.observedCounter(nameParkForwarded)
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
			{mailboxes, "watch", s.Mailboxes}, {hints, "source", s.Hints}, {watches, "outcome", s.Watches},
			{events, "outcome", s.Events}, {notices, "outcome", s.Notices}, {forwarded, "outcome", s.Forwarded},
		} {
			for value, n := range one.counts {
				o.ObserveInt64(one.what, n, with(label(one.key, value)))
			}
		}
		o.ObserveInt64(waiting, s.Waiting)
		return nil
	}, mailboxes, waiting, hints, watches, events, notices, forwarded)
	b.fail(err)
}
