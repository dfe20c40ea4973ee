package telemetry

import (
	"context"
	"fmt"
	"math"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/wire"
)

// The histograms of commands are like others: each value in its bucket, the sum, and exemplars of kept traces.
func TestCommandsHaveHistograms(t *testing.T) {
	for _, sample := range []float64{0, 1} {
		tel, err := Start(t.Context(), Options{Version: "test", LogWriter: t.Output(), Prometheus: true, SampleRatio: sample, SlowCommand: -1, SpanExporter: tracetest.NewInMemoryExporter()})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Unix(1000, 0)
		for _, wait := range []time.Duration{-time.Second, 0, 500 * time.Microsecond, 501 * time.Microsecond, 20 * time.Second, 21 * time.Second} {
			tel.Command(Command{Session: "s", Backend: "b", Verb: wire.Fetch, Status: "OK", Start: start, Sent: start, End: start.Add(wait), BackendWait: wait})
		}
		tel.Command(Command{Session: "s", Backend: "b", Verb: wire.Idle, Status: "OK", Start: start, Sent: start, End: start.Add(time.Hour), BackendWait: time.Hour})
		text := openMetrics(tel)
		for name, labels := range map[string]string{
			"imapproxy_command_duration_seconds":        `status="OK",verb="FETCH"`,
			"imapproxy_command_backend_wait_seconds":    `verb="FETCH"`,
			"imapproxy_backend_answer_duration_seconds": `backend="b",class="fetch",status="OK"`,
		} {
			for _, line := range []string{`_bucket\{%s,le="0\.0005"\} 3\b`, `_bucket\{%s,le="0\.001"\} 4\b`, `_bucket\{%s,le="5\.0"\} 4\b`, `_bucket\{%s,le="20\.0"\} 5\b`,
				`_bucket\{%s,le="\+Inf"\} 6\b`, `_sum\{%s\} 41\.001001\b`, `_count\{%s\} 6\b`} {
				if line = name + fmt.Sprintf(line, labels); !regexp.MustCompile(`(?m)^` + line).MatchString(text) {
					t.Errorf("there is no %s in\n%s", line, of(text, name))
				}
			}
			if strings.Contains(of(text, name), `verb="IDLE"`) || strings.Contains(of(text, name), `class="other"`) {
				t.Errorf("IDLE is in %s", name)
			}
			if got := strings.Contains(of(text, name), "trace_id="); got != (sample == 1) {
				t.Errorf("sampled %v, with exemplars: %v\n%s", sample, got, of(text, name))
			}
			if strings.Count(text, "# TYPE "+name+" histogram") != 1 {
				t.Errorf("the type of %s is missing or there twice", name)
			}
		}
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// openMetrics returns all metrics as OpenMetrics text.
func openMetrics(tel *Telemetry) string {
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(w, r)
	return w.Body.String()
}

// of returns the lines of a metric.
func of(text, name string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, name) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// Backends that come and go can't add series for ever.
func TestAHotHistogramHasABound(t *testing.T) {
	h := newHotHistogram(nameBackendAnswer, time.Now())
	set := func(i int) attribute.Set { return attribute.NewSet(attribute.Int("backend", i)) }
	for i := range maxSeries + 10 {
		h.series(set(i)).add(time.Second, nil, time.Time{})
	}
	if len(h.all) != maxSeries || h.series(set(maxSeries+100)) != h.series(overflows) || h.series(set(3)) == h.series(overflows) {
		t.Errorf("%d series", len(h.all))
	}
	if p := h.series(overflows).point(); p.Count != 11 || p.Sum != 11 {
		t.Errorf("%d times have overflowed, %v s", p.Count, p.Sum)
	}
}

// A reader that wants differences gets what was counted since it last read; another reader's looks don't matter.
func TestAReaderMayWantDifferences(t *testing.T) {
	h := newHot(time.Now())
	s := h.wait.series(attribute.NewSet(attribute.String("verb", "FETCH")))
	delta, all := h.reader(metricdata.DeltaTemporality), h.reader(metricdata.CumulativeTemporality)
	read := func(r *hotReader) (found metricdata.Histogram[float64]) {
		t.Helper()
		scopes, err := r.Produce(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, scope := range scopes {
			for _, m := range scope.Metrics {
				if found = m.Data.(metricdata.Histogram[float64]); m.Name != nameCommandBackendWait || len(found.DataPoints) != 1 {
					t.Fatalf("%s has %d points", m.Name, len(found.DataPoints))
				}
			}
		}
		return found
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: newTraceID(), SpanID: newSpanID(), TraceFlags: trace.FlagsSampled})
	var last time.Time
	for i, want := range []struct {
		times     []time.Duration
		exemplars int
	}{
		{[]time.Duration{time.Second, time.Hour}, 2},
		{[]time.Duration{time.Second}, 1},
		{nil, 0},
		{[]time.Duration{time.Millisecond, time.Millisecond}, 1},
	} {
		sum := 0.0
		for _, d := range want.times {
			s.add(d, &span, time.Now())
			sum += d.Seconds()
		}
		got := read(delta)
		if len(want.times) == 0 {
			if len(got.DataPoints) != 0 {
				t.Errorf("%d: %+v", i, got)
			}
			continue
		}
		p := got.DataPoints[0]
		buckets := uint64(0)
		for _, n := range p.BucketCounts {
			buckets += n
		}
		if n := uint64(len(want.times)); got.Temporality != metricdata.DeltaTemporality || p.Count != n || buckets != n || math.Abs(p.Sum-sum) > 1e-9 || len(p.Exemplars) != want.exemplars || p.StartTime.Before(last) || !p.Time.After(p.StartTime) {
			t.Errorf("%d: %+v", i, got)
		}
		last = p.Time
	}
	got := read(all)
	if p := got.DataPoints[0]; got.Temporality != metricdata.CumulativeTemporality || p.Count != 5 || p.Sum != 3602.002 || len(p.Exemplars) != 3 || !p.StartTime.Equal(h.wait.since) {
		t.Errorf("%+v", got)
	}
}
