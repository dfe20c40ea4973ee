package telemetry

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"imapproxy/proxy/wire"
)

// scopeName is the instrumentation scope of the proxy's spans and metrics.
const scopeName = "imapproxy"

// metrics holds the instruments. It exists only if metrics are read; with a nil *metrics every recording
// method returns at once.
type metrics struct {
	reloads            metric.Int64Counter
	sessionsOpened     metric.Int64Counter
	sessionsClosed     metric.Int64Counter
	sessionDuration    metric.Float64Histogram
	connectionsRefused metric.Int64Counter
	tlsHandshake       metric.Float64Histogram
	login              metric.Float64Histogram
	loginFailures      metric.Int64Counter
	backendDial        metric.Float64Histogram
	backendLogin       metric.Float64Histogram
	backendConns       metric.Int64UpDownCounter
	backendRetries     metric.Int64Counter
	shortages          metric.Int64Counter
	backendStalls      metric.Int64Counter
	backendFlaps       metric.Int64Counter
	failovers          metric.Int64Counter
	discoveryUpdates   metric.Int64Counter
	parks              metric.Int64Counter
	parkRefusals       metric.Int64Counter
	resume             metric.Float64Histogram
	recovery           metric.Float64Histogram
	resyncs            metric.Int64Counter
	resyncDuration     metric.Float64Histogram
	poolGiven          metric.Int64Counter
	poolAsked          metric.Int64Counter
	poolClosed         metric.Int64Counter

	// The hot ones: see hot.go.
	commandDuration    metric.Float64Histogram
	commandBackendWait metric.Float64Histogram
	commands           [wire.NumVerbs][statusCount]commandCell
	backendWaitOptions [wire.NumVerbs][]metric.RecordOption
	relayed            [2]paddedInt64 // by Direction

	sessions atomic.Pointer[func() []AttachmentCount]
	routing  atomic.Pointer[func() RoutingStats]
	parking  atomic.Pointer[func() ParkingStats]
	cluster  atomic.Pointer[func() ClusterStats]
}

// newMetrics makes every instrument of the table on the meter. own has the counts of telemetry itself.
func newMetrics(meter metric.Meter, version string, own *ownCounts) (*metrics, error) {
	m := &metrics{}
	m.initHot()
	b := newBuilder(meter)

	m.reloads = b.counter(nameReloads)
	m.sessionsOpened = b.counter(nameSessionsOpened)
	m.sessionsClosed = b.counter(nameSessionsClosed)
	m.sessionDuration = b.histogram(nameSessionDuration)
	m.connectionsRefused = b.counter(nameConnectionsRefused)
	m.tlsHandshake = b.histogram(nameTLSHandshake)
	m.login = b.histogram(nameLogin)
	m.loginFailures = b.counter(nameLoginFailures)
	m.backendDial = b.histogram(nameBackendDial)
	m.backendLogin = b.histogram(nameBackendLogin)
	m.backendConns = b.upDown(nameBackendConns)
	m.backendRetries = b.counter(nameBackendRetries)
	m.shortages = b.counter(nameShortages)
	m.backendStalls = b.counter(nameBackendStalls)
	m.backendFlaps = b.counter(nameBackendFlaps)
	m.failovers = b.counter(nameFailovers)
	m.discoveryUpdates = b.counter(nameDiscoveryUpdates)
	m.parks = b.counter(nameParks)
	m.parkRefusals = b.counter(nameParkRefusals)
	m.resume = b.histogram(nameResume)
	m.recovery = b.histogram(nameRecovery)
	m.resyncs = b.counter(nameParkResyncs)
	m.resyncDuration = b.histogram(nameParkResyncDuration)
	m.poolGiven = b.counter(namePoolGiven)
	m.poolAsked = b.counter(namePoolAsked)
	m.poolClosed = b.counter(namePoolClosed)
	m.commandDuration = b.histogram(nameCommandDuration)
	m.commandBackendWait = b.histogram(nameCommandBackendWait)

	b.observeCounter(nameCommands, m.observeCommands)
	b.observeCounter(nameRelayed, m.observeRelayed)
	b.observeCounter(nameTelemetrySpans, own.observeSpans)
	b.observeCounter(nameTelemetryExports, own.observeExports)
	b.observeCounter(nameTelemetryLogLines, own.observeLogLines)

	build := metric.WithAttributeSet(attribute.NewSet(
		attribute.String("version", valid(version)), attribute.String("go_version", runtime.Version())))
	b.observeGauge(nameBuildInfo, func(_ context.Context, o metric.Int64Observer) error {
		o.Observe(1, build)
		return nil
	})
	b.observeGauge(nameSessions, m.observeSessions)
	b.observeRouting(m)
	b.observeParking(m)
	b.observeCluster(m)

	return m, b.finish()
}

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
