package telemetry

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/wire"
)

// everything starts a Telemetry with metrics and traces on, whose commands are
// kept only when they fail or are slow.
func everything(t testing.TB) (*Telemetry, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	tel, err := Start(t.Context(), Options{Version: "test", LogWriter: t.Output(), Prometheus: true, SpanExporter: spans})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return tel, spans
}

// fetch is a command as the relay records it: fast and successful.
func fetch(start time.Time) Command {
	return Command{
		Session: "s1", User: "alice", Backend: "b1", Verb: wire.UIDFetch, Status: "OK",
		Start: start, Sent: start.Add(time.Millisecond), End: start.Add(10 * time.Millisecond),
		Forward: time.Millisecond, BackendWait: 5 * time.Millisecond, BytesIn: 30, BytesOut: 4000,
		Login: trace.NewSpanContext(trace.SpanContextConfig{TraceID: newTraceID(), SpanID: newSpanID()}),
	}
}

func TestUnsampledCommandsAndBytesDoNotAllocate(t *testing.T) {
	tel, spans := everything(t)
	off := Discard()
	c := fetch(time.Now())
	idle, unknown := c, c
	idle.Verb, idle.End = wire.Idle, c.Start.Add(29*time.Minute)
	unknown.Verb = wire.Other

	for name, f := range map[string]func(){
		"command":            func() { tel.Command(c) },
		"IDLE":               func() { tel.Command(idle) },
		"unknown verb":       func() { tel.Command(unknown) },
		"bytes":              func() { tel.AddBytes(In, 30); tel.AddBytes(Out, 4000) },
		"command, all off":   func() { off.Command(c) },
		"bytes, all off":     func() { off.AddBytes(In, 30) },
		"login off":          func() { off.BeginLogin("s1", netip.AddrPort{}, c.Start).Phase(PhaseExchange)(nil) },
		"session opened off": func() { off.SessionOpened("imaps", true) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans made by commands that nobody sampled", n)
	}
}

func BenchmarkCommandUnsampled(b *testing.B) {
	tel, _ := everything(b)
	c := fetch(time.Now())
	b.ReportAllocs()
	for b.Loop() {
		tel.Command(c)
	}
}

func BenchmarkCommandUnsampledParallel(b *testing.B) {
	tel, _ := everything(b)
	c := fetch(time.Now())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tel.Command(c)
		}
	})
}

func BenchmarkCommandOff(b *testing.B) {
	tel := Discard()
	c := fetch(time.Now())
	b.ReportAllocs()
	for b.Loop() {
		tel.Command(c)
	}
}

func BenchmarkAddBytes(b *testing.B) {
	tel, _ := everything(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tel.AddBytes(Out, 4000)
		}
	})
}
