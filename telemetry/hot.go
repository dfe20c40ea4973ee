package telemetry

import (
	"context"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/wire"
)

// The code that every relayed command and every read runs. Nothing here may allocate or lock: the counters
// are atomics that the exporters read through observable instruments, the histograms are our own, and the attribute sets
// are made once, for the closed set of verbs and statuses.

// initHot makes the attribute sets of all verbs and statuses.
func (m *metrics) initHot() {
	for i, verb := range wire.Verbs() {
		byVerb := attribute.NewSet(attribute.String("verb", verb))
		m.verbOptions[i] = []metric.RecordOption{metric.WithAttributeSet(byVerb)}
		m.waits[i] = m.hot.wait.series(byVerb)
		for j, status := range statusLabels {
			set := attribute.NewSet(attribute.String("verb", verb), attribute.String("status", status))
			cell := &m.commands[i][j]
			cell.observe = []metric.ObserveOption{metric.WithAttributeSet(set)}
			cell.duration = m.hot.duration.series(set)
		}
	}
}

// observeCommands exports the counters of the commands that have occurred.
func (m *metrics) observeCommands(_ context.Context, o metric.Int64Observer) error {
	for i := range m.commands {
		for j := range m.commands[i] {
			cell := &m.commands[i][j]
			if n := cell.count.Load(); n > 0 {
				o.Observe(n, cell.observe...)
			}
		}
	}
	return nil
}

// observeRelayed exports the byte counters.
func (m *metrics) observeRelayed(_ context.Context, o metric.Int64Observer) error {
	o.Observe(m.relayed[In].Load(), metric.WithAttributes(attribute.String("direction", "in")))
	o.Observe(m.relayed[Out].Load(), metric.WithAttributes(attribute.String("direction", "out")))
	return nil
}

// AddBytes counts n bytes of IMAP relayed in a direction. Only AddBytes changes these counters (the byte
// counts of a Command are in its span only), so call it once for each piece that was written.
func (t *Telemetry) AddBytes(d Direction, n int64) {
	if t.metrics == nil || n <= 0 {
		return
	}
	t.metrics.relayed[d&1].Add(n)
}

// Command describes one command, measured while it ran and recorded when it is over.
type Command struct {
	Session string            // the session's id
	Login   trace.SpanContext // what LoginTrace.End returned; the zero value is no link
	User    string            // canonical name; in spans only, as far as Options.Personal permits
	Client  netip.AddrPort    // the client's address; under the same terms
	Backend string            // the backend's name
	Address string            // the backend's host:port; in spans only, "": unknown

	Verb   wire.Verb
	Status string // "OK", "NO" or "BAD"; StatusClosed; "" means that it was cut off

	Start time.Time // when its first byte was read
	Sent  time.Time // when its last byte was sent to the backend; zero: it wasn't
	End   time.Time // when the last byte of its tagged answer was sent to the client

	// The shares of End-Start: ResumeWait, in which the session had no backend connection; Forward, until the
	// command was with the backend; BackendWait, in which the proxy waited for the backend. In the rest the client
	// didn't read. Forward has no meaning if Sent is zero.
	ResumeWait, Forward, BackendWait time.Duration
	// FirstAnswer is the time from Sent to the first byte that the backend then sent; 0: it isn't known.
	FirstAnswer       time.Duration
	BytesIn, BytesOut int64 // of this command, for its span; see AddBytes
	// Resume is the resume for which the command waited, which becomes a part of the command's trace; nil: none. It
	// comes from Resumed.
	Resume *Resume
}

// command counts one command; see Telemetry.Command. IDLE is counted but isn't in the histograms, since it
// lasts as long as the client wants. span is the command's if its trace is kept, and the exemplar of the histograms; else it is nil. at is
// of the backend; nil: the command didn't get there.
func (m *metrics) command(span *trace.SpanContext, c *Command, took time.Duration, at *recentBackend) {
	status := statusIndex(c.Status)
	cell := &m.commands[c.Verb][status]
	cell.count.Add(1)
	if c.Verb == wire.Idle {
		return
	}
	cell.duration.add(took, span, c.End)
	m.waits[c.Verb].add(c.BackendWait, span, c.End)
	if at != nil {
		at.series(m.hot.answer, c.Backend, classOf(c.Verb), status).add(c.BackendWait, span, c.End)
	}
	if c.ResumeWait > 0 {
		ctx := context.Background()
		if span != nil {
			ctx = exemplified(*span)
		}
		m.commandResumeWait.Record(ctx, seconds(c.ResumeWait), m.verbOptions[c.Verb]...)
	}
}
