package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// observeProcess makes the instruments that show ProcessStats, read by one callback, so that they show one moment.
func (b *builder) observeProcess(m *metrics) {
	reloadTime, reloadOK := b.floatGauge(nameReloadTime), b.gauge(nameReloadOK)
	configInfo, configTime := b.gauge(nameConfigInfo), b.floatGauge(nameConfigTime)
	end, listEnd, answer := b.floatGauge(nameCertificateEnd), b.floatGauge(nameRevocationsEnd), b.floatGauge(nameConsulAnswer)
	used, limit := b.gauge(nameResourceUsed), b.gauge(nameResourceLimit)
	connections, memory, logins := b.gauge(nameSavedConnections), b.gauge(nameSavedMemory), b.gauge(nameSavedLogins)
	_, err := b.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		f := m.process.Load()
		if f == nil || *f == nil {
			return nil
		}
		s := (*f)()
		observeTime(o, configTime, s.ConfigRead)
		o.ObserveInt64(configInfo, 1, with(label("digest", s.ConfigDigest)))
		if !s.Reloaded.IsZero() {
			ok := int64(0)
			if s.ReloadOK {
				ok = 1
			}
			o.ObserveInt64(reloadOK, ok)
		}
		observeTime(o, reloadTime, s.Reloaded)
		observeTime(o, answer, s.ConsulAnswered)
		for _, c := range s.Certificates {
			if c.List {
				observeTime(o, listEnd, c.End, label("of", c.Of))
			} else {
				observeTime(o, end, c.End, label("of", c.Of))
			}
		}
		for _, r := range s.Resources {
			of := with(label("resource", r.Name))
			o.ObserveInt64(used, r.Used, of)
			if r.Limit > 0 {
				o.ObserveInt64(limit, r.Limit, of)
			}
		}
		o.ObserveInt64(connections, s.Saved.Connections)
		o.ObserveInt64(logins, s.Saved.Logins)
		if s.Saved.Memory != nil {
			o.ObserveInt64(memory, *s.Saved.Memory)
		}
		return nil
	}, reloadTime, reloadOK, configInfo, configTime, end, listEnd, answer, used, limit, connections, memory, logins)
	b.fail(err)
}

// observeTime observes a moment in Unix time; the zero time isn't observed.
func observeTime(o metric.Observer, gauge metric.Float64ObservableGauge, at time.Time, labels ...attribute.KeyValue) {
	if !at.IsZero() {
		o.ObserveFloat64(gauge, float64(at.UnixMilli())/1000, with(labels...))
	}
}
