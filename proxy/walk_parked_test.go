package proxy

import (
	"runtime"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"imapproxy/internal/imaptest"
	"imapproxy/routing"
)

// awaitStack waits until a goroutine is in a function.
func awaitStack(t *testing.T, what, function string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	eventually(t, what, func() bool { return strings.Contains(string(buf[:runtime.Stack(buf, true)]), function) })
}

// through puts a tap before the backend, for connections that are made from now on.
func (p *parkingLab) through() *imaptest.Tap {
	p.t.Helper()
	tap := imaptest.NewTap(p.t, p.model.Addr)
	p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: tap.Addr, Weight: 100}}})
	return tap
}

// partsOf returns the spans of the trace of one, by name.
func (l *lab) partsOf(one tracetest.SpanStub) map[string]tracetest.SpanStub {
	parts := map[string]tracetest.SpanStub{}
	for _, s := range l.spans.GetSpans() {
		if s.SpanContext.TraceID() == one.SpanContext.TraceID() {
			parts[s.Name] = s
		}
	}
	return parts
}

// hasParts checks that a trace has the conversations with the backend.
func (l *lab) hasParts(one tracetest.SpanStub, names ...string) {
	l.t.Helper()
	parts := l.partsOf(one)
	for _, name := range names {
		s, ok := parts[name]
		if !ok {
			l.t.Errorf("the trace of %s has no %s", one.Name, name)
			continue
		}
		if s.SpanKind != trace.SpanKindClient || text(s, "imapproxy.backend") != "b1" || text(s, "server.address") != "127.0.0.1" {
			l.t.Errorf("%s: %s %v", name, s.SpanKind, s.Attributes)
		}
	}
}

// Sessions that are parked, come back, or have lost their backend: each slow part of it has a span of its own.
func TestATraceNamesWhatWasSlowForAParkedSession(t *testing.T) {
	t.Run("a resume's turn", func(t *testing.T) {
		p := newParkingLab(t, labOptions{change: func(o *Options) { o.Park.ResumeConcurrency = 1 }})
		first, second := p.idle("alice"), p.idle("bob")
		for _, c := range []*imaptest.Client{first, second} {
			c.Write("DONE")
			c.Expect("i OK {*}")
		}
		p.parked(2)
		selects, on := make(chan struct{}), make(chan struct{})
		p.through().Once("SELECT", func() {
			close(selects)
			<-on
		})
		p.opts.Park.Pool.LetGo("alice")
		p.opts.Park.Pool.LetGo("bob")
		first.Write("a UID SEARCH ALL")
		<-selects
		second.Write("b UID FETCH 1 (FLAGS)")
		awaitStack(t, "the second resume to wait for its turn", "session.(*resumes).enter")
		p.clock.forward(slowly)
		close(on)
		first.Expect("* SEARCH 1")
		first.Expect("a OK {*}")
		second.Expect("* 1 FETCH {*}")
		second.Expect("b OK {*}")
		p.named("turn", nil, "resume", "imap UID FETCH")
	})
	t.Run("a recovery", func(t *testing.T) {
		p := newParkingLab(t, labOptions{})
		tap := p.through()
		c := p.login("alice")
		c.Cmd("CREATE Work")
		c.Literal("APPEND Work ", imaptest.GeneratedMessage(100, 1), "")
		c.MustOK("SELECT Work")
		tap.Once("SELECT", func() { p.clock.forward(slowly) })
		tap.CutAll()
		c.MustOK("UID SEARCH ALL")
		slow := p.named("snapshot", []string{"imapproxy.backend=b1", "server.address=127.0.0.1", "server.port=*", "network.transport=tcp"}, "recover")
		p.hasParts(slow, "dial", "backend_login", "enable", "snapshot")
	})
	for _, c := range []struct{ watch, command, slow string }{
		{"idle", "EXAMINE", "select"}, {"idle", "IDLE", "idle"},
	} {
		t.Run("a watch by "+c.watch+" whose "+c.command+" is slow", func(t *testing.T) {
			p := newParkingLab(t, labOptions{watch: c.watch})
			tap := p.through()
			done := make(chan struct{})
			if c.command != "IDLE" {
				tap.Once(c.command, func() { p.clock.forward(slowly) })
				close(done)
			} else {
				tap.Once("EXAMINE", func() { // the watch's IDLE, not the client's
					tap.Once("IDLE", func() { p.clock.forward(slowly) })
					close(done)
				})
			}
			p.idle("alice")
			<-done
			slow := p.named(c.slow, []string{"imapproxy.backend=b1", "server.address=127.0.0.1", "server.port=*", "network.transport=tcp"}, "watch")
			p.hasParts(slow, "dial", "backend_login", "enable", c.slow)
			if root := p.partsOf(slow)["watch"]; text(root, "imapproxy.park.watch") != c.watch || text(root, "imapproxy.watch.connects") != "true" {
				t.Errorf("watch: %v", root.Attributes)
			}
		})
	}
}
