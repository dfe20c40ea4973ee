package telemetry

import (
	"cmp"
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// maxSteps bounds the steps of one piece of work. Later ones are left out.
const maxSteps = 24

// Steps are the consecutive parts of a piece of work for parked sessions. They are measured during the work;
// if its trace is kept, they become spans at the end. All methods may be called on nil, which Telemetry.Steps
// returns if traces are off. Steps belong to one goroutine at a time, and to telemetry after they were passed
// to it (Park, Resume, Resync).
type Steps struct {
	n    int
	from time.Time // where the next step begins
	list [maxSteps]step
}

// step is one completed part.
type step struct {
	name       string
	start, end time.Time
	err        error
	remote     bool   // a phase of a login at a backend
	to         string // its host:port, of such a phase
	failure    string // error.type, of such a phase
}

// Steps starts to record the steps of a piece of work.
func (t *Telemetry) Steps(start time.Time) *Steps {
	if t.tracer == nil {
		return nil
	}
	s := t.steps.Get().(*Steps)
	s.from = start
	return s
}

// Done records the end of a step, which began at the end of the previous one.
func (s *Steps) Done(name string, end time.Time, err error) {
	if s == nil {
		return
	}
	s.add(step{name: name, start: s.from, end: end, err: err})
	s.from = end
}

// AddRemote records a phase of a login at a backend, which is a part of the step that goes on.
func (s *Steps) AddRemote(name string, start, end time.Time, err error, to Peer) {
	if s == nil {
		return
	}
	if err == nil {
		to.Failure = ""
	}
	s.add(step{name: name, start: start, end: end, err: err, remote: true, to: to.Address, failure: to.Failure})
}

func (s *Steps) add(one step) {
	if s.n < maxSteps {
		s.list[s.n] = one
		s.n++
	}
}

// Mark returns a position for Fold.
func (s *Steps) Mark() int {
	if s == nil {
		return 0
	}
	return s.n
}

// Fold merges all steps since the mark into one: a failed attempt
// needs no details when another follows.
func (s *Steps) Fold(mark int, name string, end time.Time, err error) {
	if s == nil {
		return
	}
	start := s.from
	if mark < s.n {
		start = s.list[mark].start
		clear(s.list[mark:s.n])
		s.n = mark
	}
	s.add(step{name: name, start: start, end: end, err: err})
	s.from = end
}

// giveBack returns used steps to the pool.
func (t *Telemetry) giveBack(s *Steps) {
	if s == nil {
		return
	}
	*s = Steps{}
	t.steps.Put(s)
}

// work has the common fields of spans of pieces of work.
type work struct {
	name          string
	start, end    time.Time
	session       string            // "": it isn't for one session
	login         trace.SpanContext // of that session; the zero value is no link
	user, backend string
	address       string // the backend's host:port; "": unknown
	mailbox       string
	outcome       string
	err           error
	steps         *Steps
}

// keepsWork decides whether the trace of a piece of work is kept.
func (t *Telemetry) keepsWork(failed bool, took time.Duration) bool {
	return t.tracer != nil && (failed || t.isSlow(took) || t.sampled())
}

// keepsRetried decides whether the trace of retried work that ended now is kept.
func (t *Telemetry) keepsRetried(span, backend string, failed bool, took time.Duration, now time.Time) bool {
	return t.tracer != nil && (t.sampled() || (failed || t.isSlow(took)) && t.retried.mayKeep(span, backend, now))
}

// workSpans makes the spans of a piece of work that is over, with a span for each step: a part of the trace in
// ctx or, if there is none, a trace of its own.
func (t *Telemetry) workSpans(ctx context.Context, w *work, attrs ...attribute.KeyValue) {
	attrs = append(attrs, attribute.String("imapproxy.outcome", valid(w.outcome)))
	if w.backend != "" {
		attrs = append(attrs, attribute.String("imapproxy.backend", valid(w.backend)))
	}
	if mailbox := t.names.shown(w.mailbox); mailbox != "" {
		attrs = append(attrs, attribute.String("imapproxy.mailbox", valid(mailbox)))
	}
	if w.session != "" {
		attrs = append(attrs, semconv.SessionID(valid(w.session)))
	}
	attrs = t.names.userAttrs(attrs, w.user)
	start := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindInternal),
		trace.WithTimestamp(w.start), trace.WithAttributes(attrs...),
	}
	if !trace.SpanContextFromContext(ctx).IsValid() {
		if login := t.linkOf(w.session, w.login, w.err != nil || t.isSlow(w.end.Sub(w.start))); login.IsValid() {
			start = append(start, trace.WithLinks(loginLink(login)))
		}
	}
	ctx, root := t.tracer.Start(ctx, w.name, start...)
	if w.steps != nil {
		for i := range w.steps.list[:w.steps.n] {
			t.stepSpan(ctx, w, &w.steps.list[i])
		}
	}
	t.failSpan(root, w.err, w.user, w.mailbox)
	root.End(trace.WithTimestamp(w.end))
}

// loginLink links a later trace of a session to its login's.
func loginLink(login trace.SpanContext) trace.Link {
	return trace.Link{SpanContext: login, Attributes: []attribute.KeyValue{attribute.String("imapproxy.link", "login")}}
}

// stepSpan makes the span of a step.
func (t *Telemetry) stepSpan(ctx context.Context, w *work, s *step) {
	start := []trace.SpanStartOption{trace.WithTimestamp(s.start)}
	if s.remote || inConversation(s.name) {
		start = append(start, trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(remoteAttrs(w.backend, cmp.Or(s.to, w.address), cmp.Or(s.failure, failureOf(s.err)))...))
	}
	_, span := t.tracer.Start(ctx, s.name, start...)
	t.failSpan(span, s.err, w.user, w.mailbox)
	span.End(trace.WithTimestamp(s.end))
}
