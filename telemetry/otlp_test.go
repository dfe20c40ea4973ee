package telemetry

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"
)

// collector is an OTLP/HTTP endpoint that remembers what it was sent.
type collector struct {
	mu      sync.Mutex
	spans   map[string]int // by name
	service string
	records []*logs.LogRecord
	metrics map[string]bool
	paths   map[string]bool
	auth    string
	arrived chan struct{} // gets one for each request that was taken
	answer  int           // status; 0 is 200
}

func newCollector() *collector {
	return &collector{spans: map[string]int{}, metrics: map[string]bool{}, paths: map[string]bool{}, arrived: make(chan struct{}, 1000)}
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() { c.arrived <- struct{}{} }()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths[r.URL.Path] = true
	c.auth = r.Header.Get("Authorization")
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(body)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if c.answer != 0 {
		http.Error(w, "no", c.answer)
		return
	}
	if strings.HasSuffix(r.URL.Path, "traces") {
		var m coltraces.ExportTraceServiceRequest
		if err := proto.Unmarshal(data, &m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, rs := range m.ResourceSpans {
			for _, kv := range rs.Resource.Attributes {
				if kv.Key == "service.name" {
					c.service = kv.Value.GetStringValue()
				}
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					c.spans[s.Name]++
				}
			}
		}
		return
	}
	if strings.HasSuffix(r.URL.Path, "logs") {
		var m collogs.ExportLogsServiceRequest
		if err := proto.Unmarshal(data, &m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.records = append(c.records, recordsOf(&m)...)
		return
	}
	var m colmetrics.ExportMetricsServiceRequest
	if err := proto.Unmarshal(data, &m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, rm := range m.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			for _, m := range sm.Metrics {
				c.metrics[m.Name] = true
			}
		}
	}
}

// recordsOf returns the log records of a request.
func recordsOf(r *collogs.ExportLogsServiceRequest) (all []*logs.LogRecord) {
	for _, rl := range r.ResourceLogs {
		for _, sl := range rl.ScopeLogs {
			all = append(all, sl.LogRecords...)
		}
	}
	return all
}

// pushing starts a Telemetry that sends everything to this address.
func pushing(t *testing.T, address string, log io.Writer) *Telemetry {
	t.Helper()
	tel, err := Start(t.Context(), Options{Service: "imapproxy-test", LogWriter: log,
		TracesEndpoint: address, TracesHeaders: map[string]string{"Authorization": "Bearer abc"}, SampleRatio: 1,
		LogsEndpoint: address, LogsHeaders: map[string]string{"Authorization": "Bearer abc"},
		MetricsEndpoint: address, MetricsHeaders: map[string]string{"Authorization": "Bearer abc"},
		MetricsInterval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return tel
}

func TestShutdownDeliversWhatIsWaiting(t *testing.T) {
	c := newCollector()
	server := httptest.NewServer(c)
	defer server.Close()
	tel := pushing(t, server.URL, t.Output())
	now := time.Now()
	login := tel.BeginLogin("s1", netip.AddrPort{}, now)
	login.Phase(PhaseExchange)(nil)
	sc := login.End("alice", "b1", "ok", nil)
	const commands = spanBatch + 100 // more than one batch
	for range commands {
		command := fetch(now)
		command.Login = sc
		tel.Command(command)
	}
	tel.AddBytes(Out, 4000)
	const lines = recordBatch + 100
	for range lines {
		tel.Log.Info("hello")
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatalf("a second Shutdown: %v", err)
	}
	tel.Command(fetch(now)) // too late: it has no effect
	tel.Log.Info("too late for the endpoint")
	tel.BeginLogin("s2", netip.AddrPort{}, now).End("alice", "b1", "ok", nil)

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spans["imap UID FETCH"] != commands || c.spans["login"] != 1 || c.spans["exchange"] != 1 {
		t.Errorf("spans that arrived: %v", c.spans)
	}
	if c.service != "imapproxy-test" || c.auth != "Bearer abc" || !c.paths["/v1/traces"] || !c.paths["/v1/metrics"] || !c.paths["/v1/logs"] {
		t.Errorf("service %q, authorization %q, paths %v", c.service, c.auth, c.paths)
	}
	for _, name := range []string{nameCommands, nameCommandDuration, nameRelayed, nameTelemetrySpans, nameBuildInfo, "go.goroutine.count"} {
		if !c.metrics[name] {
			t.Errorf("metric %s didn't arrive, only %v", name, c.metrics)
		}
	}
	if n := tel.own.records.exported.Load(); len(c.records) != lines || n != lines || tel.own.records.dropped.Load() != 0 {
		t.Errorf("%d log records arrived, %d counted as exported, %d dropped", len(c.records), n, tel.own.records.dropped.Load())
	}
	if n := tel.own.spans.exported.Load(); n != 2*commands+2 || tel.own.spans.dropped.Load() != 0 {
		t.Errorf("%d spans counted as exported, %d dropped", n, tel.own.spans.dropped.Load())
	}
}

// stuck listens, accepts and never answers.
func stuck(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		var held []net.Conn
		for {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			held = append(held, conn)
		}
		for _, conn := range held {
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); accepting.Wait() })
	return "http://" + l.Addr().String()
}

// down is an address where nothing listens.
func down(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// slow answers, but not before it is released.
func slow(t *testing.T) string {
	t.Helper()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(release); server.Close() })
	return server.URL
}

// unwilling answers each request with an error that asks for another try.
func unwilling(t *testing.T) string {
	t.Helper()
	c := newCollector()
	c.answer = http.StatusServiceUnavailable
	c.arrived = make(chan struct{}, 100000)
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return server.URL
}

// The bounds on time are far above what it takes on a busy machine, and below
// what it would take if anything waited: each batch of 512 spans has the exporter's
// time-out of 10 s, so a caller that waited would need two minutes and a half for
// these commands, and Shutdown 10 s and more.
func TestAnEndpointInTroubleStopsNobody(t *testing.T) {
	for name, endpoint := range map[string]func(*testing.T) string{
		"down": down, "stuck": stuck, "slow": slow, "unwilling": unwilling, "down, gRPC": down, "stuck, gRPC": stuck,
	} {
		t.Run(name, func(t *testing.T) {
			address := endpoint(t)
			start := time.Now()
			var tel *Telemetry
			var written lineCount
			if strings.HasSuffix(name, "gRPC") {
				var err error
				if tel, err = Start(t.Context(), grpcOptions(address, "", &written)); err != nil {
					t.Fatal(err)
				}
			} else {
				tel = pushing(t, address, &written)
			}
			const commands = 5 * spanQueue
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range commands / 4 {
						tel.Command(fetch(start))
						tel.SessionOpened("imaps", true)
						tel.Log.Info("hello")
					}
				})
			}
			wg.Wait()
			if took := time.Since(start); took > time.Minute {
				t.Errorf("recording took %v", took)
			}
			if waiting := tel.spans.waiting.Load(); waiting > spanQueue {
				t.Errorf("%d spans wait, the queue's limit is %d", waiting, spanQueue)
			}
			if waiting := tel.records.waiting.Load(); waiting > recordQueue {
				t.Errorf("%d log records wait, the queue's limit is %d", waiting, recordQueue)
			}

			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			start = time.Now()
			hangs := strings.HasPrefix(name, "stuck") || name == "slow"
			if err := tel.Shutdown(ctx); err == nil && hangs {
				t.Error("Shutdown says that all went well")
			}
			if took := time.Since(start); took > 8*time.Second {
				t.Errorf("Shutdown took %v under a context of 100 ms", took)
			}
			<-tel.spans.done // Shutdown waits for it too, but not for ever
			<-tel.records.done
			own := tel.own
			// The lines about the trouble count as well, unless they were written at the end.
			if sent, failed, dropped := own.records.exported.Load(), own.records.failed.Load(), own.records.dropped.Load(); hangs && dropped == 0 || sent != 0 ||
				failed+dropped < commands || failed+dropped > written.Load() {
				t.Errorf("%d lines: %d exported, %d failed, %d dropped", written.Load(), sent, failed, dropped)
			}
			exported, failed, dropped := own.spans.exported.Load(), own.spans.failed.Load(), own.spans.dropped.Load()
			if hangs && dropped == 0 || exported != 0 || exported+failed+dropped != 2*commands { // a command has two spans
				t.Errorf("%d commands: %d exported, %d failed, %d dropped", commands, exported, failed, dropped)
			}
		})
	}
}

// lineCount counts the lines of a log.
type lineCount struct{ atomic.Int64 }

func (c *lineCount) Write(p []byte) (int, error) {
	c.Add(1)
	return len(p), nil
}

func TestShutdownUnderAnEndedContextStillEndsEverything(t *testing.T) {
	tel := pushing(t, stuck(t), io.Discard)
	tel.Command(fetch(time.Now()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tel.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown returned %v, want that the context had ended", err)
	}
	// That nothing is left running is checked by goleak, see TestMain.
}

// logLines hands over each line that is logged.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestTroubleIsLoggedOnceAndItsEndToo(t *testing.T) {
	c := newCollector()
	c.answer = http.StatusForbidden // not tried again by the exporter
	server := httptest.NewServer(c)
	defer server.Close()
	lines := make(logLines, 100)
	tel, err := Start(t.Context(), Options{LogWriter: lines, MetricsEndpoint: server.URL, MetricsInterval: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		<-c.arrived
	}
	c.mu.Lock()
	c.answer = 0
	c.mu.Unlock()
	first, second := <-lines, <-lines
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(first, "cannot be delivered") || !strings.Contains(first, "signal=metrics") || !strings.Contains(second, "again") {
		t.Errorf("logged:\n%s%s", first, second)
	}
	if len(lines) != 0 {
		t.Errorf("and more: %s", <-lines)
	}
	if tel.own.metrics.failed.Load() < 4 || tel.own.metrics.ok.Load() < 1 {
		t.Errorf("%d exports failed, %d went well", tel.own.metrics.failed.Load(), tel.own.metrics.ok.Load())
	}
}

func TestEndpointsAreChecked(t *testing.T) {
	for address, want := range map[string]string{
		"":                               "",
		"http://c:4318":                  "http://c:4318/v1/traces",
		"https://c:4318/":                "https://c:4318/v1/traces",
		"https://c/api/otlp/v1/x?tenant": "https://c/api/otlp/v1/x?tenant",
	} {
		if got, err := endpoint(address, "/v1/traces"); got != want || err != nil {
			t.Errorf("%q is %q, %v, want %q", address, got, err, want)
		}
	}
	for _, address := range []string{"c:4318", "grpc://c:4317", "http://", "http://user:" + theSecret + "@c:4318",
		"http://user:" + theSecret + "@c:43 18\x7f", "//c:4318", "localhost"} {
		_, err := Start(t.Context(), Options{TracesEndpoint: address})
		if err == nil || leaks(err.Error()) != "" {
			t.Errorf("%q: error %v", address, err)
		}
		if _, err := Start(t.Context(), Options{MetricsEndpoint: address}); err == nil {
			t.Errorf("%q is taken for metrics", address)
		}
		if _, err := Start(t.Context(), Options{LogsEndpoint: address}); err == nil {
			t.Errorf("%q is taken for logs", address)
		}
	}
	if _, err := Start(t.Context(), Options{SampleRatio: 1.5}); err == nil {
		t.Error("a sample ratio of 1.5 is taken")
	}
}
