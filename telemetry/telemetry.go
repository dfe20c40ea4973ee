package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// DefaultSlowCommand is the default of Options.SlowCommand.
const DefaultSlowCommand = 2 * time.Second

// shutdownLimit bounds Shutdown under a context without a deadline.
const shutdownLimit = 10 * time.Second

// Options configure logs, metrics and traces. The zero value logs text at level
// info to standard error and keeps no metrics and no traces.
type Options struct {
	Service  string // resource service.name; "" is "imapproxy"
	Instance string // resource service.instance.id; "" leaves it out
	Version  string // resource service.version, and the build_info metric

	// LogWriter receives the log's lines; nil is standard error. If it is a file of the operating system that
	// can block (a pipe, a terminal), lines go through a bounded queue, which Shutdown empties: call Shutdown
	// before the process ends.
	LogWriter io.Writer
	// LogFile is a file to which the log's lines are appended instead; "": none. SwitchLog opens it again, or
	// opens another.
	LogFile   string
	LogFormat string       // "text" (also "") or "json"
	LogLevel  slog.Leveler // nil is info; a *slog.LevelVar can be set later

	// TracesEndpoint is an OTLP/HTTP address such as http://collector:4318; "" is off. An address without a
	// path means /v1/traces; other paths are used as they are.
	TracesEndpoint string
	TracesHeaders  map[string]string
	// SampleRatio is the share, 0 to 1, of the logins and commands whose trace is
	// kept although they went well.
	SampleRatio float64
	// SlowCommand is the duration from which on the trace of a command or login is always kept. 0 is
	// DefaultSlowCommand; negative: never.
	SlowCommand time.Duration

	// MetricsEndpoint is an OTLP/HTTP address to push metrics to; "" is off. An address without a path means
	// /v1/metrics.
	MetricsEndpoint string
	MetricsHeaders  map[string]string
	MetricsInterval time.Duration // between pushes; 0 is a minute
	Prometheus      bool          // make MetricsHandler serve

	// SpanExporter receives the spans at once instead of TracesEndpoint. For tests.
	SpanExporter sdktrace.SpanExporter
	// Now is the clock of the phases of a login; nil is time.Now.
	Now func() time.Time
}

// Telemetry records the logs, metrics and traces of all packages. All methods, also those of a Discard, are
// safe for concurrent use, and none blocks on anything outside the process.
type Telemetry struct {
	// Log is the process's logger. SessionLogger returns those of sessions.
	Log *slog.Logger

	metrics *metrics     // nil if metrics aren't read
	tracer  trace.Tracer // nil if traces aren't read
	steps   sync.Pool    // of *Steps; used if there is a tracer
	handler http.Handler // of the Prometheus endpoint, nil if that is off
	now     func() time.Time
	own     *ownCounts
	scarce  scarcity // the process's own shortages

	ratio atomic.Uint64 // math.Float64bits of the share of traces kept
	slow  atomic.Int64  // time.Duration; negative is never

	spans    *spanPipe // nil without tracer
	traces   *sdktrace.TracerProvider
	meters   *sdkmetric.MeterProvider
	client   *http.Client // of both OTLP exporters, nil without OTLP
	logLines *lineQueue   // nil if lines are written directly
	sink     *sink        // writes the lines; nil in a Discard

	stop     context.CancelFunc // ends exports that are in progress
	stopOnce sync.Once
	stopErr  error
}

// Discard returns a Telemetry that keeps nothing. It needs no Shutdown.
func Discard() *Telemetry {
	return &Telemetry{Log: slog.New(slog.DiscardHandler), now: time.Now, own: &ownCounts{}, stop: func() {}}
}

// Start sets up logs, metrics and traces by the options. It makes no connection, so an endpoint that is down
// is no error; a malformed address, format or ratio is. The caller owns the result and must call Shutdown,
// which ends every goroutine that Start started.
func Start(ctx context.Context, o Options) (*Telemetry, error) {
	if math.IsNaN(o.SampleRatio) || o.SampleRatio < 0 || o.SampleRatio > 1 {
		return nil, fmt.Errorf("telemetry: sample ratio %v is not between 0 and 1", o.SampleRatio)
	}
	t := Discard()
	if o.Now != nil {
		t.now = o.Now
	}
	t.SetSampling(o.SampleRatio, o.SlowCommand)

	tracesURL, err := endpoint(o.TracesEndpoint, "/v1/traces")
	if err != nil {
		return nil, fmt.Errorf("telemetry: traces endpoint: %w", err)
	}
	metricsURL, err := endpoint(o.MetricsEndpoint, "/v1/metrics")
	if err != nil {
		return nil, fmt.Errorf("telemetry: metrics endpoint: %w", err)
	}
	if err := t.startLog(o); err != nil {
		return nil, err
	}

	// Exports end with Shutdown, not with Start's context.
	stopCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	if tracesURL != "" || metricsURL != "" {
		t.client = newExportClient()
	}
	if err := t.start(stopCtx, o, tracesURL, metricsURL); err != nil {
		// The caller has received nothing yet: stop what was started.
		_ = t.Shutdown(ctx)
		return nil, err
	}
	return t, nil
}

// start makes the two pipelines.
func (t *Telemetry) start(stopCtx context.Context, o Options, tracesURL, metricsURL string) error {
	if tracesURL == "" && metricsURL == "" && !o.Prometheus && o.SpanExporter == nil {
		return nil
	}
	res, err := newResource(stopCtx, o)
	if err != nil {
		// The rest of the resource is usable: OTEL_RESOURCE_ATTRIBUTES was malformed.
		t.Log.Warn("telemetry: part of the resource attributes is unusable", "error", err)
	}
	if err := t.startTraces(stopCtx, o, tracesURL, res); err != nil {
		return err
	}
	return t.startMetrics(stopCtx, o, metricsURL, res)
}

// newResource returns the attributes of the process that every span and metric carries.
func newResource(ctx context.Context, o Options) (*resource.Resource, error) {
	service := o.Service
	if service == "" {
		service = "imapproxy"
	}
	attrs := []attribute.KeyValue{semconv.ServiceName(valid(service))}
	if o.Instance != "" {
		attrs = append(attrs, semconv.ServiceInstanceID(valid(o.Instance)))
	}
	if o.Version != "" {
		attrs = append(attrs, semconv.ServiceVersion(valid(o.Version)))
	}
	return resource.New(ctx, resource.WithTelemetrySDK(), resource.WithFromEnv(), resource.WithAttributes(attrs...))
}

// endpoint checks an OTLP/HTTP address and gives it the signal's default path.
func endpoint(address, path string) (string, error) {
	if address == "" {
		return "", nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		// The error would quote the address, which may contain a password.
		return "", errors.New("not a URL: write http://host:4318 or https://host:4318")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "", errors.New("write http://host:4318 or https://host:4318")
	case u.User != nil:
		return "", errors.New("credentials in the URL are not used: put an Authorization header into headers")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = path
	}
	return u.String(), nil
}

// SetSampling changes the share of traces that are kept and what is slow (as in
// Options) from the next login and command on, for a reload.
func (t *Telemetry) SetSampling(ratio float64, slow time.Duration) {
	if slow == 0 {
		slow = DefaultSlowCommand
	}
	t.ratio.Store(math.Float64bits(min(max(ratio, 0), 1)))
	t.slow.Store(int64(slow))
}

// isSlow says whether something took so long that its trace is kept.
func (t *Telemetry) isSlow(took time.Duration) bool {
	slow := time.Duration(t.slow.Load())
	return slow >= 0 && took >= slow
}

// Shutdown sends all queued data and ends every goroutine, within
// ctx and ten seconds at most. Data that it couldn't send by then is dropped, and Shutdown
// returns the context's error. Recording after Shutdown is safe and
// has no effect; logging after it still writes. A second call does nothing.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.stopOnce.Do(func() { t.stopErr = t.shutdown(ctx) })
	return t.stopErr
}

// shutdown is Shutdown, once.
func (t *Telemetry) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownLimit)
	defer cancel()
	// An export that is stuck at the end of ctx is cut off, so that the waits below end.
	defer context.AfterFunc(ctx, t.stop)()

	var wg sync.WaitGroup
	var tracesErr, metricsErr error
	if t.traces != nil {
		wg.Go(func() { tracesErr = t.spans.shutdown(ctx, t.traces) })
	}
	if t.meters != nil {
		wg.Go(func() { metricsErr = t.meters.Shutdown(ctx) })
	}
	wg.Wait()
	t.stop()
	if t.client != nil {
		t.client.CloseIdleConnections()
	}
	var logErr error
	if t.logLines != nil {
		logErr = t.logLines.shutdown(ctx)
	}
	return errors.Join(tracesErr, metricsErr, logErr)
}
