package telemetry

import (
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"

	"google.golang.org/protobuf/encoding/prototext"
)

// exported starts a Telemetry that sends its log, logs the lines that write writes, and returns the records by message.
func exported(t *testing.T, o Options, write func(*Telemetry)) map[string]*logs.LogRecord {
	t.Helper()
	c := newCollector()
	server := httptest.NewServer(c)
	defer server.Close()
	if o.LogWriter == nil {
		o.LogWriter = io.Discard
	}
	o.LogsEndpoint = server.URL
	tel, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	write(tel)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	all := map[string]*logs.LogRecord{}
	for _, r := range c.records {
		all[r.Body.GetStringValue()] = r
	}
	return all
}

// fieldOf returns an attribute of a record.
func fieldOf(attrs []*common.KeyValue, key string) *common.AnyValue {
	i := slices.IndexFunc(attrs, func(kv *common.KeyValue) bool { return kv.Key == key })
	if i < 0 {
		return nil
	}
	return attrs[i].Value
}

// holder is a value whose secret only fmt could reach.
type holder struct{ Password Secret }

func TestARecordHasWhatTheLineHas(t *testing.T) {
	var level slog.LevelVar
	all := exported(t, Options{LogLevel: &level, Instance: "i1"}, func(tel *Telemetry) {
		tel.Log.Debug("not at this level")
		level.Set(slog.LevelDebug)
		tel.Log.Debug("debug")
		tel.SessionLogger("s42", keptTrace).With("user", "alice").Warn("login failed", "client", netip.MustParseAddrPort("192.0.2.1:4000"), "took", 1500*time.Millisecond,
			"tries", 3, "final", true, "error", errors.New("no\xff such user"), "password", theSecret, "secret_too", Secret(theSecret), "list", []Secret{theSecret},
			slog.Group("settings", "token", theSecret, "wait", 2*time.Second, "holder", holder{theSecret}))
		tel.SessionLogger("s43", keptTrace.WithTraceFlags(0)).Info("not kept")
		tel.Log.WithGroup("g").Error("grouped\xff", "trace_id", "text", "at", time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC), "long", strings.Repeat("x", 4000))
	})
	if len(all) != 4 {
		t.Fatalf("records: %v", all)
	}
	for message, r := range all {
		if text := prototext.Format(r); leaks(text) != "" {
			t.Errorf("%s: %s", message, text)
		}
	}
	r := all["login failed"]
	if r.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_WARN || r.SeverityText != "WARN" || time.Since(time.Unix(0, int64(r.TimeUnixNano))) > time.Minute {
		t.Errorf("%v", r)
	}
	if id, span := keptTrace.TraceID(), keptTrace.SpanID(); string(r.TraceId) != string(id[:]) || string(r.SpanId) != string(span[:]) || r.Flags != 1 || fieldOf(r.Attributes, "trace_id") != nil {
		t.Errorf("trace %x, span %x, flags %d, attributes %v", r.TraceId, r.SpanId, r.Flags, r.Attributes)
	}
	for key, want := range map[string]string{"session": "s42", "user": "alice", "client": "192.0.2.1", "took": "1.5s", "error": "no\uFFFD such user", "password": redacted,
		"secret_too": redacted, "list": "[" + redacted + "]"} {
		if got := fieldOf(r.Attributes, key).GetStringValue(); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if fieldOf(r.Attributes, "port").GetIntValue() != 4000 || fieldOf(r.Attributes, "tries").GetIntValue() != 3 || !fieldOf(r.Attributes, "final").GetBoolValue() {
		t.Errorf("attributes %v", r.Attributes)
	}
	group := fieldOf(r.Attributes, "settings").GetKvlistValue().GetValues()
	for key, want := range map[string]string{"token": redacted, "wait": "2s", "holder": "{" + redacted + "}"} {
		if got := fieldOf(group, key).GetStringValue(); got != want {
			t.Errorf("settings.%s is %q, want %q", key, got, want)
		}
	}
	if r := all["not kept"]; len(r.TraceId) != 0 || len(r.SpanId) != 0 || fieldOf(r.Attributes, "trace_id") != nil || fieldOf(r.Attributes, "session").GetStringValue() != "s43" {
		t.Errorf("a line of a trace that isn't kept: %v", r)
	}
	group = fieldOf(all["grouped\uFFFD"].Attributes, "g").GetKvlistValue().GetValues()
	if got := fieldOf(group, "long").GetStringValue(); fieldOf(group, "trace_id").GetStringValue() != "text" || fieldOf(group, "at").GetStringValue() != "2026-03-01T12:00:00.005Z" || len(got) > maxRecordText+len("…") {
		t.Errorf("a group: %v", group)
	}
}

// Names and addresses are in records as in the log, and the trace stays.
func TestRecordsHaveNamesAsTheOperatorWants(t *testing.T) {
	for mode, hashed := range map[string]bool{PersonalNone: false, PersonalHashed: true} {
		all := exported(t, Options{Personal: mode, PersonalKey: "key"}, func(tel *Telemetry) {
			tel.SessionLogger("s42", keptTrace).With("user", "alice").Warn("login failed", "client", netip.MustParseAddr("192.0.2.1"), "error", errors.New("alice isn't here"))
		})
		r := all["login failed"]
		if r == nil {
			t.Fatalf("%s: %v", mode, all)
		}
		text := prototext.Format(r)
		if strings.Contains(text, "alice") || strings.Contains(text, "192.0.2.1") || strings.Contains(text, `"h-`) != hashed {
			t.Errorf("%s: %s", mode, text)
		}
		if id := keptTrace.TraceID(); string(r.TraceId) != string(id[:]) || fieldOf(r.Attributes, "trace_id") != nil {
			t.Errorf("%s: trace %x: %s", mode, r.TraceId, text)
		}
	}
}

// Without exported lines no trace_id is lost from the log.
func TestTheLogItselfKeepsItsTraceID(t *testing.T) {
	for _, mode := range []string{PersonalFull, PersonalNone} {
		var text strings.Builder
		exported(t, Options{LogWriter: &text, Personal: mode}, func(tel *Telemetry) {
			tel.SessionLogger("s42", keptTrace).Warn("x")
		})
		if !strings.Contains(text.String(), "trace_id="+keptTrace.TraceID().String()) {
			t.Errorf("%s: %s", mode, &text)
		}
	}
}
