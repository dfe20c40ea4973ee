// Command metricsdoc prints docs/metrics.md from the table of instruments:
//
//	go run ./telemetry/metricsdoc > docs/metrics.md
//
// Imports telemetry. Imported by none.
package main

import (
	"fmt"
	"os"

	"imapproxy/telemetry"
)

func main() {
	text, err := telemetry.MetricsDoc()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(text)
}
