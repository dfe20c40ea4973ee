package telemetry

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// sampleRatio is the share of traces that are kept although they went well.
func (t *Telemetry) sampleRatio() float64 { return math.Float64frombits(t.ratio.Load()) }

// sampled decides at random whether a trace that went well is kept. It doesn't allocate.
func (t *Telemetry) sampled() bool {
	return rand.Float64() < t.sampleRatio()
}

// exemplified returns the context for the measurements of what a trace describes: they keep it as an exemplar, if it is kept.
func exemplified(kept trace.SpanContext) context.Context {
	if !kept.IsSampled() {
		return context.Background()
	}
	return trace.ContextWithSpanContext(context.Background(), kept)
}

// chosenIDs is the context key of the ids that a trace was given before its first span was made.
type chosenIDs struct{}

// idGenerator makes ids, unless the context has the ids of a root span.
type idGenerator struct{}

// NewIDs implements sdktrace.IDGenerator.
func (idGenerator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if sc, ok := ctx.Value(chosenIDs{}).(trace.SpanContext); ok {
		return sc.TraceID(), sc.SpanID()
	}
	return newTraceID(), newSpanID()
}

// NewSpanID implements sdktrace.IDGenerator.
func (idGenerator) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpanID() }

// newTraceID returns a random id that isn't zero.
func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:8], rand.Uint64())
		binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

// newSpanID returns a random id that isn't zero.
func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}
