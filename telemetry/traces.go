package telemetry

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// startTraces makes the tracer, if spans are read. Whether a trace is kept is decided before a span is made,
// so the sampler is AlwaysSample.
func (t *Telemetry) startTraces(stopCtx context.Context, o Options, url string, res *resource.Resource) error {
	exporter := o.SpanExporter
	if exporter == nil {
		if url == "" {
			return nil
		}
		var err error
		exporter, err = t.tracesExporter(stopCtx, o, url)
		if err != nil {
			return fmt.Errorf("telemetry: traces exporter: %w", err)
		}
	}
	t.spans = newSpanPipe(stopCtx, exporter, o.SpanExporter != nil, t.own, func() *slog.Logger { return t.Log })

	limits := sdktrace.NewSpanLimits()
	limits.AttributeValueLengthLimit = 512 // user names and error texts come from clients
	t.traces = sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithIDGenerator(idGenerator{}),
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithSpanProcessor(t.spans))
	t.steps.New = func() any { return &Steps{} }
	t.tracer = t.traces.Tracer(scopeName)
	return nil
}
