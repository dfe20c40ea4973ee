package park

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
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

// An attempt that asks no backend, since that is paused or the user is being moved, has no trace of a failure, however often it is made; one that
// fails at the backend has.
func TestAttemptsThatAskNoBackendAreNotTraced(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		traced bool
	}{
		"paused":    {err: &upstream.Paused{Backend: "b1"}},
		"moving":    {err: &upstream.Elsewhere{User: "u"}},
		"elsewhere": {err: &upstream.Elsewhere{User: "u", Backend: "b2"}},
		"down":      {err: errors.New("connection refused"), traced: true},
	} {
		for _, k := range kinds {
			t.Run(name+" "+k.name, func(t *testing.T) {
				spans := tracetest.NewInMemoryExporter()
				tel, err := telemetry.Start(t.Context(), telemetry.Options{LogWriter: io.Discard, SpanExporter: spans})
				if err != nil {
					t.Fatal(err)
				}
				b, o := newFake(t, k.caps), k.o
				o.Telemetry = tel
				h, clock := newHub(t, o)
				a := b.account()
				login := a.Login
				var refuses atomic.Bool
				var tries atomic.Int64
				a.Login = func(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, error) {
					if refuses.Load() {
						tries.Add(1)
						return nil, c.err
					}
					return login(ctx, steps)
				}
				parked(t, h, b, a, "INBOX", view.Plain)
				refuses.Store(true)
				b.CloseConns()
				h.Hint(Hint{User: "u", Source: HintPush})
				eventually(t, "several tries", func() bool {
					clock.pass(time.Second)
					return tries.Load() > 4
				})
				traced := 0
				for _, s := range spans.GetSpans() {
					if strings.Contains(s.Status.Description, c.err.Error()) {
						traced++
					}
				}
				if (traced > 0) != c.traced {
					t.Errorf("%d spans with the error %v", traced, c.err)
				}
			})
		}
	}
}

// A watch of several mailboxes has no mailbox's name, and what a backend says of one of them isn't written where names may not be.
func TestARefusedWatchNamesNoMailbox(t *testing.T) {
	for _, mode := range []string{telemetry.PersonalNone, telemetry.PersonalHashed, telemetry.PersonalFull} {
		t.Run(mode, func(t *testing.T) {
			spans, lines := tracetest.NewInMemoryExporter(), &logged{}
			tel, err := telemetry.Start(t.Context(), telemetry.Options{LogWriter: lines, SampleRatio: 1, SpanExporter: spans, Personal: mode, PersonalKey: "key"})
			if err != nil {
				t.Fatal(err)
			}
			b := newFake(t, modernCaps+" NOTIFY")
			h, c := newHub(t, HubOptions{Watch: "notify", Telemetry: tel})
			b.box("Private", 3)
			parked(t, h, b, b.account(), "Private", view.CondStore)
			refusal := "NO [NONEXISTENT] no mailbox Private"
			b.change(func() { b.refuse["NOTIFY"], b.refuse["EXAMINE"] = refusal, refusal })
			c.pass(2 * h.o.NotifyRenewEvery)
			eventually(t, "the mailbox is given up", func() bool {
				c.pass(time.Second)
				return strings.Contains(lines.String(), "a parked mailbox was given up")
			})
			said := lines.String()
			for _, s := range spans.GetSpans() {
				said += fmt.Sprintln(s.Name, s.Status.Description, s.Attributes)
			}
			for _, what := range []string{"NOTIFY: NO [NONEXISTENT]", "EXAMINE: NO [NONEXISTENT]"} {
				if !strings.Contains(said, what) {
					t.Errorf("there is no %q in\n%s", what, said)
				}
			}
			if strings.Contains(said, "Private") != (mode == telemetry.PersonalFull) {
				t.Errorf("the mailbox's name is contained: %v\n%s", mode != telemetry.PersonalFull, said)
			}
		})
	}
}

// logged are the lines of a log.
type logged struct {
	mu sync.Mutex // guards what follows
	strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.String()
}
