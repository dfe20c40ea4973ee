package telemetry

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/wire"
)

// waits is the histogram of the waits for backends by verb. The histogram by backend has each of these values too, and a second instrument
// would cost every relayed command a lock and a search for its attributes: this one costs two atomic additions, and is read when it is scraped.
// It implements sdkmetric.Producer, so it is cumulative whatever OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE says.
type waits struct {
	since  time.Time
	row    Instrument      // of the table
	bounds []time.Duration // of row.Buckets, which are in seconds
	verbs  [wire.NumVerbs]waitsOfVerb
}

type waitsOfVerb struct {
	sum     atomic.Int64 // ns
	buckets []waitBucket // one more than there are bounds; the last one has what is longer than all
}

type waitBucket struct {
	count atomic.Uint64
	kept  atomic.Pointer[metricdata.Exemplar[float64]] // of the last command whose trace is kept; nil: none
}

// newWaits returns the histogram. since is when it begins to count.
func newWaits(since time.Time) *waits {
	w := &waits{since: since}
	for _, row := range Instruments() {
		if row.Name == nameCommandBackendWait {
			w.row = row
		}
	}
	for _, s := range w.row.Buckets {
		w.bounds = append(w.bounds, time.Duration(s*float64(time.Second)))
	}
	for v := range w.verbs {
		w.verbs[v].buckets = make([]waitBucket, len(w.bounds)+1)
	}
	return w
}

// add counts a command's wait. If ctx has a kept trace, it becomes the exemplar.
func (w *waits) add(ctx context.Context, verb wire.Verb, wait time.Duration, end time.Time) {
	v := &w.verbs[verb]
	i := 0
	for i < len(w.bounds) && wait > w.bounds[i] {
		i++
	}
	v.buckets[i].count.Add(1)
	v.sum.Add(int64(wait))
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		traceID, spanID := span.TraceID(), span.SpanID()
		v.buckets[i].kept.Store(&metricdata.Exemplar[float64]{Time: end, Value: seconds(wait), TraceID: traceID[:], SpanID: spanID[:]})
	}
}

// Produce implements sdkmetric.Producer. Verbs that haven't occurred have no series.
func (w *waits) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	var points []metricdata.HistogramDataPoint[float64]
	for v := range w.verbs {
		p := metricdata.HistogramDataPoint[float64]{StartTime: w.since, Time: now, Bounds: slices.Clone(w.row.Buckets)}
		for i := range w.verbs[v].buckets {
			b := &w.verbs[v].buckets[i]
			n := b.count.Load()
			p.Count += n
			p.BucketCounts = append(p.BucketCounts, n)
			if kept := b.kept.Load(); kept != nil {
				p.Exemplars = append(p.Exemplars, *kept)
			}
		}
		if p.Count == 0 {
			continue
		}
		p.Sum = seconds(time.Duration(w.verbs[v].sum.Load()))
		p.Attributes = attribute.NewSet(attribute.String("verb", wire.Verb(v).String()))
		points = append(points, p)
	}
	if len(points) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scopeName}, Metrics: []metricdata.Metrics{{
		Name: w.row.Name, Unit: w.row.Unit, Description: w.row.Help,
		Data: metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality, DataPoints: points},
	}}}}, nil
}
