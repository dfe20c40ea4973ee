package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// shutdownLimit bounds Shutdown under a context without a deadline.
const shutdownLimit = 10 * time.Second

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
	t.tape = newTape()
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
	logsURL, err := endpoint(o.LogsEndpoint, "/v1/logs")
	if err != nil {
		return nil, fmt.Errorf("telemetry: logs endpoint: %w", err)
	}
	if t.names, err = newPersonal(o.Personal, o.PersonalKey); err != nil {
		return nil, err
	}

	// Exports end with Shutdown, not with Start's context.
	stopCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	if err := t.start(stopCtx, o, logsURL, tracesURL, metricsURL); err != nil {
		// The caller has received nothing yet: stop what was started.
		_ = t.Shutdown(ctx)
		return nil, err
	}
	return t, nil
}

// start makes the log and the pipelines.
func (t *Telemetry) start(stopCtx context.Context, o Options, logsURL, tracesURL, metricsURL string) error {
	var res *resource.Resource
	var unusable error
	if logsURL != "" || tracesURL != "" || metricsURL != "" || o.Prometheus || o.SpanExporter != nil {
		res, unusable = newResource(stopCtx, o)
	}
	if err := t.startLog(stopCtx, o, logsURL, res); err != nil {
		return err
	}
	if unusable != nil {
		// The rest of the resource is usable: OTEL_RESOURCE_ATTRIBUTES was malformed.
		t.Log.Warn("telemetry: part of the resource attributes is unusable", "error", unusable)
	}
	if err := t.startTraces(stopCtx, o, tracesURL, res); err != nil {
		return err
	}
	return t.startMetrics(stopCtx, o, metricsURL, res)
}

// newResource returns the attributes of the process that every span, metric and log record carries. The environment's
// (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) come before the proxy's own.
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
	return resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attrs...), resource.WithFromEnv())
}

// endpoint checks an OTLP address and gives it the signal's default path.
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
	var tracesErr, metricsErr, recordsErr error
	if t.traces != nil {
		wg.Go(func() { tracesErr = t.spans.shutdown(ctx, t.traces) })
	}
	if t.meters != nil {
		wg.Go(func() { metricsErr = t.meters.Shutdown(ctx) })
	}
	if t.records != nil {
		wg.Go(func() { recordsErr = t.records.shutdown(ctx) })
	}
	wg.Wait()
	t.stop()
	for _, c := range t.clients {
		c.CloseIdleConnections()
	}
	var logErr error
	if t.logLines != nil {
		logErr = t.logLines.shutdown(ctx)
	}
	return errors.Join(tracesErr, metricsErr, recordsErr, logErr)
}
