package telemetry

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// maxPhases bounds the phases of one login: retries on other backends repeat them.
const maxPhases = 32

// LoginTrace is the trace of a login in progress. The phases are recorded with their times; End makes the
// spans if the trace is kept. All methods may be
// called on nil, which BeginLogin returns if traces are off.
type LoginTrace struct {
	t       *Telemetry
	session string
	client  netip.AddrPort
	start   time.Time
	ids     trace.SpanContext // of the root span; not sampled until it is

	mu     sync.Mutex // guards the fields below
	phases []phase
	ended  bool
	kept   bool // spans were made
	end    loginEnd
}

// phase is a completed part of a login.
type phase struct {
	name       string
	start, end time.Time
	err        error
	attrs      []attribute.KeyValue
	kind       trace.SpanKind
}

// loginEnd is how a login ended, for its spans.
type loginEnd struct {
	user, backend, outcome string
	err                    error
	at                     time.Time
}

// Peer is the backend of a phase.
type Peer struct {
	Backend string // as metrics name it
	Address string // host:port
	Failure string // what went wrong, of a closed set; "": nothing did
}

// AddRemote records a phase in which the proxy was the client of a backend.
func (l *LoginTrace) AddRemote(name string, start, end time.Time, err error, to Peer) {
	if l == nil {
		return
	}
	if err == nil {
		to.Failure = ""
	}
	l.add(phase{name, start, end, err, remoteAttrs(to.Backend, to.Address, to.Failure), trace.SpanKindClient})
}

// BeginLogin begins the trace of a session's login. client is the client's address, start when its command was read.
func (t *Telemetry) BeginLogin(session string, client netip.AddrPort, start time.Time) *LoginTrace {
	if t.tracer == nil {
		return nil
	}
	return &LoginTrace{t: t, session: session, client: client, start: start,
		ids: trace.NewSpanContext(trace.SpanContextConfig{TraceID: newTraceID(), SpanID: newSpanID()})}
}

// Kept returns the context of the trace's first span once End has kept it, otherwise the zero value: an id that leads to no trace
// doesn't belong in a log.
func (l *LoginTrace) Kept() trace.SpanContext {
	if l == nil {
		return trace.SpanContext{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.kept {
		return trace.SpanContext{}
	}
	return l.ids.WithTraceFlags(trace.FlagsSampled)
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

// Add records a phase that was measured elsewhere.
func (l *LoginTrace) Add(name string, start, end time.Time, err error, attrs ...attribute.KeyValue) {
	if l != nil {
		l.add(phase{name, start, end, err, attrs, trace.SpanKindInternal})
	}
}

func (l *LoginTrace) add(p phase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended && len(l.phases) < maxPhases {
		l.phases = append(l.phases, p)
	}
}

// End ends the login and makes its spans if the trace is kept: traces of logins that failed (err is not nil)
// or were slow, and sampled ones. outcome is the same constant as in the login's metric. End returns the
// context to which commands link; it is the zero value if the trace isn't kept. Then a slow or failed command may
// still keep it (late.go). A second call makes no spans.
func (l *LoginTrace) End(user, backend, outcome string, err error) trace.SpanContext {
	if l == nil {
		return trace.SpanContext{}
	}
	l.mu.Lock()
	if l.ended {
		kept := l.kept
		l.mu.Unlock()
		if !kept {
			return trace.SpanContext{}
		}
		return l.ids.WithTraceFlags(trace.FlagsSampled)
	}
	l.ended, l.end = true, loginEnd{user, backend, outcome, err, l.t.now()}
	kept := err != nil || l.t.isSlow(l.end.at.Sub(l.start)) || l.t.samplesTrace(l.ids.TraceID())
	l.mu.Unlock()
	if !kept {
		l.t.late.remember(l.session, l)
		return trace.SpanContext{}
	}
	return l.keep()
}

// spans makes the spans of a login that is over.
func (l *LoginTrace) spans(phases []phase) trace.SpanContext {
	end := &l.end // it doesn't change any more
	attrs := []attribute.KeyValue{semconv.SessionID(valid(l.session)), attribute.String("imapproxy.outcome", valid(end.outcome))}
	attrs = l.t.names.clientAttrs(l.t.names.userAttrs(attrs, end.user), l.client)
	if end.backend != "" {
		attrs = append(attrs, attribute.String("imapproxy.backend", valid(end.backend)))
	}
	if end.err != nil {
		attrs = append(attrs, semconv.ErrorTypeKey.String(valid(end.outcome)))
	}
	ctx, root := l.t.tracer.Start(context.WithValue(context.Background(), chosenIDs{}, l.ids), spanLogin,
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(l.start), trace.WithAttributes(attrs...))
	for _, p := range phases {
		_, span := l.t.tracer.Start(ctx, p.name, trace.WithSpanKind(p.kind), trace.WithTimestamp(p.start), trace.WithAttributes(validAttrs(p.attrs)...))
		l.t.failSpan(span, p.err, end.user, l.client.Addr().String())
		span.End(trace.WithTimestamp(p.end))
	}
	l.t.failSpan(root, end.err, end.user, l.client.Addr().String())
	root.End(trace.WithTimestamp(end.at))
	return root.SpanContext()
}

// samplesTrace decides by the trace's id, as OpenTelemetry's ratio sampler does.
func (t *Telemetry) samplesTrace(id trace.TraceID) bool {
	const whole = 1 << 63
	return float64(binary.BigEndian.Uint64(id[8:])>>1) < t.sampleRatio()*whole
}

// failSpan marks a span as failed. The error's text is written without these names and addresses, and without what backends said, where
// names may not be written.
func (t *Telemetry) failSpan(span trace.Span, err error, names ...string) {
	if err != nil {
		span.SetStatus(codes.Error, shorten(t.names.errorText(err, names), maxErrorText))
	}
}

// validAttrs returns attributes whose texts are valid for export.
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

// linkOf returns the span of a session's login to which a trace links: that of a kept login, or, if the trace is of something slow or failed, that
// of a login which is kept now.
func (t *Telemetry) linkOf(session string, login trace.SpanContext, bad bool) trace.SpanContext {
	if login.IsValid() || !bad || session == "" {
		return login
	}
	l := t.late.of(session)
	if l == nil {
		return login
	}
	return l.keep()
}

// keep makes the spans of a login that wasn't kept when it ended. A second call makes none.
func (l *LoginTrace) keep() trace.SpanContext {
	l.mu.Lock()
	phases, again := l.phases, l.kept
	l.kept, l.phases = true, nil
	l.mu.Unlock()
	if again {
		return l.ids.WithTraceFlags(trace.FlagsSampled)
	}
	return l.spans(phases)
}
