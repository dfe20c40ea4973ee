package telemetry

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// The names of a login's phases, which are its trace's spans.
const (
	PhaseTLS          = "tls"
	PhaseAuth         = "auth"
	PhasePick         = "pick"
	PhaseTurn         = "turn" // waited for a place among the logins at a backend
	PhasePool         = "pool" // a warm connection was asked whether it lives
	PhaseDial         = "dial"
	PhaseBackendLogin = "backend_login"
)

// maxPhases bounds what a login remembers: retries on other backends repeat
// phases.
const maxPhases = 32

// LoginTrace is the trace of one login while it goes on: the phases are noted
// with their times, and the spans made from them at the end, where the trace
// is kept. Its id is chosen at once, so that logs can carry it. All methods may
// be called on nil, which is what BeginLogin returns where traces are off.
type LoginTrace struct {
	t       *Telemetry
	session string
	start   time.Time
	ids     trace.SpanContext // of the root span; not sampled until it is

	mu     sync.Mutex // guards phases and ended
	phases []phase
	ended  bool
}

// phase is a part of a login that is over.
type phase struct {
	name       string
	start, end time.Time
	err        error
	attrs      []attribute.KeyValue
}

// BeginLogin begins the trace of a session's login. start is when the client's
// connection was accepted, or when a further attempt began.
func (t *Telemetry) BeginLogin(session string, start time.Time) *LoginTrace {
	if t.tracer == nil {
		return nil
	}
	return &LoginTrace{t: t, session: session, start: start,
		ids: trace.NewSpanContext(trace.SpanContextConfig{TraceID: newTraceID(), SpanID: newSpanID()})}
}

// TraceID returns the trace's id in hexadecimal, "" where traces are off.
func (l *LoginTrace) TraceID() string {
	if l == nil {
		return ""
	}
	return l.ids.TraceID().String()
}

// Phase begins a phase now and returns the function that ends it. The attributes
// describe the phase; the error, if any, is shown in its span. A phase that is never
// ended is left out.
func (l *LoginTrace) Phase(name string) func(err error, attrs ...attribute.KeyValue) {
	if l == nil {
		return func(error, ...attribute.KeyValue) {}
	}
	start := l.t.now()
	return func(err error, attrs ...attribute.KeyValue) {
		l.Add(name, start, l.t.now(), err, attrs...)
	}
}

// Add notes a phase that was measured elsewhere.
func (l *LoginTrace) Add(name string, start, end time.Time, err error, attrs ...attribute.KeyValue) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.phases) >= maxPhases {
		return
	}
	l.phases = append(l.phases, phase{name, start, end, err, attrs})
}

// End ends the login and makes its spans if the trace is kept: one that failed
// (err is not nil), one that was slow, or a sampled one. outcome is the same
// constant as in the login's metric. It returns what commands link to; the
// flag in it says whether the trace was kept. A second call makes no spans.
func (l *LoginTrace) End(user, backend, outcome string, err error) trace.SpanContext {
	if l == nil {
		return trace.SpanContext{}
	}
	l.mu.Lock()
	phases, again := l.phases, l.ended
	l.ended, l.phases = true, nil
	l.mu.Unlock()

	end := l.t.now()
	if again || !(err != nil || l.t.isSlow(end.Sub(l.start)) || l.t.samplesTrace(l.ids.TraceID())) {
		return l.ids
	}
	attrs := []attribute.KeyValue{semconv.SessionID(valid(l.session)), attribute.String("imapproxy.outcome", valid(outcome))}
	if user != "" {
		attrs = append(attrs, semconv.UserName(valid(user)))
	}
	if backend != "" {
		attrs = append(attrs, attribute.String("imapproxy.backend", valid(backend)))
	}
	ctx, root := l.t.tracer.Start(context.WithValue(context.Background(), chosenIDs{}, l.ids), "login",
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(l.start), trace.WithAttributes(attrs...))
	for _, p := range phases {
		_, span := l.t.tracer.Start(ctx, p.name, trace.WithTimestamp(p.start), trace.WithAttributes(validAttrs(p.attrs)...))
		failSpan(span, p.err)
		span.End(trace.WithTimestamp(p.end))
	}
	failSpan(root, err)
	root.End(trace.WithTimestamp(end))
	return root.SpanContext()
}

// samplesTrace decides by the trace's id, as OpenTelemetry's ratio sampler
// does, so that the logs' ids can be told apart beforehand.
func (t *Telemetry) samplesTrace(id trace.TraceID) bool {
	const whole = 1 << 63
	return float64(binary.BigEndian.Uint64(id[8:])>>1) < t.sampleRatio()*whole
}

// failSpan marks a span as failed.
func failSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, shorten(err.Error(), maxErrorText))
	}
}

// validAttrs returns a caller's attributes with their text made fit for export.
func validAttrs(attrs []attribute.KeyValue) []attribute.KeyValue {
	attrs = slices.Clone(attrs)
	for i, a := range attrs {
		switch a.Value.Type() {
		case attribute.STRING:
			attrs[i].Value = attribute.StringValue(valid(a.Value.AsString()))
		case attribute.STRINGSLICE:
			texts := a.Value.AsStringSlice() // a copy
			for j, text := range texts {
				texts[j] = valid(text)
			}
			attrs[i].Value = attribute.StringSliceValue(texts)
		}
	}
	return attrs
}
