// Command metricsdoc prints docs/metrics.md from the table of instruments, and docs/traces.md from that of spans:
//
//	go run ./telemetry/metricsdoc > docs/metrics.md
//	go run ./telemetry/metricsdoc traces > docs/traces.md
//
// Imports telemetry. Imported by none.
package main

import (
	"fmt"
	"os"

	"imapproxy/telemetry"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "traces" {
		fmt.Print(telemetry.TracesDoc())
		return
	}
	text, err := telemetry.MetricsDoc()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(text)
}
