package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// exportTimeout bounds one request to an OTLP endpoint, retries included.
const exportTimeout = 10 * time.Second

// ownCounts counts the work of telemetry itself, whether or not a reader uses the counts.
type ownCounts struct {
	spans           outcomes
	records         outcomes     // of the log's lines, where they are exported
	logLinesDropped atomic.Int64 // the queue was full
	logLinesFailed  atomic.Int64 // the write failed
	traces          delivery
	metrics         delivery
	logs            delivery
}

// outcomes counts what became of spans or log records that were to be exported.
type outcomes struct{ exported, failed, dropped atomic.Int64 }

func (c *outcomes) observe(_ context.Context, o metric.Int64Observer) error {
	o.Observe(c.exported.Load(), with(attribute.String("outcome", "exported")))
	o.Observe(c.failed.Load(), with(attribute.String("outcome", "failed")))
	o.Observe(c.dropped.Load(), with(attribute.String("outcome", "dropped")))
	return nil
}

func (c *ownCounts) observeExports(_ context.Context, o metric.Int64Observer) error {
	for _, s := range []struct {
		signal string
		d      *delivery
	}{{"traces", &c.traces}, {"metrics", &c.metrics}, {"logs", &c.logs}} {
		o.Observe(s.d.ok.Load(), with(attribute.String("signal", s.signal), attribute.String("outcome", "ok")))
		o.Observe(s.d.failed.Load(), with(attribute.String("signal", s.signal), attribute.String("outcome", "error")))
	}
	return nil
}

func (c *ownCounts) observeLogLines(_ context.Context, o metric.Int64Observer) error {
	o.Observe(c.logLinesDropped.Load(), with(label("reason", "slow")))
	o.Observe(c.logLinesFailed.Load(), with(label("reason", "failed")))
	return nil
}

// delivery follows the exports of one signal. It logs when they begin to fail or succeed again, and not each
// failure: an endpoint may be down for days.
type delivery struct {
	ok, failed atomic.Int64
	failing    atomic.Bool
}

// note records the outcome of one export.
func (d *delivery) note(log *slog.Logger, signal string, err error) {
	if err == nil {
		d.ok.Add(1)
		if d.failing.Swap(false) {
			log.Info("telemetry is being delivered again", "signal", signal)
		}
		return
	}
	d.failed.Add(1)
	if !d.failing.Swap(true) {
		log.Warn("telemetry cannot be delivered; what does not fit the queue is dropped",
			"signal", signal, "error", shorten(err.Error(), maxErrorText))
	}
}

// maxErrorText bounds error texts in logs and spans, in bytes: some quote the peer's data.
const maxErrorText = 300

// shorten cuts a text to at most n bytes and makes it valid UTF-8.
func shorten(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return valid(s)
}
