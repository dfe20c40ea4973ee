package routing

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"imapproxy/telemetry"
)

func TestPanicThreshold(t *testing.T) {
	for name, text := range map[string]string{
		"half of the fleet may go": `
			fleet b1 b2 b3 b4
			fleet b1 b2 b3=down b4=down
			state b3 = down
			state b4 = down`,
		"more than half at once is kept as it was": `
			fleet b1 b2=draining b3 b4
			fleet b1=down b2=down b3=down b4
			state b1 = up kept
			state b2 = draining kept
			state b4 = up`,
		"not being listed any more is the same as down": `
			fleet b1 b2 b3 b4
			fleet b1
			state b3 = up kept
			fleet b1 b3=down
			state b2 = up kept
			state b3 = up kept`,
		"when enough come back the rest is believed": `
			fleet b1 b2 b3 b4
			fleet b1 b2=down b3=down b4=down
			fleet b1 b2 b3=down b4=down
			state b2 = up
			state b3 = down
			state b4 = down`,
		"a loss in steps within a minute counts as one": `
			fleet b1 b2 b3 b4
			fleet b1=down b2 b3 b4
			after 20s
			fleet b1=down b2=down b3 b4
			after 20s
			fleet b1=down b2=down b3=down b4
			state b1 = down
			state b2 = down
			state b3 = up kept`,
		"a loss in steps over a long time is believed": `
			fleet b1 b2 b3 b4
			fleet b1=down b2 b3 b4
			after 2m
			fleet b1=down b2=down b3 b4
			after 2m
			fleet b1=down b2=down b3=down b4
			after 2m
			state b3 = down`,
		"what never was up isn't lost": `
			fleet b1=down b2=down b3=down b4
			fleet b1=down b2=down b3=down b4
			state b1 = down
			pick a u123 = b4 rendezvous`,
		"maintenance is nobody's loss": `
			fleet b1 b2 b3
			fleet b1=draining b2=draining b3=draining
			state b2 = draining
			pick a u123 = no-backend`,
		"a fleet replaced by another is believed": `
			fleet b1 b2
			fleet b3 b4
			state b1 = down  gone
			state b3 = up`,
		"the rest of a panicking answer is taken": `
			fleet b1 b2 b3
			fleet b1=down b2=down b4=draining
			state b1 = up kept
			state b4 = draining`,
		"a single backend is never taken away": `
			fleet b1
			fleet b1=down
			state b1 = up kept`,
	} {
		t.Run(name, func(t *testing.T) { runScript(t, Options{Storage: Shared}, text) })
	}
}

func TestRaisingTheThresholdAcceptsWhatWasKept(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2", "b3"))
	r.Apply(parseFleet(t, "b1=down", "b2=down", "b3"))
	if got := r.Backends()[0]; !got.Kept {
		t.Fatalf("not kept: %+v", got)
	}
	if err := r.Reload(Options{Storage: Shared, PanicThreshold: 1}); err != nil {
		t.Fatal(err)
	}
	if got := r.Backends()[0]; got.Kept || got.State != Down {
		t.Errorf("after the reload: %+v", got)
	}
}

func TestARowWithoutPinsLeavesAfterAWhile(t *testing.T) {
	runScript(t, Options{Storage: Shared, PinGrace: 5 * time.Minute}, `
		fleet b1 b2 b3
		pick a u123 = b1 rendezvous
		confirm a = true
		fleet b2 b3
		after 2m
		fleet b2 b3
		state b1 = down  gone
		release a
		fleet b2 b3
		state b1 = down  gone
		after 5m
		fleet b2 b3
		state b1 = absent`)
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "storage") {
		t.Errorf("no storage: %v", err)
	}
	if _, err := New(Options{Storage: Shared, PanicThreshold: 1.5}); err == nil {
		t.Error("a threshold of 150%")
	}
	if _, err := ParseStorage("both"); err == nil {
		t.Error("a storage of its own kind")
	}
}

func TestBadRowsAreLeftOutAndNamed(t *testing.T) {
	r, log := newLoggedRouter(t)
	r.Apply(Snapshot{Source: "test", Backends: []Backend{
		{ID: "", Address: "nameless:143"}, {ID: "b1"}, {ID: "b2", Address: "first:143", Weight: -5}, {ID: "b2", Address: "second:143"},
	}})
	got := r.Backends()
	if len(got) != 1 || got[0].Address != "first:143" || got[0].Weight != 0 {
		t.Errorf("the fleet is %+v", got)
	}
	for _, want := range []string{"nameless", "b1", "second"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log doesn't say %s:\n%s", want, log)
		}
	}
}

func TestTheDifferenceIsLoggedAndOnlyThat(t *testing.T) {
	r, log := newLoggedRouter(t)
	r.Apply(parseFleet(t, "b1", "b2"))
	log.Reset()
	r.Apply(parseFleet(t, "b2", "b1"))
	if log.Len() > 0 {
		t.Errorf("an unchanged answer is logged:\n%s", log)
	}
	for _, step := range []struct {
		fleet []string
		want  []string
	}{
		{[]string{"b1", "b2", "b3"}, []string{`"backend joined"`, "backend=b3"}},
		{[]string{"b1", "b2=draining", "b3"}, []string{`"backend is draining"`, "backend=b2", "was=up"}},
		{[]string{"b1", "b2", "b3"}, []string{`"backend is up"`}},
		{[]string{"b1=up/7", "b2", "b3"}, []string{`"backend changed"`, "weight=7"}},
		{[]string{"b1=up/7", "b2"}, []string{`"backend left"`, "backend=b3"}},
		{[]string{"b1=up/7", "b2", "b3"}, []string{`"backend came back"`, "backend=b3"}},
		{[]string{"b1=down/7", "b2=down", "b3"}, []string{"level=ERROR", "took away 2 of 3", `"backend kept"`}},
		{nil, []string{"level=WARN", "keeping the last good set"}},
	} {
		log.Reset()
		r.Apply(parseFleet(t, step.fleet...))
		for _, want := range step.want {
			if !strings.Contains(log.String(), want) {
				t.Errorf("fleet %v: the log lacks %s:\n%s", step.fleet, want, log)
			}
		}
	}
}

func TestManyChangesAreCounted(t *testing.T) {
	r, log := newLoggedRouter(t)
	var fleet []string
	for i := range 150 {
		fleet = append(fleet, fmt.Sprintf("b%03d", i))
	}
	r.Apply(parseFleet(t, fleet...))
	if lines := strings.Count(log.String(), "\n"); lines != maxEvents+1 {
		t.Errorf("%d lines for 150 new backends", lines)
	}
	if !strings.Contains(log.String(), "count=130") {
		t.Errorf("the rest isn't counted:\n%s", log)
	}
}

func TestAWatchEndsWithARowsChangeAndNotBefore(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1", "b2", "b3"))
	watch := r.Watch("b1")
	p, err := r.Pick("ann", "b1")
	if err != nil {
		t.Fatal(err)
	}
	p.Confirm()
	r.ReportDialFailure("b1", nil)
	r.Apply(parseFleet(t, "b1", "b2", "b3"))
	r.Apply(parseFleet(t, "b1", "b2=draining", "b3"))
	select {
	case <-watch:
		t.Fatal("the watch of b1 ended, b1 is as it was")
	default:
	}
	r.Apply(parseFleet(t, "b1=draining", "b2", "b3"))
	select {
	case <-watch:
	default:
		t.Fatal("the watch of b1 goes on, b1 is draining")
	}
}

func TestWhatTheGaugesShow(t *testing.T) {
	r, c := newTestRouter(t, Options{Storage: Shared, PinGrace: time.Minute})
	if s := r.stats(); s.Age >= 0 {
		t.Errorf("an age without an answer: %v", s.Age)
	}
	r.Apply(parseFleet(t, "b1", "b2=draining", "b3=down"))
	for _, user := range []string{"ann", "ben", "cid"} {
		p, err := r.Pick(user, "")
		if err != nil || !p.Confirm() {
			t.Fatal(err)
		}
		if user == "cid" {
			p.Release()
		}
	}
	c.after(30 * time.Second)
	s := r.stats()
	if s.Pins != 3 || s.Age != 30*time.Second || len(s.Sessions) != 1 || s.Sessions[0] != (telemetry.BackendCount{Backend: "b1", Count: 2}) {
		t.Errorf("stats are %+v", s)
	}
	for i, want := range []telemetry.StateCount{{State: "up", Count: 1}, {State: "draining", Count: 1}, {State: "down", Count: 1}} {
		if s.Backends[i] != want {
			t.Errorf("state %d: %+v, want %+v", i, s.Backends[i], want)
		}
	}
	c.after(time.Minute)
	if s := r.stats(); s.Pins != 2 {
		t.Errorf("%d pins after the grace; nobody logged in since", s.Pins)
	}
}

func TestStatusTellsWhatDialsMet(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	r.Apply(parseFleet(t, "b1"))
	r.ReportDialFailure("nobody", nil)
	for range 3 {
		r.ReportDialFailure("b1", fmt.Errorf("refused: %s", strings.Repeat("é", 500)))
	}
	b := r.Backends()[0]
	if b.Failures != 3 || !b.Suspect || len(b.LastError) > maxErrorText+len("…") || !strings.HasPrefix(b.LastError, "refused") {
		t.Errorf("status is %+v", b)
	}
	r.ReportDialSuccess("b1")
	if b := r.Backends()[0]; b.Failures != 0 || b.Suspect {
		t.Errorf("after a success: %+v", b)
	}
}

// newLoggedRouter is a router whose log a test reads.
func newLoggedRouter(t *testing.T) (*Router, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	tel, err := telemetry.Start(context.Background(), telemetry.Options{LogWriter: log, LogLevel: slog.LevelDebug})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	r, _ := newTestRouter(t, Options{Storage: Shared, Telemetry: tel})
	log.Reset()
	return r, log
}
