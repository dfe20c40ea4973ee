package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	dto "github.com/prometheus/client_model/go"

	"imapproxy/proxy/wire"
)

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, tel *Telemetry) map[string]*dto.MetricFamily {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain") {
		t.Fatalf("scrape: %d %s: %s", rec.Code, rec.Header().Get("Content-Type"), rec.Body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// value returns the value of the one series with these labels ("a=b", …): a
// histogram's is its count.
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	var found []string
	for _, m := range families[name].GetMetric() {
		var have []string
		for _, l := range m.GetLabel() {
			have = append(have, l.GetName()+"="+l.GetValue())
		}
		if missing := without(labels, have); len(missing) == 0 {
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue()
			case m.Gauge != nil:
				return m.Gauge.GetValue()
			case m.Histogram != nil:
				return float64(m.Histogram.GetSampleCount())
			}
		}
		found = append(found, fmt.Sprint(have))
	}
	t.Errorf("%s has no series with %v, only %v", name, labels, found)
	return 0
}

// without returns the elements of want that aren't in have.
func without(want, have []string) (missing []string) {
	for _, w := range want {
		if !strings.Contains(" "+strings.Join(have, " ")+" ", " "+w+" ") {
			missing = append(missing, w)
		}
	}
	return missing
}

// recordEverything calls every recording method once.
func recordEverything(tel *Telemetry) {
	tel.SetSessionGauge(func() []AttachmentCount { return []AttachmentCount{{"none", 2}, {"attached", 7}} })
	tel.SetRoutingGauges(func() RoutingStats {
		return RoutingStats{Backends: []StateCount{{"up", 3}, {"down", 1}}, Sessions: []BackendCount{{"b1", 7}}, Pins: 5, Age: 1500 * time.Millisecond}
	})
	tel.SetLeavingGauges(func() LeavingStats { return LeavingStats{Processes: 2, Sessions: 31} })
	tel.SetProblemGauge(func() map[string]int64 { return map[string]int64{"backend_down": 2, "memory": 0} })
	tel.SetProcessGauges(func() ProcessStats {
		return ProcessStats{ConfigDigest: "abc", ConfigRead: time.UnixMilli(1500), Reloaded: time.Unix(7, 0), ReloadOK: true, ConsulAnswered: time.Unix(8, 0),
			Certificates: []CertificateEnd{{Of: "imaps", End: time.Unix(9, 0)}, {Of: "imaps clients CN=users", List: true, End: time.Unix(10, 0)}},
			Resources:    []Resource{{Name: "descriptors", Used: 10, Limit: 1024}, {Name: "memory", Used: 11}},
			Saved:        Saved{Connections: 90, Memory: new(int64(91)), Logins: 92}}
	})
	tel.SetParkingGauges(func() ParkingStats {
		return ParkingStats{Mailboxes: map[string]int64{"idle": 4, "push": 9}, Hints: map[string]int64{"push": 11, "sweep": 2},
			Watches: map[string]int64{"renewed": 12, "lost": 1}, Events: map[string]int64{"own": 13, "unauthorized": 3},
			Notices: map[string]int64{"hint": 14, "unwanted": 15}, Forwarded: map[string]int64{"sent": 16, "received": 17}, Waiting: 6}
	})
	tel.SetClusterGauges(func() ClusterStats {
		return ClusterStats{Epoch: 21, Acked: 20, Isolated: true, Living: 3, Ended: 1, Stays: 22, Waiting: 23, Late: 24, Switches: 25,
			Leaving: []ClusterLeaving{{Backend: "imap1", Users: 5, Held: map[string]int{"command": 2}, Turns: 60}}}
	})
	tel.Park(Park{Outcome: "parked", Strategy: "qresync"})
	tel.ParkRefused("message_numbers")
	tel.Recovery(Recovery{Outcome: "ok", Start: time.Now(), End: time.Now()})
	tel.Recovery(Recovery{Outcome: "view_lost", ViewLost: "added", Start: time.Now(), End: time.Now()})
	tel.Resume(Resume{Outcome: "ok", Source: SourcePool, Wake: "UID FETCH"})
	tel.Resume(Resume{Outcome: "ok", Source: SourceLogin, Wake: WakeLostWatch})
	tel.Resync(Resync{Strategy: "qresync", Reason: "push"})
	tel.Resync(Resync{Strategy: "qresync", Reason: "sweep", Err: errors.New("lost")})
	tel.PoolGiven("session")
	tel.PoolAsked("session", "lent")
	tel.PoolClosed("expired")
	tel.Reloaded(true)
	tel.SessionOpened("imaps", true)
	tel.SessionClosed("logout", "attached", time.Minute)
	tel.Compresses()
	tel.Compressed(In, 400, 100)
	tel.Compressed(Out, 8000, 1000)
	tel.Refused("per_ip")
	tel.TLSHandshake("s1", "ok", time.Time{}, time.Time{}.Add(time.Millisecond))
	tel.Login("PLAIN", "passwd_file", "ok", time.Millisecond, trace.SpanContext{})
	tel.Login("FROM-A-CLIENT", "", "failed", time.Millisecond, trace.SpanContext{})
	tel.LoginFailure("wrong_password")
	tel.LoginDelayed("address")
	tel.Policy("allow", "refused", time.Millisecond)
	tel.PolicyUnasked("report")
	tel.BackendDial("b1", "ok", time.Millisecond)
	tel.BackendLogin("b1", "refused", time.Millisecond)
	tel.BackendConns("b1", "session", 1)
	tel.BackendConns("b1", "session", 1)
	tel.BackendConns("b1", "session", -1)
	tel.Stall("b1", StallProbe, StallGoesOn)
	tel.Retry("dial")
	tel.Shortage("ports", ShortageAtDial, errors.New("none left"))
	tel.Flap("b1")
	tel.Failover("down")
	tel.Discovery("consul", "applied")
	now := time.Now()
	waited := fetch(now)
	waited.ResumeWait = time.Millisecond
	tel.Command(waited)
	tel.Command(Command{Verb: wire.Other, Status: "PARTIAL", Start: now, End: now.Add(-time.Hour)}) // clock set back
	tel.Command(Command{Verb: wire.Idle, Status: "OK", Start: now, End: now.Add(29 * time.Minute)})
	tel.AddBytes(In, 30)
	tel.AddBytes(Out, 4000)
	tel.AddBytes(Out, -5)
}

func TestPrometheusShowsEveryInstrumentWithItsHelp(t *testing.T) {
	tel, _ := everything(t)
	recordEverything(tel)
	families := scrape(t, tel)
	kinds := map[Kind]dto.MetricType{Counter: dto.MetricType_COUNTER, UpDown: dto.MetricType_GAUGE,
		Gauge: dto.MetricType_GAUGE, Histogram: dto.MetricType_HISTOGRAM}
	seen := map[string]bool{}
	for _, i := range Instruments() {
		name, err := i.PromName()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(name, "imapproxy_") {
			t.Errorf("%s doesn't begin with imapproxy_", name)
		}
		family := families[name]
		if family == nil || family.GetHelp() != i.Help || family.GetType() != kinds[i.Kind] {
			t.Errorf("%s: shown as %v with help %q, want %v with %q", name, family.GetType(), family.GetHelp(), kinds[i.Kind], i.Help)
			continue
		}
		seen[name] = true
		keys := map[string]bool{}
		for _, a := range i.Attributes {
			keys[a.Key] = true
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if !keys[l.GetName()] {
					t.Errorf("%s has a label %s that the table doesn't know", name, l.GetName())
				}
			}
			if len(m.GetLabel()) != len(keys) {
				t.Errorf("%s has labels %v, the table %v", name, m.GetLabel(), i.Attributes)
			}
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "imapproxy_") && !seen[name] {
			t.Errorf("%s is shown but isn't in the table", name)
		}
	}
	for _, name := range []string{"go_goroutine_count", "process_open_fds", "target_info"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestPrometheusShowsWhatWasRecorded(t *testing.T) {
	tel, _ := everything(t)
	recordEverything(tel)
	families := scrape(t, tel)
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{7, "imapproxy_sessions", []string{"attachment=attached"}},
		{1, "imapproxy_sessions_opened_total", []string{"listener=imaps", "tls=true"}},
		{1, "imapproxy_sessions_closed_total", []string{"reason=logout", "attachment=attached"}},
		{1, "imapproxy_session_duration_seconds", nil},
		{1, "imapproxy_compressions_total", nil},
		{400, "imapproxy_compressed_bytes_total", []string{"direction=in", "form=text"}},
		{1000, "imapproxy_compressed_bytes_total", []string{"direction=out", "form=compressed"}},
		{1, "imapproxy_connections_refused_total", []string{"reason=per_ip"}},
		{1, "imapproxy_tls_handshake_duration_seconds", []string{"outcome=ok"}},
		{1, "imapproxy_login_duration_seconds", []string{"mechanism=PLAIN", "source=passwd_file", "outcome=ok"}},
		{1, "imapproxy_login_duration_seconds", []string{"mechanism=OTHER", "outcome=failed"}},
		{1, "imapproxy_login_failures_total", []string{"reason=wrong_password"}},
		{1, "imapproxy_commands_total", []string{"verb=OTHER", "status=cut"}},
		{1, "imapproxy_commands_total", []string{"verb=IDLE", "status=OK"}},
		{1, "imapproxy_command_duration_seconds", []string{"verb=OTHER", "status=cut"}},
		{30, "imapproxy_relayed_bytes_total", []string{"direction=in"}},
		{4000, "imapproxy_relayed_bytes_total", []string{"direction=out"}},
		{1, "imapproxy_backend_dial_duration_seconds", []string{"backend=b1", "outcome=ok"}},
		{1, "imapproxy_backend_login_duration_seconds", []string{"backend=b1", "outcome=refused"}},
		{1, "imapproxy_backend_connections", []string{"backend=b1", "kind=session"}},
		{1, "imapproxy_backend_retries_total", []string{"reason=dial"}},
		{1, "imapproxy_backend_flaps_total", []string{"backend=b1"}},
		{1, "imapproxy_failovers_total", []string{"reason=down"}},
		{3, "imapproxy_backends", []string{"state=up"}},
		{7, "imapproxy_backend_sessions", []string{"backend=b1"}},
		{5, "imapproxy_pins", nil},
		{1.5, "imapproxy_discovery_age_seconds", nil},
		{1, "imapproxy_discovery_updates_total", []string{"source=consul", "outcome=applied"}},
		{1, "imapproxy_parks_total", []string{"outcome=parked", "strategy=qresync"}},
		{1, "imapproxy_park_refusals_total", []string{"reason=message_numbers"}},
		{1, "imapproxy_resume_duration_seconds", []string{"outcome=ok", "source=pool", "wake=UID FETCH"}},
		{1, "imapproxy_resume_duration_seconds", []string{"outcome=ok", "source=login", "wake=lost_watch"}},
		{9, "imapproxy_park_mailboxes", []string{"watch=push"}},
		{11, "imapproxy_park_hints_total", []string{"source=push"}},
		{1, "imapproxy_park_watches_total", []string{"outcome=lost"}},
		{1, "imapproxy_park_resyncs_total", []string{"outcome=failed", "strategy=qresync", "reason=sweep"}},
		{1, "imapproxy_park_resync_duration_seconds", []string{"outcome=ok", "strategy=qresync"}},
		{6, "imapproxy_park_resyncs_waiting", nil},
		{3, "imapproxy_park_events_total", []string{"outcome=unauthorized"}},
		{15, "imapproxy_park_event_notices_total", []string{"outcome=unwanted"}},
		{1, "imapproxy_pool_given_total", []string{"use=session"}},
		{1, "imapproxy_pool_asked_total", []string{"use=session", "outcome=lent"}},
		{1, "imapproxy_pool_closed_total", []string{"reason=expired"}},
		{1, "imapproxy_build_info", []string{"version=test"}},
	} {
		if got := value(t, families, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	for _, m := range families["imapproxy_command_duration_seconds"].GetMetric() {
		if m.GetHistogram().GetSampleSum() < 0 {
			t.Errorf("a clock that was set back made a negative sum: %v", m)
		}
		for _, l := range m.GetLabel() {
			if l.GetValue() == "IDLE" {
				t.Error("IDLE is in the histogram of durations")
			}
		}
	}
}

// Invalid names don't fail a scrape, and a client can't add series.
func TestMetricsStayBounded(t *testing.T) {
	tel, _ := everything(t)
	now := time.Now()
	for i := range 5000 {
		tel.Command(Command{Verb: wire.Other, Status: fmt.Sprint(i), Start: now, End: now})
		tel.Resume(Resume{Wake: fmt.Sprint("X", i), Start: now, End: now})
		tel.Login(fmt.Sprint("MECH-", i), "", "failed", 0, trace.SpanContext{})
		tel.BackendDial(fmt.Sprint("backend-", i), "ok", 0)
	}
	tel.Refused("bad\xff\xfe label")
	families := scrape(t, tel)
	for name, limit := range map[string]int{"imapproxy_commands_total": 1, "imapproxy_resume_duration_seconds": 1, "imapproxy_login_duration_seconds": 1, "imapproxy_backend_dial_duration_seconds": 2000} {
		if n := len(families[name].GetMetric()); n == 0 || n > limit {
			t.Errorf("%s has %d series, want at most %d", name, n, limit)
		}
	}
	if n := len(families["imapproxy_connections_refused_total"].GetMetric()); n != 1 {
		t.Errorf("a label that isn't UTF-8 left %d series, want 1", n)
	}
}

func TestDiscardTakesEverything(t *testing.T) {
	tel := Discard()
	recordEverything(tel)
	tel.Log.Error("x")
	tel.SessionLogger("s1", trace.SpanContext{}).Info("x")
	tel.SetSampling(1, time.Second)
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusNotFound {
		t.Errorf("metrics that are off answer %d, want 404", rec.Code)
	}
	if err := tel.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestTheDocumentationOfTheMetricsIsFresh(t *testing.T) {
	want, err := MetricsDoc()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/metrics.md is stale: go run ./telemetry/metricsdoc > docs/metrics.md")
	}
	for _, i := range Instruments() {
		name, _ := i.PromName()
		if !strings.Contains(want, "## "+name+"\n") || !strings.Contains(want, i.Help) {
			t.Errorf("docs/metrics.md lacks %s", name)
		}
	}
}

// Each command has the label that is its name: a verb that wire knows isn't OTHER.
func TestEachVerbHasItsNameForALabel(t *testing.T) {
	tel, spans := everything(t)
	now := time.Now()
	for v := range wire.NumVerbs {
		tel.Command(Command{Verb: wire.Verb(v), Status: "NO", Start: now, End: now})
		tel.Resume(Resume{Wake: wire.Verb(v).String(), Start: now, End: now})
	}
	families := scrape(t, tel)
	for _, name := range wire.Verbs() {
		if n := value(t, families, "imapproxy_commands_total", "verb="+name, "status=NO"); n != 1 {
			t.Errorf("%s was counted %v times, want once", name, n)
		}
		if n := value(t, families, "imapproxy_resume_duration_seconds", "wake="+name); n != 1 {
			t.Errorf("a resume by %s was counted %v times, want once", name, n)
		}
		if !slices.ContainsFunc(spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Name == "imap "+name }) {
			t.Errorf("no span is named for %s", name)
		}
	}
}
