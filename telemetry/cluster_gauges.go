package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/metric"
)

// SetClusterGauges registers the source of ClusterStats, under the same terms as SetSessionGauge. Without one nothing is shown.
func (t *Telemetry) SetClusterGauges(f func() ClusterStats) {
	if t.metrics != nil {
		t.metrics.cluster.Store(&f)
	}
}

// observeCluster makes the instruments that show ClusterStats, read by one callback, so that they show one moment.
func (b *builder) observeCluster(m *metrics) {
	epoch, acked, isolated, proxies := b.gauge(nameClusterEpoch), b.gauge(nameClusterAcked), b.gauge(nameClusterIsolated), b.gauge(nameClusterProxies)
	leaving, held, turns := b.gauge(nameClusterLeaving), b.gauge(nameClusterHeld), b.gauge(nameClusterTurns)
	stays, waiting := b.gauge(nameClusterStays), b.gauge(nameClusterWaiting)
	late, switches := b.observedCounter(nameClusterLate), b.observedCounter(nameClusterSwitches)
	_, err := b.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		f := m.cluster.Load()
		if f == nil || *f == nil {
			return nil
		}
		s := (*f)()
		cut := int64(0)
		if s.Isolated {
			cut = 1
		}
		o.ObserveInt64(epoch, s.Epoch)
		o.ObserveInt64(acked, s.Acked)
		o.ObserveInt64(isolated, cut)
		o.ObserveInt64(proxies, s.Living, with(label("state", "living")))
		o.ObserveInt64(proxies, s.Ended, with(label("state", "ended")))
		o.ObserveInt64(stays, s.Stays)
		o.ObserveInt64(waiting, s.Waiting)
		for _, l := range s.Leaving {
			o.ObserveInt64(leaving, l.Users, with(label("backend", l.Backend)))
			o.ObserveInt64(turns, l.Turns, with(label("backend", l.Backend)))
			for reason, n := range l.Held {
				o.ObserveInt64(held, int64(n), with(label("backend", l.Backend), label("reason", reason)))
			}
		}
		o.ObserveInt64(late, s.Late)
		o.ObserveInt64(switches, s.Switches)
		return nil
	}, epoch, acked, isolated, proxies, stays, leaving, held, turns, waiting, late, switches)
	b.fail(err)
}
