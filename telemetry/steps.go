package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// maxSteps bounds what one piece of work remembers. Beyond it the last steps are
// left out.
const maxSteps = 24

// Steps are the parts of a piece of work for parked sessions, one after the
// other: measured while it goes on, made into spans when it is over and its trace is
// kept. All methods may be called on nil, which is what Telemetry.Steps returns
// where traces are off. It belongs to one goroutine at a time, and to telemetry
// again once it was handed in (Park, Resume, Resync).
type Steps struct {
	n    int
	from time.Time // where the next step begins
	list [maxSteps]step
}

// step is one part that is over.
type step struct {
	name       string
	start, end time.Time
	err        error
}

// Steps begins to note the steps of a piece of work.
func (t *Telemetry) Steps(start time.Time) *Steps {
	if t.tracer == nil {
		return nil
	}
	s := t.steps.Get().(*Steps)
	s.from = start
	return s
}

// Done notes that a step is over, which began where the one before it ended.
func (s *Steps) Done(name string, end time.Time, err error) {
	if s == nil {
		return
	}
	s.add(step{name, s.from, end, err})
	s.from = end
}

func (s *Steps) add(one step) {
	if s.n < maxSteps {
		s.list[s.n] = one
		s.n++
	}
}

// Mark is a place that Fold can go back to.
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
	s.add(step{name, start, end, err})
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

// work is what spans of pieces of work have in common.
type work struct {
	name          string
	start, end    time.Time
	session       string            // "" it isn't one session's
	login         trace.SpanContext // of that session; the zero value is no link
	user, backend string
	mailbox       string
	outcome       string
	err           error
	steps         *Steps
}

// keepsWork decides whether the trace of a piece of work is kept.
func (t *Telemetry) keepsWork(failed bool, took time.Duration) bool {
	return t.tracer != nil && (failed || t.isSlow(took) || t.sampled())
}

// workSpans makes the spans of a piece of work that is over: a trace of its own,
// with a span for each step.
func (t *Telemetry) workSpans(w *work, attrs ...attribute.KeyValue) {
	attrs = append(attrs,
		attribute.String("imapproxy.backend", valid(w.backend)),
		attribute.String("imapproxy.outcome", valid(w.outcome)))
	if w.mailbox != "" {
		attrs = append(attrs, attribute.String("imapproxy.mailbox", valid(w.mailbox)))
	}
	if w.session != "" {
		attrs = append(attrs, semconv.SessionID(valid(w.session)))
	}
	if w.user != "" {
		attrs = append(attrs, semconv.UserName(valid(w.user)))
	}
	start := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindInternal),
		trace.WithTimestamp(w.start), trace.WithAttributes(attrs...),
	}
	if w.login.IsValid() {
		start = append(start, trace.WithLinks(loginLink(w.login)))
	}
	ctx, root := t.tracer.Start(context.Background(), w.name, start...)
	if w.steps != nil {
		for _, one := range w.steps.list[:w.steps.n] {
			_, span := t.tracer.Start(ctx, one.name, trace.WithTimestamp(one.start))
			failSpan(span, one.err)
			span.End(trace.WithTimestamp(one.end))
		}
	}
	failSpan(root, w.err)
	root.End(trace.WithTimestamp(w.end))
}

// loginLink leads from a later trace of a session to its login's.
func loginLink(login trace.SpanContext) trace.Link {
	return trace.Link{SpanContext: login, Attributes: []attribute.KeyValue{attribute.String("imapproxy.link", "login")}}
}
