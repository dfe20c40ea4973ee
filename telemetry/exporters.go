package telemetry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"
)

// newExportClient returns an HTTP client for one exporter, so that its connections can be closed at the end. Each step
// of a request has a time-out. caFile is as in trusted, whose errors it returns.
func (t *Telemetry) newExportClient(caFile string) (*http.Client, error) {
	trust, err := trusted(caFile)
	if err != nil {
		return nil, err
	}
	c := &http.Client{
		Timeout: exportTimeout,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:       trust,
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          4,
			MaxConnsPerHost:       4,
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: exportTimeout,
		},
	}
	t.clients = append(t.clients, c)
	return c, nil
}

// trusted returns the TLS settings for an endpoint, with the authorities in a PEM file; "": the system's.
func trusted(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil
	}
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(text) {
		return nil, errors.New(caFile + " holds no certificate")
	}
	return c, nil
}

// logsExporter returns the OTLP exporter of the log's lines.
func (t *Telemetry) logsExporter(ctx context.Context, o Options, url string) (sdklog.Exporter, error) {
	if o.LogsProtocol == "grpc" {
		options := []otlploggrpc.Option{
			otlploggrpc.WithEndpointURL(url), // http:// means without TLS
			otlploggrpc.WithHeaders(o.LogsHeaders),
			otlploggrpc.WithCompressor("gzip"),
			otlploggrpc.WithTimeout(exportTimeout),
		}
		if strings.HasPrefix(url, "https:") {
			trust, err := trusted(o.LogsCAFile)
			if err != nil {
				return nil, err
			}
			options = append(options, otlploggrpc.WithTLSCredentials(credentials.NewTLS(trust)))
		}
		return otlploggrpc.New(ctx, options...)
	}
	client, err := t.newExportClient(o.LogsCAFile)
	if err != nil {
		return nil, err
	}
	return otlploghttp.New(ctx,
		otlploghttp.WithEndpointURL(url),
		otlploghttp.WithHeaders(o.LogsHeaders),
		otlploghttp.WithCompression(otlploghttp.GzipCompression),
		otlploghttp.WithHTTPClient(client))
}

// tracesExporter returns the OTLP exporter of the traces.
func (t *Telemetry) tracesExporter(ctx context.Context, o Options, url string) (sdktrace.SpanExporter, error) {
	if o.TracesProtocol == "grpc" {
		options := []otlptracegrpc.Option{
			otlptracegrpc.WithEndpointURL(url), // http:// means without TLS
			otlptracegrpc.WithHeaders(o.TracesHeaders),
			otlptracegrpc.WithCompressor("gzip"),
			otlptracegrpc.WithTimeout(exportTimeout),
		}
		if strings.HasPrefix(url, "https:") {
			trust, err := trusted(o.TracesCAFile)
			if err != nil {
				return nil, err
			}
			options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(trust)))
		}
		return otlptracegrpc.New(ctx, options...)
	}
	client, err := t.newExportClient(o.TracesCAFile)
	if err != nil {
		return nil, err
	}
	return otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(url),
		otlptracehttp.WithHeaders(o.TracesHeaders),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithHTTPClient(client))
}

// metricsExporter returns the OTLP exporter of the metrics.
func (t *Telemetry) metricsExporter(ctx context.Context, o Options, url string) (sdkmetric.Exporter, error) {
	if o.MetricsProtocol == "grpc" {
		options := []otlpmetricgrpc.Option{
			otlpmetricgrpc.WithEndpointURL(url), // http:// means without TLS
			otlpmetricgrpc.WithHeaders(o.MetricsHeaders),
			otlpmetricgrpc.WithCompressor("gzip"),
			otlpmetricgrpc.WithTimeout(exportTimeout),
		}
		if strings.HasPrefix(url, "https:") {
			trust, err := trusted(o.MetricsCAFile)
			if err != nil {
				return nil, err
			}
			options = append(options, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(trust)))
		}
		return otlpmetricgrpc.New(ctx, options...)
	}
	client, err := t.newExportClient(o.MetricsCAFile)
	if err != nil {
		return nil, err
	}
	return otlpmetrichttp.New(ctx,
		otlpmetrichttp.WithEndpointURL(url),
		otlpmetrichttp.WithHeaders(o.MetricsHeaders),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression),
		otlpmetrichttp.WithHTTPClient(client))
}
