package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/metric"
)

// ParkingStats are the values of the instruments about parked sessions. The keys of the maps are values of
// the instruments' labels. Mailboxes and Waiting are current values; all others count from the start.
type ParkingStats struct {
	Mailboxes map[string]int64 // by watch
	Hints     map[string]int64 // by source
	Watches   map[string]int64 // results of watches and subscriptions, by outcome
	Events    map[string]int64 // requests by outcome; nil: push events are off
	Notices   map[string]int64 // what events said, by outcome; nil likewise
	Forwarded map[string]int64 // notices between proxies, by outcome
	Waiting   int64
}

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
