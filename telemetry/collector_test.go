package telemetry

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// realCollector is a running OpenTelemetry collector, which ./test builds from tools/otlpcollector.
type realCollector struct {
	http, grpc       string // URLs without TLS
	https, grpcs, ca string // and with it; they ask for the token
	file             string // what arrives, in OTLP's JSON
	process          *exec.Cmd
	ended            chan struct{}
}

// startCollector starts a collector.
func startCollector(t *testing.T) *realCollector {
	t.Helper()
	program := os.Getenv("COLLECTOR_BIN")
	if program == "" && os.Getenv("IMAPPROXY_REAL") == "" {
		t.Skip("the OpenTelemetry collector isn't here: run ./test")
	}
	if program == "" {
		t.Fatal("COLLECTOR_BIN isn't set: ./test builds the OpenTelemetry collector and sets it")
	}
	dir := t.TempDir()
	cert := imaptest.NewCert(t)
	for name, text := range map[string][]byte{"cert.pem": cert.CertPEM, "key.pem": cert.KeyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ports [4]int
	for i := range ports { // together, so that they differ
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	c := &realCollector{file: filepath.Join(dir, "arrived.json"), ca: filepath.Join(dir, "cert.pem"), ended: make(chan struct{})}
	at := func(scheme string, port int) string { return fmt.Sprintf("%s://localhost:%d", scheme, port) }
	c.http, c.grpc, c.https, c.grpcs = at("http", ports[0]), at("http", ports[1]), at("https", ports[2]), at("https", ports[3])
	config := fmt.Sprintf(`
extensions:
  bearertokenauth: {token: abc}
receivers:
  otlp:
    protocols:
      http: {endpoint: "localhost:%d"}
      grpc: {endpoint: "localhost:%d"}
  otlp/tls:
    protocols:
      http: {endpoint: "localhost:%d", tls: {cert_file: %[5]s/cert.pem, key_file: %[5]s/key.pem}, auth: {authenticator: bearertokenauth}}
      grpc: {endpoint: "localhost:%[4]d", tls: {cert_file: %[5]s/cert.pem, key_file: %[5]s/key.pem}, auth: {authenticator: bearertokenauth}}
exporters:
  file: {path: %[5]s/arrived.json}
service:
  extensions: [bearertokenauth]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp, otlp/tls], exporters: [file]}
    metrics: {receivers: [otlp, otlp/tls], exporters: [file]}
    logs: {receivers: [otlp, otlp/tls], exporters: [file]}
`, ports[0], ports[1], ports[2], ports[3], dir)
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.process = exec.Command(program, "--config", filepath.Join(dir, "config.yaml"))
	said, err := c.process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.process.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		defer close(c.ended)
		lines := bufio.NewScanner(said)
		began := false
		for lines.Scan() {
			if !began && strings.Contains(lines.Text(), "Everything is ready") {
				began = true
				close(ready)
			}
			fmt.Fprintln(t.Output(), lines.Text())
		}
		_ = c.process.Wait()
	}()
	t.Cleanup(func() { c.stop() })
	select {
	case <-ready:
	case <-c.ended:
		t.Fatal("the collector has ended")
	}
	return c
}

// stop ends the collector, which writes all that has arrived.
func (c *realCollector) stop() {
	_ = c.process.Process.Signal(syscall.SIGCONT)
	_ = c.process.Process.Signal(syscall.SIGTERM)
	<-c.ended
}

// toCollector are the options of a Telemetry that sends all signals to a collector.
func toCollector(service, address, protocol, ca, token string) Options {
	headers := map[string]string{"authorization": "Bearer " + token}
	return Options{Service: service, LogWriter: io.Discard, SampleRatio: 1, MetricsInterval: time.Minute,
		TracesEndpoint: address, TracesProtocol: protocol, TracesHeaders: headers, TracesCAFile: ca,
		LogsEndpoint: address, LogsProtocol: protocol, LogsHeaders: headers, LogsCAFile: ca,
		MetricsEndpoint: address, MetricsProtocol: protocol, MetricsHeaders: headers, MetricsCAFile: ca}
}

// A real collector takes all signals by both protocols, with and without TLS, and refuses those without the header that it asks for. While it is
// stopped nothing waits for it, and what has waited arrives once it runs again.
func TestARealCollectorTakesAllSignals(t *testing.T) {
	c := startCollector(t)
	record := func(tel *Telemetry) {
		now := time.Now()
		login := tel.BeginLogin("s1", netip.MustParseAddrPort("192.0.2.1:4000"), now)
		login.Phase(PhaseAuth)(nil)
		command := fetch(now)
		command.Login = login.End("alice", "b1", "ok", nil)
		command.Address = "192.0.2.7:143"
		tel.Command(command)
		tel.SessionLogger("s1", command.Login).Info("session ended", "reason", "logout", "duration", time.Second)
	}
	for _, way := range []struct{ service, address, protocol, ca, token string }{
		{"by-http", c.http, "http", "", ""},
		{"by-grpc", c.grpc, "grpc", "", ""},
		{"by-https", c.https, "http", c.ca, "abc"},
		{"by-grpc-tls", c.grpcs, "grpc", c.ca, "abc"},
		{"refused-http", c.https, "http", c.ca, "wrong"},
		{"refused-grpc", c.grpcs, "grpc", c.ca, "wrong"},
		{"untrusted", c.https, "http", "", "abc"},
	} {
		tel, err := Start(t.Context(), toCollector(way.service, way.address, way.protocol, way.ca, way.token))
		if err != nil {
			t.Fatal(err)
		}
		record(tel)
		_ = tel.Shutdown(t.Context()) // metrics that aren't taken are an error of it
		taken := strings.HasPrefix(way.service, "by-")
		if spans, records := tel.own.spans.exported.Load(), tel.own.records.exported.Load(); taken != (spans == 4) || taken != (records == 1) || taken != (tel.own.metrics.ok.Load() == 1) {
			t.Errorf("%s: %d spans, %d log records, %d pushes of metrics were taken", way.service, spans, records, tel.own.metrics.ok.Load())
		}
	}

	if err := c.process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tel, err := Start(t.Context(), toCollector("after-a-stop", c.grpc, "grpc", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 * spanQueue {
		record(tel)
	}
	if tel.own.spans.dropped.Load() == 0 || tel.own.records.dropped.Load() == 0 || tel.own.spans.exported.Load() != 0 {
		t.Errorf("while the collector stood still, %d spans were taken, %d dropped, %d log records dropped", tel.own.spans.exported.Load(), tel.own.spans.dropped.Load(), tel.own.records.dropped.Load())
	}
	if err := c.process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := tel.Shutdown(t.Context()); err != nil || tel.own.spans.exported.Load() < spanBatch || tel.own.records.exported.Load() < recordBatch {
		t.Errorf("afterwards %d spans and %d log records were taken: %v", tel.own.spans.exported.Load(), tel.own.records.exported.Load(), err)
	}

	c.stop()
	text, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"by-http", "by-grpc", "by-https", "by-grpc-tls"} {
		found := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, `"stringValue":"`+service+`"`) {
				continue
			}
			for _, signal := range []string{`"resourceSpans"`, `"resourceMetrics"`, `"resourceLogs"`} {
				found[signal] = found[signal] || strings.Contains(line, signal)
			}
			found["login"] = found["login"] || strings.Contains(line, `"name":"login"`)
			found["relay"] = found["relay"] || strings.Contains(line, `"name":"relay"`) && strings.Contains(line, `"server.address"`)
			found["metric"] = found["metric"] || strings.Contains(line, `"name":"`+nameCommandDuration+`"`)
			found["line"] = found["line"] || strings.Contains(line, `"body":{"stringValue":"session ended"}`) && strings.Contains(line, `"traceId":"`)
		}
		if len(found) != 7 {
			t.Errorf("%s: only %v arrived", service, found)
		}
		for what, there := range found {
			if !there {
				t.Errorf("%s: no %s arrived", service, what)
			}
		}
	}
	if strings.Contains(string(text), "refused-") || strings.Contains(string(text), "untrusted") {
		t.Error("the collector took what it should have refused")
	}
}
