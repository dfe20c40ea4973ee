package telemetry

import (
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// scopeName is the instrumentation scope of the proxy's spans and metrics.
const scopeName = "imapproxy"

// builder makes instruments from the table's rows and keeps the first error.
type builder struct {
	meter metric.Meter
	rows  map[string]Instrument // not made yet
	err   error
}

// newBuilder returns a builder with all rows of the table to make.
func newBuilder(meter metric.Meter) *builder {
	b := &builder{meter: meter, rows: map[string]Instrument{}}
	for _, row := range Instruments() {
		b.rows[row.Name] = row
	}
	return b
}

// take returns a row once. It panics if the name isn't in the table, was taken before or has another kind:
// that is a mistake in newMetrics, which doesn't depend on input.
func (b *builder) take(name string, kind Kind) Instrument {
	row, ok := b.rows[name]
	if !ok {
		panic("telemetry: " + name + " is not in the table of instruments, or is made twice")
	}
	if row.Kind != kind {
		panic("telemetry: " + name + " is a " + string(row.Kind) + " in the table, made as a " + string(kind))
	}
	delete(b.rows, name)
	return row
}

// finish returns the first error, or an error if a row of the table wasn't taken.
func (b *builder) finish() error {
	if b.err == nil && len(b.rows) > 0 {
		var left []string
		for name := range b.rows {
			left = append(left, name)
		}
		b.fail(fmt.Errorf("in the table of instruments but not made: %s", strings.Join(left, ", ")))
	}
	return b.err
}

// fail keeps the first error.
func (b *builder) fail(err error) {
	if b.err == nil && err != nil {
		b.err = fmt.Errorf("telemetry: %w", err)
	}
}

func (b *builder) counter(name string) metric.Int64Counter {
	row := b.take(name, Counter)
	c, err := b.meter.Int64Counter(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
	b.fail(err)
	return c
}

func (b *builder) upDown(name string) metric.Int64UpDownCounter {
	row := b.take(name, UpDown)
	c, err := b.meter.Int64UpDownCounter(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
	b.fail(err)
	return c
}

func (b *builder) histogram(name string) metric.Float64Histogram {
	row := b.take(name, Histogram)
	h, err := b.meter.Float64Histogram(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help),
		metric.WithExplicitBucketBoundaries(row.Buckets...))
	b.fail(err)
	return h
}

// gauge makes a gauge for a callback that observes several instruments at once.
func (b *builder) gauge(name string) metric.Int64ObservableGauge {
	row := b.take(name, Gauge)
	g, err := b.meter.Int64ObservableGauge(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
	b.fail(err)
	return g
}

// floatGauge is gauge for seconds.
func (b *builder) floatGauge(name string) metric.Float64ObservableGauge {
	row := b.take(name, Gauge)
	g, err := b.meter.Float64ObservableGauge(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help))
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

func (b *builder) observeCounter(name string, f metric.Int64Callback) {
	row := b.take(name, Counter)
	_, err := b.meter.Int64ObservableCounter(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help),
		metric.WithInt64Callback(f))
	b.fail(err)
}

func (b *builder) observeGauge(name string, f metric.Int64Callback) {
	row := b.take(name, Gauge)
	_, err := b.meter.Int64ObservableGauge(row.Name, metric.WithUnit(row.Unit), metric.WithDescription(row.Help),
		metric.WithInt64Callback(f))
	b.fail(err)
}

// valid makes a string valid for export: one invalid byte in a label or an attribute would fail the whole
// scrape or the whole batch of spans. Valid text isn't copied.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// label is one attribute of a metric.
func label(key, value string) attribute.KeyValue { return attribute.String(key, valid(value)) }

// seconds converts a duration for the histograms. It is never negative: a clock that was set back must not
// make a sum decrease.
func seconds(d time.Duration) float64 { return max(d, 0).Seconds() }

// with returns the attributes of one measurement.
func with(kvs ...attribute.KeyValue) metric.MeasurementOption { return metric.WithAttributes(kvs...) }
