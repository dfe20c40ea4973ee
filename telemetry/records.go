package telemetry

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

// maxRecordText bounds the bytes of a value of a log record.
const maxRecordText = 1024

// startRecords makes the export of the log's lines, and returns the handler that hands them over.
func (t *Telemetry) startRecords(stopCtx context.Context, o Options, url string, res *resource.Resource) (slog.Handler, error) {
	exporter, err := t.logsExporter(stopCtx, o, url)
	if err != nil {
		return nil, fmt.Errorf("telemetry: logs exporter: %w", err)
	}
	t.records = newRecordPipe(stopCtx, exporter, res, t.own, func() *slog.Logger { return t.Log })
	level := o.LogLevel
	if level == nil {
		level = slog.LevelInfo
	}
	return &recorder{Handler: otelslog.NewHandler(scopeName, otelslog.WithLoggerProvider(t.records.provider)), level: level}, nil
}

// recorder is a slog.Handler that makes log records of lines. Their attributes have the same text as in the log, so secrets are redacted,
// durations have units, and no value is one that can't be encoded. trace_id isn't an attribute: it is the record's.
type recorder struct {
	slog.Handler // otelslog's
	level        slog.Leveler
	span         trace.SpanContext // what the lines belong to; the zero value: no kept trace
}

// Enabled implements slog.Handler.
func (h *recorder) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

// Handle implements slog.Handler.
func (h *recorder) Handle(ctx context.Context, r slog.Record) error {
	next, span := slog.NewRecord(r.Time, r.Level, shorten(r.Message, maxRecordText), r.PC), h.span
	r.Attrs(func(a slog.Attr) bool {
		if of, is := spanOf(a.Value); is {
			span = of
		} else {
			next.AddAttrs(recordAttrs(a)...)
		}
		return true
	})
	if span.IsSampled() {
		ctx = trace.ContextWithSpanContext(ctx, span)
	}
	return h.Handler.Handle(ctx, next)
}

// WithAttrs implements slog.Handler.
func (h *recorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &recorder{level: h.level, span: h.span}
	var others []slog.Attr
	for _, a := range attrs {
		if of, is := spanOf(a.Value); is {
			next.span = of
		} else {
			others = append(others, recordAttrs(a)...)
		}
	}
	next.Handler = h.Handler.WithAttrs(others)
	return next
}

// WithGroup implements slog.Handler.
func (h *recorder) WithGroup(name string) slog.Handler {
	return &recorder{h.Handler.WithGroup(name), h.level, h.span}
}

// recordAttrs returns an attribute as a record has it, in two parts if it is a client's address and port: numbers as they are, all else as the
// log's text.
func recordAttrs(a slog.Attr) []slog.Attr {
	a.Key = valid(a.Key)
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		group := a.Value.Group()
		var shown []slog.Attr
		for _, one := range group {
			shown = append(shown, recordAttrs(one)...)
		}
		return []slog.Attr{{Key: a.Key, Value: slog.GroupValue(shown...)}}
	}
	if a = lineAttr(nil, a); a.Value.Kind() == slog.KindGroup {
		return a.Value.Group()
	}
	switch a.Value.Kind() {
	case slog.KindBool, slog.KindInt64, slog.KindUint64, slog.KindFloat64:
		return []slog.Attr{a}
	case slog.KindTime:
		return []slog.Attr{slog.String(a.Key, a.Value.Time().Format("2006-01-02T15:04:05.000Z07:00"))}
	default:
		return []slog.Attr{slog.String(a.Key, shorten(a.Value.String(), maxRecordText))}
	}
}
