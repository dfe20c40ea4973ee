package telemetry

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// The names of a login's phases, which are the names of its trace's spans.
const (
	PhaseExchange     = "exchange" // the client's part of AUTHENTICATE
	PhaseDelay        = "delay"    // waiting, because the login may be a guess at a password
	PhasePolicy       = "policy"   // asking the policy server, and waiting because of its answer
	PhaseAuth         = "auth"
	PhaseHashTurn     = "hash_turn" // within auth: waiting for the turn to hash a password
	PhaseHash         = "hash"      // within auth: hashing a password
	PhasePlacement    = "placement" // asking Consul on which backend the user is
	PhasePick         = "pick"
	PhasePaused       = "paused" // waiting for the end of the backend's pause
	PhaseTurn         = "turn"   // waiting for a slot among the logins at a backend
	PhasePool         = "pool"   // checking that a pooled connection is alive
	PhaseDial         = "dial"
	PhaseBackendLogin = "backend_login"
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
}

// phase is a completed part of a login.
type phase struct {
	name       string
	start, end time.Time
	err        error
	attrs      []attribute.KeyValue
	kind       trace.SpanKind
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
	attrs := []attribute.KeyValue{attribute.String("imapproxy.backend", to.Backend), semconv.NetworkTransportTCP}
	if host, port, split := net.SplitHostPort(to.Address); split == nil {
		attrs = append(attrs, semconv.ServerAddress(host))
		if n, bad := strconv.Atoi(port); bad == nil {
			attrs = append(attrs, semconv.ServerPort(n))
		}
	}
	if err != nil && to.Failure != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(to.Failure))
	}
	l.add(phase{name, start, end, err, attrs, trace.SpanKindClient})
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
// context to which commands link; it is the zero value if the trace isn't kept. A second call makes no spans.
func (l *LoginTrace) End(user, backend, outcome string, err error) trace.SpanContext {
	if l == nil {
		return trace.SpanContext{}
	}
	end := l.t.now()
	l.mu.Lock()
	phases, again := l.phases, l.ended
	l.ended, l.phases = true, nil
	l.kept = l.kept || !again && (err != nil || l.t.isSlow(end.Sub(l.start)) || l.t.samplesTrace(l.ids.TraceID()))
	kept := l.kept
	l.mu.Unlock()
	switch {
	case !kept:
		return trace.SpanContext{}
	case again:
		return l.ids.WithTraceFlags(trace.FlagsSampled)
	}
	attrs := []attribute.KeyValue{semconv.SessionID(valid(l.session)), attribute.String("imapproxy.outcome", valid(outcome))}
	attrs = l.t.names.clientAttrs(l.t.names.userAttrs(attrs, user), l.client)
	if backend != "" {
		attrs = append(attrs, attribute.String("imapproxy.backend", valid(backend)))
	}
	ctx, root := l.t.tracer.Start(context.WithValue(context.Background(), chosenIDs{}, l.ids), "login",
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(l.start), trace.WithAttributes(attrs...))
	for _, p := range phases {
		_, span := l.t.tracer.Start(ctx, p.name, trace.WithSpanKind(p.kind), trace.WithTimestamp(p.start), trace.WithAttributes(validAttrs(p.attrs)...))
		l.t.failSpan(span, p.err, user, l.client.Addr().String())
		span.End(trace.WithTimestamp(p.end))
	}
	l.t.failSpan(root, err, user, l.client.Addr().String())
	root.End(trace.WithTimestamp(end))
	return root.SpanContext()
}

// samplesTrace decides by the trace's id, as OpenTelemetry's ratio sampler does.
func (t *Telemetry) samplesTrace(id trace.TraceID) bool {
	const whole = 1 << 63
	return float64(binary.BigEndian.Uint64(id[8:])>>1) < t.sampleRatio()*whole
}

// failSpan marks a span as failed. The error's text is written without these names and addresses where they may not be written.
func (t *Telemetry) failSpan(span trace.Span, err error, names ...string) {
	if err != nil {
		span.SetStatus(codes.Error, shorten(t.names.text(err.Error(), names), maxErrorText))
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
