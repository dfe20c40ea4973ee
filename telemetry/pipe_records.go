package telemetry

import (
	"context"
	"errors"
	"log/slog"

	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Bounds of the log records that wait to be exported. At about 1 KB a record, an endpoint that is down costs some 2 MB.
const (
	recordQueue = 2048
	recordBatch = 512
)

// recordPipe passes log records to the exporter, as spanPipe does finished spans.
type recordPipe struct {
	pipe
	exporter sdklog.Exporter
	next     *sdklog.BatchProcessor
	provider *sdklog.LoggerProvider
}

// newRecordPipe makes the pipe, and the provider whose records go through it.
func newRecordPipe(stopCtx context.Context, e sdklog.Exporter, res *resource.Resource, own *ownCounts, log func() *slog.Logger) *recordPipe {
	p := &recordPipe{exporter: e, pipe: pipe{of: &own.records, to: &own.logs, signal: "logs", log: log, stopCtx: stopCtx, limit: recordQueue, done: make(chan struct{})}}
	p.next = sdklog.NewBatchProcessor(recordExporter{p},
		sdklog.WithMaxQueueSize(recordQueue),
		sdklog.WithExportMaxBatchSize(recordBatch),
		sdklog.WithExportTimeout(exportTimeout))
	p.provider = sdklog.NewLoggerProvider(sdklog.WithResource(res), sdklog.WithProcessor(p))
	return p
}

// Enabled implements sdklog.Processor.
func (p *recordPipe) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

// OnEmit queues a record, or drops and counts it if the queue is full. It never waits.
func (p *recordPipe) OnEmit(ctx context.Context, r *sdklog.Record) error {
	if !p.admits() {
		return nil
	}
	return p.next.OnEmit(ctx, r)
}

// ForceFlush implements sdklog.Processor.
func (p *recordPipe) ForceFlush(ctx context.Context) error { return p.next.ForceFlush(ctx) }

// Shutdown implements sdklog.Processor.
func (p *recordPipe) Shutdown(ctx context.Context) error { return p.next.Shutdown(ctx) }

// shutdown ends the provider and waits for its end. Records that the processor didn't hand over by the end of ctx count as failed.
func (p *recordPipe) shutdown(ctx context.Context) error {
	err := p.provider.Shutdown(ctx)
	// The provider skips its processors if ctx has ended already. A second call does nothing.
	err = errors.Join(err, p.next.Shutdown(ctx))
	p.awaitEnd()
	p.of.failed.Add(max(p.waiting.Swap(0), 0))
	return err
}

// recordExporter is the pipe as the exporter of the batch processor.
type recordExporter struct{ *recordPipe }

// Export implements sdklog.Exporter. It returns no error: failures are counted and logged here, and the SDK's handler belongs to the process.
func (p recordExporter) Export(ctx context.Context, records []sdklog.Record) error {
	if len(records) > 0 {
		p.export(ctx, len(records), func(ctx context.Context) error { return p.exporter.Export(ctx, records) })
	}
	return nil
}

// ForceFlush implements sdklog.Exporter.
func (p recordExporter) ForceFlush(ctx context.Context) error { return p.exporter.ForceFlush(ctx) }

// Shutdown implements sdklog.Exporter.
func (p recordExporter) Shutdown(ctx context.Context) error {
	defer p.exporterEnded()
	return p.exporter.Shutdown(ctx)
}
