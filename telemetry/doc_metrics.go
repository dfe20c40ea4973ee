package telemetry

import (
	"fmt"
	"strings"

	"github.com/prometheus/otlptranslator"
)

// PromName returns the instrument's name on the Prometheus endpoint. A
// histogram shows as this name with _bucket, _sum and _count.
func (i Instrument) PromName() (string, error) {
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	kind := map[Kind]otlptranslator.MetricType{
		Counter:   otlptranslator.MetricTypeMonotonicCounter,
		UpDown:    otlptranslator.MetricTypeNonMonotonicCounter,
		Gauge:     otlptranslator.MetricTypeGauge,
		Histogram: otlptranslator.MetricTypeHistogram,
	}[i.Kind]
	return namer.Build(otlptranslator.Metric{Name: i.Name, Unit: i.Unit, Type: kind})
}

// MetricsDoc returns docs/metrics.md, written from the table of instruments.
func MetricsDoc() (string, error) {
	var b strings.Builder
	b.WriteString(`# Metrics

<!-- Generated from telemetry/instruments.go by: go run ./telemetry/metricsdoc > docs/metrics.md -->

Every instrument of the proxy, by its name on the Prometheus endpoint (/metrics
on the admin address) and, below it, by its OpenTelemetry name, which is what
OTLP carries. Histograms show as NAME_bucket, NAME_sum and NAME_count.

No metric carries a user, a session or an address: those are in traces and logs.
Labels come from closed sets, and from the operator's own names (listeners,
backends); an instrument keeps at most 2,000 combinations, what comes after is
counted with the label otel_metric_overflow="true".

Scrapers that ask for OpenMetrics, as Prometheus does, also get exemplars: the histograms of commands and logins name a
trace in the bucket of a command or login whose trace was kept (sampled, slow or failed). Prometheus stores them with
--enable-feature=exemplar-storage.

`)
	for _, i := range Instruments() {
		name, err := i.PromName()
		if err != nil {
			return "", fmt.Errorf("telemetry: %s: %w", i.Name, err)
		}
		fmt.Fprintf(&b, "## %s\n\n`%s` · %s%s\n\n%s\n\n", name, i.Name, kindText(i.Kind), unitText(i.Unit), i.Help)
		if len(i.Attributes) > 0 {
			b.WriteString("| label | values |\n| --- | --- |\n")
			for _, a := range i.Attributes {
				fmt.Fprintf(&b, "| `%s` | %s |\n", a.Key, a.Values)
			}
			b.WriteString("\n")
		}
		if len(i.Buckets) > 0 {
			bounds := make([]string, len(i.Buckets))
			for j, bound := range i.Buckets {
				bounds[j] = fmt.Sprint(bound)
			}
			fmt.Fprintf(&b, "Buckets up to: %s.\n\n", strings.Join(bounds, ", "))
		}
	}
	b.WriteString(`## The process and its runtime

Beside the above: the Go runtime's metrics, go_* (goroutines, heap, GC goal,
scheduling), on both ways out, and the process' own, process_* (CPU, resident
memory, open files and their limit), on the Prometheus endpoint only. target_info
carries the resource: service.name, service.instance.id, which is new for each
process, and service.version. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
replace them and add others.
`)
	return b.String(), nil
}

// kindText names a kind for a reader of the documentation.
func kindText(k Kind) string {
	if k == UpDown {
		return "gauge (a sum that goes up and down)"
	}
	return string(k)
}

// unitText names a unit for a reader of the documentation.
func unitText(unit string) string {
	switch unit {
	case "":
		return ""
	case "s":
		return ", in seconds"
	case "By":
		return ", in bytes"
	}
	name := strings.Trim(unit, "{}")
	if strings.HasSuffix(name, "x") || strings.HasSuffix(name, "ch") || strings.HasSuffix(name, "s") {
		name += "e"
	}
	return ", counts " + name + "s"
}
