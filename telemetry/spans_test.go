package telemetry

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/wire"
)

func TestTheDocumentationOfTheTracesIsFresh(t *testing.T) {
	got, err := os.ReadFile("../docs/traces.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != TracesDoc() {
		t.Error("docs/traces.md is stale: go run ./telemetry/metricsdoc traces > docs/traces.md")
	}
}

// aRow is a row of the table of spans: a step may have the name of a trace's first span.
type aRow struct {
	name string
	root bool
}

// checked compares spans with the table, and returns their attributes.
func checked(t *testing.T, spans tracetest.SpanStubs) map[aRow]map[string]bool {
	t.Helper()
	seen := map[aRow]map[string]bool{}
	for _, s := range spans {
		name := s.Name
		if strings.HasPrefix(name, commandPrefix) {
			name = commandPrefix + "VERB"
		}
		at := aRow{name, !s.Parent.IsValid()}
		if seen[at] == nil {
			seen[at] = map[string]bool{}
		}
		var keys []string
		for _, a := range s.Attributes {
			keys = append(keys, string(a.Key))
			seen[at][string(a.Key)] = true
		}
		if err := CheckSpan(s.Name, s.SpanKind, !s.Parent.IsValid(), keys); err != nil {
			t.Error(err)
		}
	}
	return seen
}

// Each span and attribute of the table is set by the recording methods, and they set no others. The phases' own attributes are
// the callers', whose source is read.
func TestTheTableOfSpansIsWhatIsSet(t *testing.T) {
	seen := map[aRow]map[string]bool{}
	for _, mode := range []string{PersonalFull, PersonalHashed} {
		memory := tracetest.NewInMemoryExporter()
		tel, err := Start(t.Context(), Options{LogWriter: io.Discard, SpanExporter: memory, SampleRatio: 1, Personal: mode, PersonalKey: "key"})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		client, to, refused := netip.MustParseAddrPort("192.0.2.1:4000"), Peer{"b1", "[2001:db8::1]:143", "refused"}, errors.New("NO")
		steps := func(names ...string) *Steps {
			s := tel.Steps(begun)
			for _, name := range names {
				s.Done(name, begun, refused)
			}
			return s
		}
		login := tel.BeginLogin("s1", client, begun)
		for _, name := range []string{PhaseExchange, PhaseDelay, PhasePolicy, PhaseAuth, PhaseHashTurn, PhaseHash, PhasePlacement, PhasePick, PhasePaused, PhaseTurn, PhasePool} {
			login.Phase(name)(nil)
		}
		for _, name := range []string{PhaseDial, PhaseBackendTLS, PhaseBackendLogin, PhaseVerify} {
			login.AddRemote(name, begun, begun, refused, to)
		}
		login.End("alice", "b1", "refused", refused)
		tel.TLSHandshake("s1", "ok", begun, begun)
		tel.Park(Park{Session: "s1", User: "alice", Backend: "b1", Address: to.Address, Mailbox: "Work", Outcome: "lost", Start: begun, End: begun,
			Steps: steps(StepSubscribe, StepFlags, StepDone, StepSnapshot, StepDeselect, StepRelease, StepBack)})
		resume := func() Resume {
			r := Resume{Session: "s1", User: "alice", Backend: "b1", Address: to.Address, Mailbox: "Work", Outcome: "ok", Start: begun, End: begun,
				Steps: steps(StepTurn, StepPool, StepLogin, StepEnable, StepSelect, StepSnapshot, StepDifference, StepTell, StepIdle, StepAttempt, StepPause)}
			for _, name := range []string{PhaseDial, PhaseBackendTLS, PhaseBackendLogin, PhaseVerify} {
				r.Steps.AddRemote(name, begun, begun, refused, Peer{Address: to.Address, Failure: to.Failure})
			}
			return r
		}
		tel.Resume(resume())
		c := fetch(begun)
		c.Client, c.Status, c.Address, c.ResumeWait, c.Resume = client, "NO", to.Address, time.Millisecond, tel.Resumed(resume())
		tel.Command(c)
		remote := func(s *Steps) *Steps {
			for _, name := range []string{PhaseDial, PhaseBackendTLS, PhaseBackendLogin, PhaseVerify} {
				s.AddRemote(name, begun, begun, refused, Peer{Address: to.Address, Failure: to.Failure})
			}
			return s
		}
		tel.Recovery(Recovery{Session: "s1", User: "alice", Backend: "b1", Address: to.Address, Attempts: 2, Start: begun, End: begun,
			Steps: remote(steps(StepTurn, StepPool, StepLogin, StepConnect, StepEnable, StepSnapshot, StepAttempt, StepPause))})
		tel.Watched(Watch{User: "alice", Backend: "b1", Address: to.Address, Mailbox: "Work", Watch: "idle", Start: begun, End: begun,
			Steps: remote(steps(StepTurn, StepLogin, StepEnable, StepSelect, StepDone, StepResync, StepIdle, StepNotify))})
		tel.Resync(Resync{User: "alice", Backend: "b1", Address: to.Address, Mailbox: "Work", Start: begun, End: begun, Steps: remote(steps(StepConnect, StepResync, StepTell))})
		for at, keys := range checked(t, memory.GetSpans()) {
			if seen[at] == nil {
				seen[at] = map[string]bool{}
			}
			maps.Copy(seen[at], keys)
		}
		if err := tel.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	given := setElsewhere(t)
	for _, s := range Spans() {
		at := aRow{s.Name, len(s.Within) == 0}
		if seen[at] == nil {
			t.Errorf("no span %s was made", s.Name)
		}
		for _, a := range s.Attributes {
			if !seen[at][a.Key] && !given[a.Key] {
				t.Errorf("the attribute %s of %s isn't set", a.Key, s.Name)
			}
		}
	}
	for key := range given {
		if auth, _ := row(PhaseAuth, false); !auth.has(key) {
			t.Errorf("the table of spans has no attribute %s, which packages of proxy set", key)
		}
	}
}

// setElsewhere returns the attributes that the packages of proxy give to spans, by their source.
func setElsewhere(t *testing.T) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	err := filepath.WalkDir("../proxy", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			of, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if of, ok := of.X.(*ast.Ident); !ok || of.Name != "attribute" {
				return true
			}
			text, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the name of an attribute isn't written as text", path)
				return true
			}
			key, _ := strconv.Unquote(text.Value)
			keys[key] = true
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) == 0 {
		t.Error("no attribute was found")
	}
	return keys
}

// The backend's part of a command, and the steps that are conversations with it, are spans of the kind client which name the peer and the failure.
func TestConversationsWithABackendNameIt(t *testing.T) {
	tel, spans, now := tracing(t, 1)
	c := fetch(now.Now())
	c.Address, c.Status = "imap1.example.org:993", "NO"
	tel.Command(c)
	idle := c
	idle.Verb = wire.Idle
	tel.Command(idle)
	steps := tel.Steps(now.Now())
	for _, err := range []error{nil, io.EOF, context.Canceled, fmt.Errorf("SELECT: %w", os.ErrDeadlineExceeded), &net.OpError{Op: "read", Err: net.ErrClosed}, errors.New("NO")} {
		steps.Done(StepSelect, now.Now(), err)
	}
	steps.Done(StepTurn, now.Now(), nil)
	tel.Resume(Resume{Session: "s1", Backend: "b1", Address: "192.0.2.7:143", Start: now.Now(), End: now.Now(), Steps: steps})
	var relays int
	var failures []string
	for _, s := range spans.GetSpans() {
		switch s.Name {
		case spanRelay:
			relays++
			if s.SpanKind != trace.SpanKindClient || attr(s, "server.address") != "imap1.example.org" || attr(s, "server.port") != "993" || attr(s, "network.transport") != "tcp" ||
				attr(s, "network.protocol.name") != "imap" || attr(s, "imapproxy.backend") != "b1" || attr(s, "error.type") != "NO" ||
				!s.StartTime.Equal(c.Sent) || s.EndTime.Sub(s.StartTime) != c.BackendWait || !s.Parent.IsValid() {
				t.Errorf("%s %s from %v to %v: %v", s.SpanKind, s.Name, s.StartTime, s.EndTime, s.Attributes)
			}
		case StepSelect:
			failures = append(failures, attr(s, "error.type"))
			if s.SpanKind != trace.SpanKindClient || attr(s, "server.address") != "192.0.2.7" {
				t.Errorf("%s %s: %v", s.SpanKind, s.Name, s.Attributes)
			}
		case StepTurn:
			if s.SpanKind != trace.SpanKindInternal || len(s.Attributes) != 0 {
				t.Errorf("%s %s: %v", s.SpanKind, s.Name, s.Attributes)
			}
		}
	}
	if got := strings.Join(failures, " "); relays != 1 || got != " closed cancelled timeout closed error" {
		t.Errorf("%d relays, failures %q", relays, got)
	}
}

// A login that wasn't kept is kept with its phases once a command of its session fails or is slow, and not for a command that is merely sampled.
func TestASlowOrFailedCommandKeepsItsLogin(t *testing.T) {
	tel, spans, now := tracing(t, 0)
	begin := func(session string) {
		login := tel.BeginLogin(session, netip.AddrPort{}, now.Now())
		login.Phase(PhaseAuth)(nil)
		now.advance(time.Millisecond)
		if sc := login.End("alice", "b1", "ok", nil); sc.IsValid() {
			t.Fatalf("%s is kept", session)
		}
	}
	for i := range keptLate + 1 { // s0 is forgotten
		begin(fmt.Sprint("s", i))
	}
	command := func(session, status string) tracetest.SpanStub {
		spans.Reset()
		tel.Command(Command{Session: session, Backend: "b1", Verb: wire.Noop, Status: status, Start: now.Now(), End: now.Now()})
		var found tracetest.SpanStub
		for _, s := range spans.GetSpans() {
			if s.Name == "imap NOOP" {
				found = s
			}
		}
		return found
	}
	if command("s0", "NO"); len(spans.GetSpans()) != 1 {
		t.Errorf("spans %s", names(spans.GetSpans()))
	}
	failed := command("s1", "NO")
	all := spans.GetSpans()
	if names(all) != "auth login imap NOOP" || len(failed.Links) != 1 || failed.Links[0].SpanContext.SpanID() != all[1].SpanContext.SpanID() || all[1].EndTime.Sub(all[1].StartTime) != time.Millisecond {
		t.Errorf("spans %s, links %v", names(all), failed.Links)
	}
	again := command("s1", "NO")
	if names(spans.GetSpans()) != "imap NOOP" || len(again.Links) != 1 || again.Links[0].SpanContext.SpanID() != failed.Links[0].SpanContext.SpanID() {
		t.Errorf("spans %s, links %v", names(spans.GetSpans()), again.Links)
	}
	tel.SetSampling(1, 0)
	if sampled := command("s2", "OK"); names(spans.GetSpans()) != "imap NOOP" || len(sampled.Links) != 0 {
		t.Errorf("spans %s, links %v", names(spans.GetSpans()), sampled.Links)
	}
	spans.Reset()
	tel.Park(Park{Session: "s3", Err: errors.New("lost"), Start: now.Now(), End: now.Now()})
	if all := spans.GetSpans(); names(all) != "auth login park" || len(all[2].Links) != 1 {
		t.Errorf("spans %s", names(all))
	}
}
