package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/wire"
)

// Command counts a command. If its trace is kept, Command makes its span: a trace of its own that links to
// the login's. Sampled traces are kept, and all traces of commands that failed or were slow. A command whose
// trace isn't kept costs no allocation.
func (t *Telemetry) Command(c Command) {
	if t.metrics == nil && t.tracer == nil {
		return
	}
	took := c.End.Sub(c.Start)
	if t.metrics != nil {
		t.metrics.command(&c, took)
	}
	if t.tracer != nil && t.keepsCommand(&c, took) {
		t.commandSpan(c)
	}
}

// keepsCommand decides whether a command's trace is kept. IDLE is never slow.
func (t *Telemetry) keepsCommand(c *Command, took time.Duration) bool {
	return c.Status != "OK" || (c.Verb != wire.Idle && t.isSlow(took)) || t.sampled()
}

// commandSpan builds the span of a command that is over. It takes a copy, so that Command's argument needn't
// escape to the heap.
func (t *Telemetry) commandSpan(c Command) {
	verb, status := c.Verb.String(), statusLabels[statusIndex(c.Status)]
	attrs := []attribute.KeyValue{
		attribute.String("imap.command", verb),
		attribute.String("imap.status", status),
		semconv.SessionID(valid(c.Session)),
		attribute.String("imapproxy.backend", valid(c.Backend)),
		attribute.Float64("imapproxy.backend_wait", seconds(c.BackendWait)), // s
		attribute.Int64("imapproxy.bytes_in", c.BytesIn),
		attribute.Int64("imapproxy.bytes_out", c.BytesOut),
	}
	if c.User != "" {
		attrs = append(attrs, semconv.UserName(valid(c.User)))
	}
	if !c.Sent.IsZero() {
		forward := c.Sent.Sub(c.Start)
		attrs = append(attrs,
			attribute.Float64("imapproxy.forward", seconds(forward)), // s, from the client's first byte to the backend's last
			attribute.Float64("imapproxy.client_wait", seconds(c.End.Sub(c.Start)-forward-c.BackendWait)))
	}
	start := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(c.Start), trace.WithAttributes(attrs...),
	}
	if c.Login.IsValid() {
		start = append(start, trace.WithLinks(loginLink(c.Login)))
	}
	_, span := t.tracer.Start(context.Background(), "imap "+verb, start...)
	if !c.Sent.IsZero() {
		span.AddEvent("sent", trace.WithTimestamp(c.Sent))
	}
	if c.Status != "OK" {
		span.SetStatus(codes.Error, status)
	}
	span.End(trace.WithTimestamp(c.End))
}
