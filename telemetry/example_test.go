package telemetry_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

func ExampleTelemetry() {
	tel, err := telemetry.Start(context.Background(), telemetry.Options{Prometheus: true, LogWriter: os.Stderr})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = tel.Shutdown(context.Background()) }()

	begun := time.Now()
	tel.Command(telemetry.Command{Verb: wire.UIDFetch, Status: "OK", Start: begun, Sent: begun, End: begun.Add(time.Millisecond)})

	answer := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "imapproxy_commands_total{") {
			fmt.Print(line)
		}
	}
	// Output:
	// imapproxy_commands_total{status="OK",verb="UID FETCH"} 1
}

// A secret can be logged and printed by mistake, and doesn't show.
func ExampleSecret() {
	password := telemetry.Secret("hunter2")
	fmt.Println(password)
	fmt.Printf("%q %v\n", password, struct{ Password telemetry.Secret }{password})
	fmt.Println(len(password.Reveal()))
	// Output:
	// [redacted]
	// [redacted] {[redacted]}
	// 7
}
