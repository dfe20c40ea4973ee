package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// startMetrics makes the instruments, if metrics are read.
func (t *Telemetry) startMetrics(stopCtx context.Context, o Options, url string, res *resource.Resource) error {
	if url == "" && !o.Prometheus {
		return nil
	}
	options := []sdkmetric.Option{
		sdkmetric.WithResource(res),
		// Exemplars are of kept traces only: nothing leads to one that isn't there.
		sdkmetric.WithExemplarFilter(exemplar.TraceBasedFilter),
	}
	h := newHot(t.now())
	if o.Prometheus {
		// A registry that is used for nothing else in the process.
		registry := prometheus.NewRegistry()
		reader, err := otelprom.New(
			otelprom.WithRegisterer(registry),
			// Dots become underscores, the unit and _total are appended;
			// metricsdoc computes the same names.
			otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
			otelprom.WithoutScopeInfo(),
			otelprom.WithProducer(h.reader(metricdata.CumulativeTemporality)))
		if err != nil {
			return fmt.Errorf("telemetry: Prometheus exporter: %w", err)
		}
		// Open files, memory and CPU of the process, which OpenTelemetry's
		// runtime metrics don't have.
		if err := registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})); err != nil {
			return fmt.Errorf("telemetry: process metrics: %w", err)
		}
		options = append(options, sdkmetric.WithReader(reader))
		t.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
			// Without this, an error in one row would fail the whole scrape.
			ErrorHandling:       promhttp.ContinueOnError,
			MaxRequestsInFlight: 4,
			EnableOpenMetrics:   true, // where a scraper asks for it: the text format has no exemplars
		})
	}
	if url != "" {
		exporter, err := t.metricsExporter(stopCtx, o, url)
		if err != nil {
			return fmt.Errorf("telemetry: metrics exporter: %w", err)
		}
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(
			&metricPipe{Exporter: exporter, t: t, stopCtx: stopCtx},
			sdkmetric.WithProducer(h.reader(exporter.Temporality(sdkmetric.InstrumentKindHistogram))),
			sdkmetric.WithInterval(o.MetricsInterval),
			sdkmetric.WithTimeout(exportTimeout))))
	}
	t.meters = sdkmetric.NewMeterProvider(options...)
	m, err := newMetrics(t.meters.Meter(scopeName), o.Version, t.own, h)
	if err != nil {
		return err
	}
	t.metrics = m
	if err := runtime.Start(runtime.WithMeterProvider(t.meters)); err != nil {
		return fmt.Errorf("telemetry: runtime metrics: %w", err)
	}
	return nil
}

// metricPipe wraps the OTLP exporter of the metrics, as spanPipe does that of the traces: it counts and logs
// failures, and ends an export at shutdown.
type metricPipe struct {
	sdkmetric.Exporter
	t       *Telemetry
	stopCtx context.Context
}

// Export implements sdkmetric.Exporter. A failed push loses no data: sums and histograms are cumulative, so
// the next push has them.
func (p *metricPipe) Export(given context.Context, rm *metricdata.ResourceMetrics) error {
	ctx, cancel := context.WithCancel(given)
	defer cancel()
	defer context.AfterFunc(p.stopCtx, cancel)()

	err := p.Exporter.Export(ctx, rm)
	if err != nil && errors.Is(given.Err(), context.Canceled) {
		return nil // the reader ended its own push to make the last one
	}
	p.t.own.metrics.note(p.t.Log, "metrics", err)
	return nil
}

// MetricsHandler serves the metrics in Prometheus' text format or in OpenMetrics', or 404 where
// Options.Prometheus wasn't set.
func (t *Telemetry) MetricsHandler() http.Handler {
	if t.handler == nil {
		return http.NotFoundHandler()
	}
	return t.handler
}
