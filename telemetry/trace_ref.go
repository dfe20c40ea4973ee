package telemetry

import (
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// traceRef is the value of a line's trace_id: the trace's id or, where lines are exported, the span that the line belongs to.
type traceRef trace.SpanContext

// LogValue implements slog.LogValuer.
func (r traceRef) LogValue() slog.Value {
	return slog.StringValue(trace.SpanContext(r).TraceID().String())
}

// spanOf returns the span of a trace_id that SessionLogger has set.
func spanOf(v slog.Value) (trace.SpanContext, bool) {
	if v.Kind() != slog.KindLogValuer {
		return trace.SpanContext{}, false
	}
	r, is := v.LogValuer().(traceRef)
	return trace.SpanContext(r), is
}
