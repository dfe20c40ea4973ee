package telemetry

import (
	"context"
	"runtime"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// newMetrics makes every instrument of the table on the meter. own has the counts of telemetry itself; the readers read h themselves.
func newMetrics(meter metric.Meter, version string, own *ownCounts, h *hot) (*metrics, error) {
	m := &metrics{hot: h}
	m.initHot()
	b := newBuilder(meter)

	m.reloads = b.counter(nameReloads)
	m.sessionsOpened = b.counter(nameSessionsOpened)
	m.sessionsClosed = b.counter(nameSessionsClosed)
	m.compressed = b.counter(nameCompressed)
	m.compressions = b.counter(nameCompressions)
	m.sessionDuration = b.histogram(nameSessionDuration)
	m.connectionsRefused = b.counter(nameConnectionsRefused)
	m.tlsHandshake = b.histogram(nameTLSHandshake)
	m.login = b.histogram(nameLogin)
	m.loginFailures = b.counter(nameLoginFailures)
	m.loginDelays = b.counter(nameLoginDelays)
	m.policy = b.histogram(namePolicy)
	m.policyUnasked = b.counter(namePolicyUnasked)
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
	m.viewsLost = b.counter(nameViewsLost)
	m.resyncs = b.counter(nameParkResyncs)
	m.resyncDuration = b.histogram(nameParkResyncDuration)
	m.poolGiven = b.counter(namePoolGiven)
	m.poolAsked = b.counter(namePoolAsked)
	m.poolClosed = b.counter(namePoolClosed)
	for _, name := range []string{nameCommandDuration, nameCommandBackendWait, nameBackendAnswer} {
		b.take(name, Histogram)
	}
	m.commandResumeWait = b.histogram(nameCommandResumeWait)

	b.observeCounter(nameCommands, m.observeCommands)
	b.observeCounter(nameRelayed, m.observeRelayed)
	b.observeCounter(nameTelemetrySpans, own.spans.observe)
	b.observeCounter(nameTelemetryRecords, own.records.observe)
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
	b.observeLeaving(m)
	b.observeGauge(nameProblems, m.observeProblems)
	b.observeProcess(m)
	b.observeParking(m)
	b.observeCluster(m)

	return m, b.finish()
}
