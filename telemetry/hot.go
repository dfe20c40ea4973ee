package telemetry

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"imapproxy/proxy/wire"
)

// The code that every relayed command and every read runs. Nothing here may allocate or lock: the counters
// are atomics that the exporters read through observable instruments, and the attribute sets of the
// histograms are made once, for the closed set of verbs and statuses.

// Direction says which way bytes went.
type Direction int

// The directions of the relay.
const (
	In  Direction = iota // from the client to the backend
	Out                  // from the backend to the client
)

// commandCell has the figures of one verb with one status.
type commandCell struct {
	count   atomic.Int64
	options []metric.RecordOption  // for the histogram
	observe []metric.ObserveOption // for the counter
}

// paddedInt64 fills a cache line, since different cores count both directions at the same time.
type paddedInt64 struct {
	atomic.Int64
	_ [56]byte
}

// initHot makes the attribute sets of all verbs and statuses.
func (m *metrics) initHot() {
	for i, verb := range wire.Verbs() {
		byVerb := metric.WithAttributeSet(attribute.NewSet(attribute.String("verb", verb)))
		m.backendWaitOptions[i] = []metric.RecordOption{byVerb}
		for j, status := range statusLabels {
			set := metric.WithAttributeSet(attribute.NewSet(
				attribute.String("verb", verb), attribute.String("status", status)))
			cell := &m.commands[i][j]
			cell.options = []metric.RecordOption{set}
			cell.observe = []metric.ObserveOption{set}
		}
	}
}

// command counts one command; see Telemetry.Command. IDLE is counted but isn't in the histogram, since it
// lasts as long as the client wants.
func (m *metrics) command(c *Command, took time.Duration) {
	cell := &m.commands[c.Verb][statusIndex(c.Status)]
	cell.count.Add(1)
	if c.Verb == wire.Idle {
		return
	}
	ctx := context.Background()
	m.commandDuration.Record(ctx, seconds(took), cell.options...)
	m.commandBackendWait.Record(ctx, seconds(c.BackendWait), m.backendWaitOptions[c.Verb]...)
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
