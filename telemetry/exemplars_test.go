package telemetry

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"imapproxy/proxy/wire"
)

// An exemplar names a trace that was kept, and only scrapers that ask for OpenMetrics get exemplars.
func TestExemplarsAreOfKeptTracesOnly(t *testing.T) {
	tel, spans := everything(t)
	scraped := func(accept string) (kind, text string) {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("Accept", accept)
		answer := httptest.NewRecorder()
		tel.MetricsHandler().ServeHTTP(answer, r)
		return answer.Header().Get("Content-Type"), answer.Body.String()
	}
	const openMetrics = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
	now := time.Now()
	tel.Command(fetch(now))
	tel.Login("PLAIN", "", "ok", time.Millisecond, tel.BeginLogin("s1", netip.AddrPort{}, now).End("alice", "b1", "ok", nil))
	if kind, text := scraped(openMetrics); !strings.HasPrefix(kind, "application/openmetrics-text") || strings.Contains(text, "trace_id") || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("%s with exemplars of traces that weren't kept, or without an end:\n%s", kind, text)
	}

	slow := fetch(now)
	slow.End = now.Add(time.Minute)
	slow.ResumeWait = time.Second
	tel.Command(slow)
	tel.Login("PLAIN", "", "ok", time.Minute, tel.BeginLogin("s2", netip.AddrPort{}, now.Add(-time.Minute)).End("alice", "b1", "ok", nil))
	kept := map[string]string{}
	for _, s := range spans.GetSpans() {
		kept[s.Name] = s.SpanContext.TraceID().String()
	}
	_, text := scraped(openMetrics)
	for metric, span := range map[string]string{
		"imapproxy_command_duration_seconds_bucket":     "imap " + wire.UIDFetch.String(),
		"imapproxy_command_backend_wait_seconds_bucket": "imap " + wire.UIDFetch.String(),
		"imapproxy_command_resume_wait_seconds_bucket":  "imap " + wire.UIDFetch.String(),
		"imapproxy_login_duration_seconds_bucket":       "login",
	} {
		found := ""
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, metric+"{") && strings.Contains(line, "# {") {
				found += line
			}
		}
		if kept[span] == "" || strings.Count(found, "\n") != 1 || !strings.Contains(found, `trace_id="`+kept[span]+`"`) {
			t.Errorf("%s has the exemplars %q, want the trace %q of the span %s", metric, found, kept[span], span)
		}
	}
	if kind, text := scraped("text/plain"); !strings.HasPrefix(kind, "text/plain") || strings.Contains(text, "trace_id") {
		t.Errorf("%s with exemplars", kind)
	}
}
