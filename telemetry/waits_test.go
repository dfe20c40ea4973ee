package telemetry

import (
	"context"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"imapproxy/proxy/wire"
)

// The waits by verb are a histogram like others: each value in its bucket, the sum, and exemplars of kept traces.
func TestWaitsByVerbAreAHistogram(t *testing.T) {
	for _, sample := range []float64{0, 1} {
		tel, err := Start(t.Context(), Options{Version: "test", LogWriter: t.Output(), Prometheus: true, SampleRatio: sample, SlowCommand: -1, SpanExporter: tracetest.NewInMemoryExporter()})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Unix(1000, 0)
		for _, wait := range []time.Duration{0, 500 * time.Microsecond, 501 * time.Microsecond, 20 * time.Second, 21 * time.Second} {
			tel.Command(Command{Session: "s", Backend: "b", Verb: wire.Fetch, Status: "OK", Start: start, Sent: start, End: start.Add(wait), BackendWait: wait})
		}
		tel.Command(Command{Session: "s", Backend: "b", Verb: wire.Idle, Status: "OK", Start: start, Sent: start, End: start.Add(time.Hour), BackendWait: time.Hour})
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		w := httptest.NewRecorder()
		tel.MetricsHandler().ServeHTTP(w, r)
		text := w.Body.String()
		const name = "imapproxy_command_backend_wait_seconds"
		for _, line := range []string{`_bucket\{verb="FETCH",le="0\.0005"\} 2\b`, `_bucket\{verb="FETCH",le="0\.001"\} 3\b`, `_bucket\{verb="FETCH",le="5\.0"\} 3\b`, `_bucket\{verb="FETCH",le="20\.0"\} 4\b`,
			`_bucket\{verb="FETCH",le="\+Inf"\} 5\b`, `_sum\{verb="FETCH"\} 41\.001001\b`, `_count\{verb="FETCH"\} 5\b`} {
			if !regexp.MustCompile(`(?m)^` + name + line).MatchString(text) {
				t.Errorf("there is no %s%s in\n%s", name, line, of(text, name))
			}
		}
		if strings.Contains(of(text, name), `verb="IDLE"`) {
			t.Error("IDLE has a wait")
		}
		if got := strings.Contains(of(text, name), "trace_id="); got != (sample == 1) {
			t.Errorf("sampled %v, with exemplars: %v\n%s", sample, got, of(text, name))
		}
		if strings.Count(text, "# TYPE "+name+" histogram") != 1 {
			t.Error("its type is missing or there twice")
		}
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
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
