package telemetry

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
)

// maxSeries is how many combinations of attributes an instrument keeps, as the SDK's do. What comes after counts with overflows instead.
const maxSeries = 2000

var overflows = attribute.NewSet(attribute.Bool("otel.metric.overflow", true))

// hotHistogram is a histogram of times that every relayed command changes. An instrument of the SDK would look for the attributes each time; a series
// of this one, which the caller remembers, costs two atomic additions, and is read when it is scraped or exported.
type hotHistogram struct {
	row    Instrument      // of the table
	bounds []time.Duration // of row.Buckets, which are in seconds
	since  time.Time       // when it began to count

	mu  sync.Mutex // guards all
	all map[attribute.Distinct]*hotSeries
}

// hotSeries has the times with the same attributes.
type hotSeries struct {
	attrs  attribute.Set
	bounds []time.Duration
	sum    atomic.Int64 // ns
	cells  []hotCell    // one more than there are bounds; the last one has what is longer than all
}

type hotCell struct {
	count atomic.Uint64
	kept  atomic.Pointer[metricdata.Exemplar[float64]] // of the last command whose trace is kept; nil: none
}

// newHotHistogram returns the histogram of this name in the table of instruments.
func newHotHistogram(name string, since time.Time) *hotHistogram {
	h := &hotHistogram{since: since, all: map[attribute.Distinct]*hotSeries{}}
	for _, row := range Instruments() {
		if row.Name == name {
			h.row = row
		}
	}
	for _, s := range h.row.Buckets {
		h.bounds = append(h.bounds, time.Duration(math.Round(s*float64(time.Second))))
	}
	return h
}

// series returns the series with these attributes, which the caller remembers.
func (h *hotHistogram) series(attrs attribute.Set) *hotSeries {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.all[attrs.Equivalent()]
	if s == nil && len(h.all) >= maxSeries-1 {
		attrs = overflows
		s = h.all[attrs.Equivalent()]
	}
	if s == nil {
		s = &hotSeries{attrs: attrs, bounds: h.bounds, cells: make([]hotCell, len(h.bounds)+1)}
		h.all[attrs.Equivalent()] = s
	}
	return s
}

// add counts a time. span is the exemplar of the time that ended at end; nil: its trace isn't kept.
func (s *hotSeries) add(d time.Duration, span *trace.SpanContext, end time.Time) {
	d = max(d, 0) // a clock may be set back
	i := 0
	for i < len(s.bounds) && d > s.bounds[i] {
		i++
	}
	cell := &s.cells[i]
	cell.count.Add(1)
	s.sum.Add(int64(d))
	if span != nil {
		traceID, spanID := span.TraceID(), span.SpanID()
		cell.kept.Store(&metricdata.Exemplar[float64]{Time: end, Value: seconds(d), TraceID: traceID[:], SpanID: spanID[:]})
	}
}

// occurred says whether anything was counted.
func (s *hotSeries) occurred() bool {
	for i := range s.cells {
		if s.cells[i].count.Load() > 0 {
			return true
		}
	}
	return false
}

// point returns what the series has counted since the beginning.
func (s *hotSeries) point() metricdata.HistogramDataPoint[float64] {
	p := metricdata.HistogramDataPoint[float64]{Attributes: s.attrs, BucketCounts: make([]uint64, len(s.cells))}
	for i := range s.cells {
		n := s.cells[i].count.Load()
		p.BucketCounts[i], p.Count = n, p.Count+n
		if kept := s.cells[i].kept.Load(); kept != nil {
			p.Exemplars = append(p.Exemplars, *kept)
		}
	}
	p.Sum = seconds(time.Duration(s.sum.Load()))
	return p
}

// hot has the histograms that every relayed command changes.
type hot struct{ duration, wait, answer *hotHistogram }

// newHot returns the histograms. They count from now on.
func newHot(now time.Time) *hot {
	return &hot{duration: newHotHistogram(nameCommandDuration, now), wait: newHotHistogram(nameCommandBackendWait, now), answer: newHotHistogram(nameBackendAnswer, now)}
}

// reader returns what gives the histograms to one reader; temporality is what it wants.
func (h *hot) reader(temporality metricdata.Temporality) *hotReader {
	r := &hotReader{histograms: []*hotHistogram{h.duration, h.wait, h.answer}}
	if temporality == metricdata.DeltaTemporality {
		r.delta, r.before = true, map[*hotSeries]metricdata.HistogramDataPoint[float64]{}
	}
	return r
}

// hotReader gives hotHistograms to one of the SDK's readers. It implements sdkmetric.Producer.
type hotReader struct {
	histograms []*hotHistogram
	delta      bool // the reader wants what was counted since it last read

	mu     sync.Mutex                                            // guards the following
	read   time.Time                                             // when the reader last read
	before map[*hotSeries]metricdata.HistogramDataPoint[float64] // what was counted then; nil unless delta
}

// Produce implements sdkmetric.Producer. A series in which nothing was counted isn't there.
func (r *hotReader) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	scope := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scopeName}}
	for _, h := range r.histograms {
		if points := r.pointsLocked(h, now); len(points) > 0 {
			data := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality, DataPoints: points}
			if r.delta {
				data.Temporality = metricdata.DeltaTemporality
			}
			scope.Metrics = append(scope.Metrics, metricdata.Metrics{Name: h.row.Name, Unit: h.row.Unit, Description: h.row.Help, Data: data})
		}
	}
	r.read = now
	if len(scope.Metrics) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{scope}, nil
}

func (r *hotReader) pointsLocked(h *hotHistogram, now time.Time) (points []metricdata.HistogramDataPoint[float64]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.all {
		if !s.occurred() {
			continue
		}
		p := s.point()
		if r.delta {
			all := p
			p = since(p, r.before[s], r.read)
			r.before[s] = all
		}
		if p.Count > 0 {
			p.StartTime, p.Time, p.Bounds = h.since, now, slices.Clone(h.row.Buckets)
			if r.delta && !r.read.IsZero() {
				p.StartTime = r.read
			}
			points = append(points, p)
		}
	}
	return points
}

// since returns what of p was counted after before, which was read at a time.
func since(p, before metricdata.HistogramDataPoint[float64], read time.Time) metricdata.HistogramDataPoint[float64] {
	p.BucketCounts = slices.Clone(p.BucketCounts)
	for i, n := range before.BucketCounts {
		p.BucketCounts[i] -= n
	}
	p.Count, p.Sum = p.Count-before.Count, p.Sum-before.Sum
	p.Exemplars = slices.DeleteFunc(slices.Clone(p.Exemplars), func(e metricdata.Exemplar[float64]) bool { return e.Time.Before(read) })
	return p
}
