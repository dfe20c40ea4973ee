package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the file leaves out, OpenTelemetry's variables say; what it has, stands.
func TestOpenTelemetrysVariablesHoldWhereTheFileIsSilent(t *testing.T) {
	dir := t.TempDir()
	ca, _ := certificateFiles(t, dir)
	type env map[string]string
	type want struct {
		Traces  Traces
		Metrics Metrics
		Log     Log
	}
	defaults := func(change func(w *want)) want {
		c := Default().Telemetry
		w := want{c.Traces, c.Metrics, c.Log}
		change(&w)
		return w
	}
	for _, c := range []struct {
		name, file string
		env        env
		want       want
		warned     string
	}{
		{"nothing", "", nil, defaults(func(*want) {}), ""},
		{"an endpoint for all", "", env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc, x = a%2Cb", "OTEL_EXPORTER_OTLP_CERTIFICATE": ca}, defaults(func(w *want) {
			headers := map[string]string{"authorization": "Bearer abc", "x": "a,b"}
			w.Traces.Endpoint, w.Traces.Headers, w.Traces.CAFile = "http://c:4318/v1/traces", headers, ca
			w.Metrics.Endpoint, w.Metrics.Headers, w.Metrics.CAFile = "http://c:4318/v1/metrics", headers, ca
			w.Log.Endpoint, w.Log.Headers, w.Log.CAFile = "http://c:4318/v1/logs", headers, ca
		}), ""},
		{"a signal's own", "", env{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/base/", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:4317", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, defaults(func(w *want) {
			w.Traces.Endpoint, w.Traces.Protocol, w.Metrics.Endpoint = "http://t:4317", "grpc", "https://c/base/v1/metrics"
			w.Log.Endpoint = "https://c/base/v1/logs"
		}), ""},
		{"the file first", "telemetry {\n  traces {\n    endpoint = \"http://mine\"\n    protocol = \"http\"\n    headers = {}\n    sample = \"3%\"\n  }\n  metrics {\n    endpoint = \"\"\n    interval = \"5s\"\n  }\n  log {\n    endpoint = \"https://logs\"\n    protocol = \"http\"\n    headers = { c = \"d\" }\n  }\n}\n",
			env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_TRACES_SAMPLER": "always_on", "OTEL_METRIC_EXPORT_INTERVAL": "1000"}, defaults(func(w *want) {
				w.Traces.Endpoint, w.Traces.Sample = "http://mine", 0.03
				w.Metrics.Interval, w.Metrics.Protocol, w.Metrics.Headers = 5*time.Second, "grpc", map[string]string{"a": "b"}
				w.Log.Endpoint, w.Log.Headers = "https://logs", map[string]string{"c": "d"}
			}), ""},
		{"off", "", env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, defaults(func(*want) {}), ""},
		{"no traces", "", env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, defaults(func(w *want) {
			w.Metrics.Endpoint, w.Log.Endpoint = "http://c:4318/v1/metrics", "http://c:4318/v1/logs"
		}), ""},
		{"no logs", "", env{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_LOGS_EXPORTER": "none"}, defaults(func(w *want) {
			w.Traces.Endpoint, w.Metrics.Endpoint = "http://c:4318/v1/traces", "http://c:4318/v1/metrics"
		}), ""},
		{"logs alone", "", env{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l:4317", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "a=b", "OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE": ca}, defaults(func(w *want) {
			w.Log.Endpoint, w.Log.Protocol, w.Log.Headers, w.Log.CAFile = "http://l:4317", "grpc", map[string]string{"a": "b"}, ca
		}), ""},
		{"all traces", "", env{"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, defaults(func(w *want) { w.Traces.Sample = 1 }), ""},
		{"no share", "", env{"OTEL_TRACES_SAMPLER": "always_off"}, defaults(func(w *want) { w.Traces.Sample = 0 }), ""},
		{"a share", "", env{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, defaults(func(w *want) { w.Traces.Sample = 0.25 }), ""},
		{"an interval", "", env{"OTEL_METRIC_EXPORT_INTERVAL": "1500"}, defaults(func(w *want) { w.Metrics.Interval = 1500 * time.Millisecond }), ""},
		{"an endpoint with a password", "", env{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://u:geheim@c"}, defaults(func(*want) {}), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
		{"an endpoint without a scheme", "", env{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "c:4317"}, defaults(func(*want) {}), "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"},
		{"JSON", "", env{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, defaults(func(*want) {}), "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"},
		{"no headers", "", env{"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "geheim"}, defaults(func(*want) {}), "OTEL_EXPORTER_OTLP_TRACES_HEADERS"},
		{"a line break", "", env{"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=geheim%0d%0ab"}, defaults(func(*want) {}), "OTEL_EXPORTER_OTLP_TRACES_HEADERS"},
		{"no number", "", env{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "25"}, defaults(func(*want) {}), "OTEL_TRACES_SAMPLER_ARG"},
		{"another sampler", "", env{"OTEL_TRACES_SAMPLER": "jaeger_remote"}, defaults(func(*want) {}), "OTEL_TRACES_SAMPLER"},
		{"no milliseconds", "", env{"OTEL_METRIC_EXPORT_INTERVAL": "60s"}, defaults(func(*want) {}), "OTEL_METRIC_EXPORT_INTERVAL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			cfg, warnings, err := Parse(filepath.Join(dir, "t.hcl"), []byte(smallest+c.file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, want{cfg.Telemetry.Traces, cfg.Telemetry.Metrics, cfg.Telemetry.Log}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			said := ""
			for _, w := range warnings {
				said += w.String()
			}
			if strings.Contains(said, "geheim") || c.warned == "" && said != "" || !strings.Contains(said, "variable "+c.warned) && c.warned != "" {
				t.Errorf("warnings %q, want %q", said, c.warned)
			}
		})
	}

	t.Run("a certificate that isn't one", func(t *testing.T) {
		t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", filepath.Join(dir, "none.pem"))
		if _, _, err := Parse(filepath.Join(dir, "t.hcl"), []byte(smallest)); err == nil || !strings.Contains(err.Error(), "telemetry.traces.ca_file") {
			t.Error(err)
		}
	})
	t.Run("shown", func(t *testing.T) {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
		t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=geheim")
		cfg, _, err := Parse(filepath.Join(dir, "t.hcl"), []byte(smallest))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(Text(cfg), "\n")
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "http://c:4318/v1/traces") }) || strings.Contains(Text(cfg), "geheim") {
			t.Error(Text(cfg))
		}
	})
}
