package telemetry

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // as collectors take it
	"google.golang.org/grpc/metadata"

	"imapproxy/internal/imaptest"
)

// grpcCollector is an OTLP/gRPC endpoint that remembers what it was sent.
type grpcCollector struct {
	coltraces.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans map[string]int
	auth  []string
}

func (c *grpcCollector) Export(ctx context.Context, r *coltraces.ExportTraceServiceRequest) (*coltraces.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	c.auth = md.Get("authorization")
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans[s.Name]++
			}
		}
	}
	return &coltraces.ExportTraceServiceResponse{}, nil
}

// grpcMetrics is its part for metrics.
type grpcMetrics struct {
	colmetrics.UnimplementedMetricsServiceServer
	mu    sync.Mutex
	names map[string]bool
}

func (c *grpcMetrics) Export(_ context.Context, r *colmetrics.ExportMetricsServiceRequest) (*colmetrics.ExportMetricsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rm := range r.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			for _, m := range sm.Metrics {
				c.names[m.Name] = true
			}
		}
	}
	return &colmetrics.ExportMetricsServiceResponse{}, nil
}

// grpcLogs is its part for logs.
type grpcLogs struct {
	collogs.UnimplementedLogsServiceServer
	mu  sync.Mutex
	all int
}

func (c *grpcLogs) Export(_ context.Context, r *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all += len(recordsOf(r))
	return &collogs.ExportLogsServiceResponse{}, nil
}

func TestAllSignalsByGRPC(t *testing.T) {
	cert := imaptest.NewCert(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, cert.CertPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		scheme, ca string
		options    []grpc.ServerOption
	}{
		"in the clear": {"http", "", nil},
		"TLS":          {"https", ca, []grpc.ServerOption{grpc.Creds(credentials.NewTLS(cert.Server))}},
	} {
		t.Run(name, func(t *testing.T) {
			traces, metrics, lines := &grpcCollector{spans: map[string]int{}}, &grpcMetrics{names: map[string]bool{}}, &grpcLogs{}
			server := grpc.NewServer(c.options...)
			coltraces.RegisterTraceServiceServer(server, traces)
			colmetrics.RegisterMetricsServiceServer(server, metrics)
			collogs.RegisterLogsServiceServer(server, lines)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			serving.Go(func() { _ = server.Serve(l) })
			defer serving.Wait()
			defer server.Stop()
			_, port, _ := net.SplitHostPort(l.Addr().String())

			tel, err := Start(t.Context(), grpcOptions(c.scheme+"://localhost:"+port, c.ca, io.Discard))
			if err != nil {
				t.Fatal(err)
			}
			for range 700 {
				tel.Command(fetch(time.Now()))
				tel.Log.Info("hello")
			}
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if traces.spans["imap UID FETCH"] != 700 || len(traces.auth) != 1 || traces.auth[0] != "Bearer abc" || !metrics.names[nameCommands] || lines.all != 700 {
				t.Errorf("spans %v, authorization %v, metrics %v, %d log records", traces.spans, traces.auth, metrics.names, lines.all)
			}
		})
	}
	if _, err := Start(t.Context(), grpcOptions("https://localhost:1", filepath.Join(t.TempDir(), "none"), io.Discard)); err == nil || !strings.Contains(err.Error(), "exporter") {
		t.Errorf("without the file of authorities: %v", err)
	}
}

func grpcOptions(address, ca string, log io.Writer) Options {
	headers := map[string]string{"authorization": "Bearer abc"}
	return Options{LogWriter: log, SampleRatio: 1, MetricsInterval: 20 * time.Millisecond,
		TracesEndpoint: address, TracesProtocol: "grpc", TracesHeaders: headers, TracesCAFile: ca,
		LogsEndpoint: address, LogsProtocol: "grpc", LogsHeaders: headers, LogsCAFile: ca,
		MetricsEndpoint: address, MetricsProtocol: "grpc", MetricsHeaders: headers, MetricsCAFile: ca}
}
