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

// pipe counts what waits to be exported and what becomes of it. It adds what the SDK's batch processors lack: an exact count of what was dropped,
// a way to end an export that is stuck, and failures that go to the proxy's log and counters instead of a global handler.
type pipe struct {
	of      *outcomes
	to      *delivery
	signal  string
	log     func() *slog.Logger
	stopCtx context.Context // done: exports in progress are abandoned

	waiting  atomic.Int64 // what the exporter hasn't received yet
	limit    int64
	done     chan struct{} // closed when the exporter has been shut down
	doneOnce sync.Once
}

// admits says whether one more may wait, and counts it as waiting or as dropped. The limit is that of the batch processor's queue, so
// that queue isn't full.
func (p *pipe) admits() bool {
	if p.waiting.Add(1) > p.limit {
		p.waiting.Add(-1)
		p.of.dropped.Add(1)
		return false
	}
	return true
}

// export sends n of what waits.
func (p *pipe) export(ctx context.Context, n int, send func(context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.stopCtx, cancel)()

	// After stop, the rest isn't even encoded: a full queue would cost seconds on a busy machine.
	err := p.stopCtx.Err()
	if err == nil {
		err = send(ctx)
	}
	p.waiting.Add(-int64(n))
	if err != nil {
		p.of.failed.Add(int64(n))
	} else {
		p.of.exported.Add(int64(n))
	}
	p.to.note(p.log(), p.signal, err)
}

// exporterEnded notes that the exporter has been shut down.
func (p *pipe) exporterEnded() { p.doneOnce.Do(func() { close(p.done) }) }

// awaitEnd waits until the batch processor's goroutine has ended. When the context of the shutdown ends, stopCtx
// does too (see Telemetry.shutdown) and the rest of the queue fails at once; the limit here is for an exporter that ignores its context.
func (p *pipe) awaitEnd() {
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-grace.C:
	}
}

// spanPipe passes finished spans to the exporter. It wraps the SDK's batch processor on both sides, as the
// processor before it and as its exporter.
type spanPipe struct {
	pipe
	exporter sdktrace.SpanExporter
	next     sdktrace.SpanProcessor
}

// newSpanPipe makes the pipe. direct: each span is exported when it ends (for tests).
func newSpanPipe(stopCtx context.Context, e sdktrace.SpanExporter, direct bool, own *ownCounts, log func() *slog.Logger) *spanPipe {
	p := &spanPipe{exporter: e, pipe: pipe{of: &own.spans, to: &own.traces, signal: "traces", log: log, stopCtx: stopCtx, limit: spanQueue, done: make(chan struct{})}}
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

// OnEnd queues a finished span, or drops and counts it if the queue is full. It never waits.
func (p *spanPipe) OnEnd(s sdktrace.ReadOnlySpan) {
	if p.admits() {
		p.next.OnEnd(s)
	}
}

// ForceFlush implements sdktrace.SpanProcessor.
func (p *spanPipe) ForceFlush(ctx context.Context) error { return p.next.ForceFlush(ctx) }

// Shutdown implements sdktrace.SpanProcessor.
func (p *spanPipe) Shutdown(ctx context.Context) error { return p.next.Shutdown(ctx) }

// shutdown ends the provider and waits for its end.
func (p *spanPipe) shutdown(ctx context.Context, provider *sdktrace.TracerProvider) error {
	err := provider.Shutdown(ctx)
	// The provider skips its processors if ctx has ended already. A second call does nothing.
	err = errors.Join(err, p.next.Shutdown(ctx))
	p.awaitEnd()
	return err
}

// pipeExporter is the pipe as the exporter of the batch processor.
type pipeExporter struct{ *spanPipe }

// ExportSpans implements sdktrace.SpanExporter. It returns no error: failures are counted and logged here,
// and the SDK's handler belongs to the process.
func (p pipeExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	p.export(ctx, len(spans), func(ctx context.Context) error { return p.exporter.ExportSpans(ctx, spans) })
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (p pipeExporter) Shutdown(ctx context.Context) error {
	defer p.exporterEnded()
	return p.exporter.Shutdown(ctx)
}
