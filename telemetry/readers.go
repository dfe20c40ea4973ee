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
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// startMetrics makes the instruments, where something reads them.
func (t *Telemetry) startMetrics(stopCtx context.Context, o Options, url string, res *resource.Resource) error {
	if url == "" && !o.Prometheus {
		return nil
	}
	options := []sdkmetric.Option{
		sdkmetric.WithResource(res),
		// No measurement is made under a span (they are built afterwards), so
		// there are no exemplars to keep room for.
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter),
	}
	if o.Prometheus {
		// A registry of our own, which nothing else in the process writes to.
		registry := prometheus.NewRegistry()
		reader, err := otelprom.New(
			otelprom.WithRegisterer(registry),
			// Dots become underscores, the unit and _total are appended;
			// metricsdoc computes the same names.
			otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
			otelprom.WithoutScopeInfo())
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
			// A row that can't be shown must not hide the others.
			ErrorHandling:       promhttp.ContinueOnError,
			MaxRequestsInFlight: 4,
		})
	}
	if url != "" {
		exporter, err := otlpmetrichttp.New(stopCtx,
			otlpmetrichttp.WithEndpointURL(url),
			otlpmetrichttp.WithHeaders(o.MetricsHeaders),
			otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression),
			otlpmetrichttp.WithHTTPClient(t.client))
		if err != nil {
			return fmt.Errorf("telemetry: metrics exporter: %w", err)
		}
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(
			&metricPipe{Exporter: exporter, t: t, stopCtx: stopCtx},
			sdkmetric.WithInterval(o.MetricsInterval),
			sdkmetric.WithTimeout(exportTimeout))))
	}
	t.meters = sdkmetric.NewMeterProvider(options...)
	m, err := newMetrics(t.meters.Meter(scopeName), o.Version, t.own)
	if err != nil {
		return err
	}
	t.metrics = m
	if err := runtime.Start(runtime.WithMeterProvider(t.meters)); err != nil {
		return fmt.Errorf("telemetry: runtime metrics: %w", err)
	}
	return nil
}

// metricPipe stands around the OTLP exporter as spanPipe does around that of
// the traces: it counts and logs, and ends an export when we are told to stop.
type metricPipe struct {
	sdkmetric.Exporter
	t       *Telemetry
	stopCtx context.Context
}

// Export implements sdkmetric.Exporter. A failed push loses nothing: sums and
// histograms are cumulative, the next one carries them.
func (p *metricPipe) Export(given context.Context, rm *metricdata.ResourceMetrics) error {
	ctx, cancel := context.WithCancel(given)
	defer cancel()
	defer context.AfterFunc(p.stopCtx, cancel)()

	err := p.Exporter.Export(ctx, rm)
	if err != nil && errors.Is(given.Err(), context.Canceled) {
		return nil // the reader broke off its own push to make the last one
	}
	p.t.own.metrics.note(p.t.Log, "metrics", err)
	return nil
}

// MetricsHandler serves the metrics in Prometheus' text format, or 404 where
// Options.Prometheus wasn't set.
func (t *Telemetry) MetricsHandler() http.Handler {
	if t.handler == nil {
		return http.NotFoundHandler()
	}
	return t.handler
}
