package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Bounds of the spans that wait to be exported. At about 2 KB a span, an endpoint that is down costs some 4
// MB.
const (
	spanQueue = 2048
	spanBatch = 512
)

// spanPipe passes finished spans to the exporter. It wraps the SDK's batch processor on both sides, as the
// processor before it and as its exporter, and adds what that lacks: an exact count of dropped spans, a way to end an
// export that is stuck, and failures that go to the proxy's log and counters instead of a global handler.
type spanPipe struct {
	exporter sdktrace.SpanExporter
	next     sdktrace.SpanProcessor
	own      *ownCounts
	log      *slog.Logger
	stopCtx  context.Context // done: exports in progress are abandoned

	waiting  atomic.Int64 // spans that the exporter hasn't received yet
	limit    int64
	done     chan struct{} // closed when the exporter has been shut down
	doneOnce sync.Once
}

// newSpanPipe makes the pipe. direct: each span is exported when it ends (for tests).
func newSpanPipe(stopCtx context.Context, e sdktrace.SpanExporter, direct bool, own *ownCounts, log *slog.Logger) *spanPipe {
	p := &spanPipe{exporter: e, own: own, log: log, stopCtx: stopCtx, limit: spanQueue, done: make(chan struct{})}
	if direct {
		p.next = sdktrace.NewSimpleSpanProcessor(pipeExporter{p})
	} else {
		p.next = sdktrace.NewBatchSpanProcessor(pipeExporter{p},
			sdktrace.WithMaxQueueSize(spanQueue),
			sdktrace.WithMaxExportBatchSize(spanBatch),
			sdktrace.WithExportTimeout(exportTimeout))
	}
	return p
}

// OnStart implements sdktrace.SpanProcessor.
func (p *spanPipe) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd queues a finished span, or drops and counts it if the queue is full. It never waits: its limit is
// that of the batch processor's queue, so that queue isn't full.
func (p *spanPipe) OnEnd(s sdktrace.ReadOnlySpan) {
	if p.waiting.Add(1) > p.limit {
		p.waiting.Add(-1)
		p.own.spansDropped.Add(1)
		return
	}
	p.next.OnEnd(s)
}

// ForceFlush implements sdktrace.SpanProcessor.
func (p *spanPipe) ForceFlush(ctx context.Context) error { return p.next.ForceFlush(ctx) }

// Shutdown implements sdktrace.SpanProcessor.
func (p *spanPipe) Shutdown(ctx context.Context) error { return p.next.Shutdown(ctx) }

// shutdown ends the provider and waits until the batch processor's goroutine has ended. When ctx ends first,
// stopCtx does too (see Telemetry.shutdown) and the rest of the queue fails at once; the second limit is for
// an exporter that ignores its context.
func (p *spanPipe) shutdown(ctx context.Context, provider *sdktrace.TracerProvider) error {
	err := provider.Shutdown(ctx)
	// The provider skips its processors if ctx has ended already. A second call does nothing.
	err = errors.Join(err, p.next.Shutdown(ctx))
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-grace.C:
	}
	return err
}

// pipeExporter is the pipe as the exporter of the batch processor.
type pipeExporter struct{ *spanPipe }

// ExportSpans implements sdktrace.SpanExporter. It returns no error: failures are counted and logged here,
// and the SDK's handler belongs to the process.
func (p pipeExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.stopCtx, cancel)()

	// After stop, the rest isn't even encoded: a full queue would cost seconds on a busy machine.
	err := p.stopCtx.Err()
	if err == nil {
		err = p.exporter.ExportSpans(ctx, spans)
	}
	n := int64(len(spans))
	p.waiting.Add(-n)
	if err != nil {
		p.own.spansFailed.Add(n)
	} else {
		p.own.spansExported.Add(n)
	}
	p.own.traces.note(p.log, "traces", err)
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (p pipeExporter) Shutdown(ctx context.Context) error {
	defer p.doneOnce.Do(func() { close(p.done) })
	return p.exporter.Shutdown(ctx)
}
