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
	var at *recentBackend
	if c.Verb != wire.Idle && !c.Sent.IsZero() {
		at = t.recent.at(c.Backend)
		slot := at.slot(c.End)
		slot.answered(c.BackendWait)
		if c.FirstAnswer > 0 {
			slot.timed(TimedAnswer, c.FirstAnswer)
		}
	}
	took := c.End.Sub(c.Start)
	var kept *trace.SpanContext
	var id trace.TraceID
	if t.tracer != nil && t.keepsCommand(&c, took) {
		if span := t.commandSpan(c); span.IsSampled() {
			kept = &span
		}
	}
	if kept != nil {
		id = kept.TraceID()
	}
	t.count(&c, id)
	t.writeTape(&c, id)
	if t.metrics != nil {
		t.metrics.command(kept, &c, took, at)
	}
	if c.Resume != nil {
		t.giveBack(c.Resume.Steps)
	}
}

// keepsCommand decides whether a command's trace is kept. IDLE is never slow, and a client that closes its
// connection in IDLE is no failure. A resume that needed several attempts keeps the command's trace, of which it
// is a part.
func (t *Telemetry) keepsCommand(c *Command, took time.Duration) bool {
	return t.bad(c, took) || t.sampled()
}

// bad says whether a command's trace is kept whatever the share of traces is.
func (t *Telemetry) bad(c *Command, took time.Duration) bool {
	return c.failed() || (c.Verb != wire.Idle && t.isSlow(took)) || c.Resume != nil && c.Resume.Attempts > 1
}

// failed says whether a command has failed.
func (c *Command) failed() bool {
	i := statusIndex(c.Status)
	return i != statusOK && i != statusClosed
}

// commandSpan builds the span of a command that is over. It takes a copy, so that Command's argument needn't
// escape to the heap, and returns the span's context.
func (t *Telemetry) commandSpan(c Command) trace.SpanContext {
	verb, status := c.Verb.String(), statusLabels[statusIndex(c.Status)]
	attrs := []attribute.KeyValue{
		attribute.String("imap.command", verb),
		attribute.String("imap.status", status),
		semconv.SessionID(valid(c.Session)),
		attribute.String("imapproxy.backend", valid(c.Backend)),
		attribute.Int64("imapproxy.bytes_in", c.BytesIn),
		attribute.Int64("imapproxy.bytes_out", c.BytesOut),
	}
	attrs = t.names.clientAttrs(t.names.userAttrs(attrs, c.User), c.Client)
	if c.Verb != wire.Idle { // IDLE waits for what isn't there yet
		attrs = append(attrs, attribute.Float64("imapproxy.backend_wait", seconds(c.BackendWait))) // s
		if c.ResumeWait > 0 {
			attrs = append(attrs, attribute.Float64("imapproxy.resume_wait", seconds(c.ResumeWait))) // s
		}
		if !c.Sent.IsZero() {
			attrs = append(attrs,
				attribute.Float64("imapproxy.forward", seconds(c.Forward)), // s, from the client's first byte to the backend's last
				attribute.Float64("imapproxy.client_wait", seconds(c.End.Sub(c.Start)-c.ResumeWait-c.Forward-c.BackendWait)))
		}
	}
	failure := ""
	if c.failed() {
		failure = status
		attrs = append(attrs, semconv.ErrorTypeKey.String(failure))
	}
	start := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(c.Start), trace.WithAttributes(attrs...),
	}
	if login := t.linkOf(c.Session, c.Login, t.bad(&c, c.End.Sub(c.Start))); login.IsValid() {
		start = append(start, trace.WithLinks(loginLink(login)))
	}
	ctx, span := t.tracer.Start(context.Background(), commandPrefix+verb, start...)
	if c.Resume != nil {
		t.resumeSpans(ctx, c.Resume)
	}
	if !c.Sent.IsZero() {
		span.AddEvent("sent", trace.WithTimestamp(c.Sent))
		if c.Verb != wire.Idle {
			t.relaySpan(ctx, &c, failure)
		}
	}
	if c.failed() {
		span.SetStatus(codes.Error, status)
	}
	span.End(trace.WithTimestamp(c.End))
	return span.SpanContext()
}

// relaySpan makes the span of the backend's part of a command.
func (t *Telemetry) relaySpan(ctx context.Context, c *Command, failure string) {
	_, span := t.tracer.Start(ctx, spanRelay, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(c.Sent),
		trace.WithAttributes(remoteAttrs(c.Backend, c.Address, failure)...))
	span.End(trace.WithTimestamp(c.Sent.Add(max(c.BackendWait, 0))))
}
