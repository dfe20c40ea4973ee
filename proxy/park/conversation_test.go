package park

import (
	"io"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// What a watch says on its own connection has a trace with a span for each part: when it connects, and when it goes on after a hint.
func TestTheConversationsOfAWatchAreTraced(t *testing.T) {
	for kind, want := range map[string]map[bool]string{
		"idle":   {true: "turn login enable select idle", false: "turn done resync idle"},
		"notify": {true: "turn login enable notify", false: "notify"},
	} {
		t.Run(kind, func(t *testing.T) {
			spans := tracetest.NewInMemoryExporter()
			tel, err := telemetry.Start(t.Context(), telemetry.Options{LogWriter: io.Discard, SampleRatio: 1, SpanExporter: spans})
			if err != nil {
				t.Fatal(err)
			}
			b := newFake(t, modernCaps+" NOTIFY")
			h, c := newHub(t, HubOptions{Watch: kind, Telemetry: tel})
			b.box("a", 3)
			_, m := parked(t, h, b, b.account(), "a", view.CondStore)
			b.deliver("a")
			m.counts(4)
			c.pass(2 * h.o.NotifyRenewEvery)
			for connects, parts := range want {
				eventually(t, "a trace with the parts "+parts, func() bool { return slices.Contains(conversations(spans.GetSpans(), connects), parts) })
			}
		})
	}
}

// conversations returns the parts of each trace of a watch that was on a new connection, or on the one that it had.
func conversations(all tracetest.SpanStubs, connects bool) (found []string) {
	for _, root := range all {
		is := slices.ContainsFunc(root.Attributes, func(a attribute.KeyValue) bool {
			return a.Key == "imapproxy.watch.connects" && a.Value.AsBool() == connects
		})
		if root.Name != "watch" || !is {
			continue
		}
		var parts []string
		for _, s := range all {
			if s.Parent.SpanID() == root.SpanContext.SpanID() {
				parts = append(parts, s.Name)
			}
		}
		found = append(found, strings.Join(parts, " "))
	}
	return found
}
