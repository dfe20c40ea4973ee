package config

import (
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// openTelemetry fills in, where the file is silent, what OpenTelemetry's variables say: OTEL_EXPORTER_OTLP_*,
// OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER, OTEL_TRACES_SAMPLER, OTEL_METRIC_EXPORT_INTERVAL, OTEL_SDK_DISABLED. As the specification
// asks, a value that can't be used is a warning, not an error: the variable may be meant for another program. The names
// of variables stand in warnings and their values don't, since some are secret.
func (d *decoder) openTelemetry(c *Config) {
	t := &c.Telemetry
	if !strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		d.exporter("telemetry.traces", "TRACES", exporterSettings{&t.Traces.Endpoint, &t.Traces.Headers, &t.Traces.Protocol, &t.Traces.CAFile})
		d.exporter("telemetry.metrics", "METRICS", exporterSettings{&t.Metrics.Endpoint, &t.Metrics.Headers, &t.Metrics.Protocol, &t.Metrics.CAFile})
		d.exporter("telemetry.log", "LOGS", exporterSettings{&t.Log.Endpoint, &t.Log.Headers, &t.Log.Protocol, &t.Log.CAFile})
	}
	d.sampler(&t.Traces.Sample)
	const interval = "OTEL_METRIC_EXPORT_INTERVAL"
	if ms := os.Getenv(interval); ms != "" && !d.written("telemetry.metrics.interval") {
		if n, err := strconv.Atoi(ms); err != nil || n < 100 || n > 3600000 {
			d.ignored("telemetry.metrics", interval, "write milliseconds, from 100 to 3600000")
		} else {
			t.Metrics.Interval = time.Duration(n) * time.Millisecond
		}
	}
}

// exporterSettings are those that traces, metrics and the log have.
type exporterSettings struct {
	endpoint *string
	headers  *map[string]string
	protocol *string
	caFile   *string
}

// exporter fills in the settings of one signal. The variables of the signal come before those of all signals.
func (d *decoder) exporter(path, signal string, s exporterSettings) {
	given := func(setting, variable string) (name, value string) {
		if d.written(path + "." + setting) {
			return "", ""
		}
		for _, name := range []string{"OTEL_EXPORTER_OTLP_" + signal + "_" + variable, "OTEL_EXPORTER_OTLP_" + variable} {
			if value := os.Getenv(name); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	if name, value := given("endpoint", "ENDPOINT"); value != "" && os.Getenv("OTEL_"+signal+"_EXPORTER") != "none" {
		if u, err := url.Parse(value); err != nil || !otlp(u) {
			d.ignored(path, name, "write a URL without user and password, such as http://127.0.0.1:4318")
		} else {
			if !strings.Contains(name, signal) { // it is the base of all signals
				u = u.JoinPath("v1", strings.ToLower(signal))
			}
			*s.endpoint = u.String()
		}
	}
	switch name, value := given("protocol", "PROTOCOL"); value {
	case "":
	case "grpc":
		*s.protocol = "grpc"
	case "http/protobuf":
		*s.protocol = "http"
	default:
		d.ignored(path, name, "write http/protobuf or grpc")
	}
	if name, value := given("headers", "HEADERS"); value != "" {
		if headers, ok := otlpHeaders(value); ok {
			*s.headers = headers
		} else {
			d.ignored(path, name, "write name=value,name=value, with %2C for a comma")
		}
	}
	if _, value := given("ca_file", "CERTIFICATE"); value != "" {
		*s.caFile = value
	}
}

// otlp says whether a URL can be an OTLP endpoint.
func otlp(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

// otlpHeaders reads name=value,name=value, whose values are percent-encoded.
func otlpHeaders(text string) (map[string]string, bool) {
	headers := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		name = strings.TrimSpace(name)
		if !ok || err != nil || name == "" || strings.ContainsAny(name+value, "\r\n\x00") {
			return nil, false
		}
		headers[name] = value
	}
	return headers, true
}

// sampler sets the share of traces by OTEL_TRACES_SAMPLER and its argument. No client sends a trace of its own, so a sampler that goes by
// the parent decides as its root does.
func (d *decoder) sampler(sample *Percent) {
	const variable, argument = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	name := os.Getenv(variable)
	if name == "" || d.written("telemetry.traces.sample") {
		return
	}
	switch strings.TrimPrefix(name, "parentbased_") {
	case "always_on":
		*sample = 1
	case "always_off":
		*sample = 0
	case "traceidratio":
		share := 1.0
		if arg := os.Getenv(argument); arg != "" {
			var err error
			if share, err = strconv.ParseFloat(arg, 64); err != nil || math.IsNaN(share) || share < 0 || share > 1 {
				d.ignored("telemetry.traces", argument, "write a share from 0 to 1")
				return
			}
		}
		*sample = Percent(share)
	default:
		d.ignored("telemetry.traces", variable, "write always_on, always_off or traceidratio")
	}
}

// ignored warns of a variable that can't be used.
func (d *decoder) ignored(path, variable, instead string) {
	d.warn(d.at(path), "the value of the environment variable "+variable+" can't be used and has no effect", instead)
}
