package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// parkingLab is a lab on a server in memory whose push events come through, so
// that a parked session holds no connection at all but warm ones.
type parkingLab struct {
	*lab
	model *imaptest.ModelServer
}

func newParkingLab(t *testing.T, o labOptions) *parkingLab {
	t.Helper()
	queue := park.NewHintQueue(park.HintQueueOptions{})
	p := &parkingLab{}
	p.model = imaptest.NewModelServer(t, imaptest.ModelServerOptions{QResync: true, Changed: func(user, mailbox string) {
		queue.Add(park.Hint{User: user, Mailbox: mailbox, Source: park.HintPush})
	}})
	change := o.change
	o.handlers, o.rows = []imaptest.Handler{}, []routing.Backend{{ID: "b1", Address: p.model.Addr, Weight: 100}}
	o.change = func(l *Options) {
		hub := park.NewHub(park.HubOptions{Push: true, Watch: o.watch, Queue: queue, Telemetry: l.Telemetry, Now: l.Now})
		pool := upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute, Telemetry: l.Telemetry})
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { hub.Run(ctx) })
		running.Go(func() { pool.Run(ctx) })
		t.Cleanup(func() { stop(); running.Wait() }) // after the server's end
		l.Park = session.ParkOptions{Hub: hub, Pool: pool, Linger: time.Nanosecond, QuietAfter: time.Nanosecond}
		if change != nil {
			change(l)
		}
	}
	p.lab = newLab(t, o)
	return p
}

// parked waits until so many sessions are parked.
func (p *parkingLab) parked(n int64) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%d parked sessions", n), func() bool {
		p.srv.Sweep()
		return p.srv.Status().Attachments[session.Parked.String()] == n
	})
}

// idle is a session of the user's that idles in a mailbox of one message, and is
// parked.
func (p *parkingLab) idle(user string) *imaptest.Client {
	p.t.Helper()
	before := p.srv.Status().Attachments[session.Parked.String()]
	c := p.login(user)
	c.Cmd("CREATE Work")
	c.Literal("APPEND Work ", imaptest.GeneratedMessage(100, 1), "")
	c.MustOK("SELECT Work")
	c.Write("i IDLE")
	c.Expect("+{*}")
	p.parked(before + 1)
	return c
}

func TestParkedSessionsCountInEveryLimit(t *testing.T) {
	for name, limits := range map[string]session.Limits{
		"connections": {Connections: 1}, "per_ip": {PerIP: 1}, "per_user": {PerUser: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParkingLab(t, labOptions{limits: limits})
			c := p.idle("alice")
			other := p.dial(plain)
			if name == "per_user" {
				if a := other.TryLogin("alice", password); a.Tagged.Status() != "NO" || a.Tagged.Code() != "LIMIT" {
					t.Errorf("a second login: %v", a)
				}
			} else if other.Greeting.Code() != "LIMIT" || other.Greeting.Status() != "BYE" {
				t.Errorf("another connection: %v", other.Greeting)
			}
			if n := p.metric("imapproxy_connections_refused_total", fmt.Sprintf("reason=%q", name)); n != 1 {
				t.Errorf("%v refusals are counted", n)
			}
			c.Write("DONE")
			c.Expect("i OK {*}")
		})
	}
}

// A parked session has no goroutine, and an attached one has.
func TestAParkedSessionHasNoGoroutine(t *testing.T) {
	p := newParkingLab(t, labOptions{})
	clients := make([]*imaptest.Client, 8)
	for i := range clients {
		clients[i] = p.idle(fmt.Sprintf("user%d", i))
	}
	p.parked(int64(len(clients)))
	running := func() bool {
		buf := make([]byte, 8<<20)
		return strings.Contains(string(buf[:stacks(buf)]), "proxy/session.(*Session).")
	}
	eventually(t, "no goroutine of a session", func() bool { return !running() })
	clients[0].Write("DONE")
	clients[0].Expect("i OK {*}")
	clients[0].MustOK("FETCH 1 (FLAGS)") // a client that uses message numbers isn't parked outside IDLE
	if !running() {
		t.Error("an attached session has no goroutine: this test looks for a wrong name")
	}
}

func TestParkedSessionsAreListed(t *testing.T) {
	p := newParkingLab(t, labOptions{})
	p.idle("alice")
	quiet := p.login("alice") // nothing is selected
	p.parked(2)
	page, _ := p.srv.Sessions(session.Filter{User: "alice", Backend: "b1"})
	if len(page) != 2 {
		t.Fatalf("%d sessions", len(page))
	}
	idling := slices.IndexFunc(page, func(s session.Info) bool { return s.Idle })
	if idling < 0 {
		t.Fatalf("nobody idles: %+v", page)
	}
	for _, s := range page {
		if s.Attachment != "parked" || s.NotParked != "" || s.User != "alice" || s.Backend != "b1" {
			t.Errorf("%+v", s)
		}
	}
	if s := page[idling]; s.State != "selected" || s.InFlight != 1 {
		t.Errorf("%+v", s)
	}
	if st := p.srv.Status(); st.Sessions != 2 || st.BackendConns != 0 {
		t.Errorf("%+v", st)
	}
	quiet.MustOK("SELECT Work")
	quiet.MustOK("FETCH 1 (UID)")
	eventually(t, "the reason why it isn't parked", func() bool {
		p.srv.Sweep()
		page, _ := p.srv.Sessions(session.Filter{User: "alice"})
		listed := slices.ContainsFunc(page, func(s session.Info) bool { return s.NotParked == "message_numbers" && s.Attachment == "attached" })
		// An attempt to park it that began before its FETCH lists it without a refusal; the next sweep counts one.
		return listed && p.metric("imapproxy_park_refusals_total", `reason="message_numbers"`) > 0
	})
	if n := p.metric("imapproxy_park_refusals_total", `reason="message_numbers"`); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
}

func TestShutdownSaysByeToParkedClients(t *testing.T) {
	t.Parallel()
	const n, drain = 4, 5 * time.Second // see TestShutdownSaysByeToEverybody
	p := newParkingLab(t, labOptions{change: func(o *Options) { o.Drain = drain }})
	var clients []*imaptest.Client
	for i := range n {
		clients = append(clients, p.idle(fmt.Sprintf("user%d", i)))
	}
	resumed := p.metric("imapproxy_resume_duration_seconds_count") // a sweep may have come between two of their commands
	p.end()
	var g sync.WaitGroup
	for _, c := range clients {
		g.Go(func() {
			if r, err := c.Conn.Next(); err != nil || !strings.HasPrefix(r.Text, "* BYE [UNAVAILABLE] ") {
				t.Errorf("%v %v", r, err)
			}
			if r, err := c.Conn.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("%v %v", r, err)
			}
			_ = c.Conn.Close()
		})
	}
	g.Wait()
	p.stop()
	if got := p.metric("imapproxy_sessions_closed_total", `reason="shutdown"`, `attachment="parked"`); got != n {
		t.Errorf("%v parked sessions ended for the shutdown, of %d", got, n)
	}
	if got := p.metric("imapproxy_resume_duration_seconds_count"); got != resumed {
		t.Errorf("%v were given a connection first", got-resumed)
	}
}

// The proxy's own "Still here" is no sign of the client's life.
func TestASilentParkedClientHasItsAutologout(t *testing.T) {
	p := newParkingLab(t, labOptions{})
	idling := p.idle("alice")
	quiet := p.login("bob")
	p.parked(2)
	p.clock.forward(session.DefaultIdleTimeout / 2)
	p.srv.Sweep()
	idling.Expect("* OK Still here")
	p.clock.forward(session.DefaultIdleTimeout/2 + time.Minute)
	p.srv.Sweep()
	quiet.Expect("* BYE [LIMIT] Autologout{*}")
	idling.Expect("* BYE [LIMIT] Autologout{*}")
	quiet.ExpectEOF()
	idling.ExpectEOF()
	p.ended(session.ReasonIdle)
	p.ended(session.ReasonIdle)
	if n := p.closed(session.ReasonIdle); n != 2 {
		t.Errorf("%d sessions ended for being idle", n)
	}
}

func TestKeepaliveCanBeLongOrOff(t *testing.T) {
	for name, every := range map[string]time.Duration{"29m": 29 * time.Minute, "off": -1} {
		t.Run(name, func(t *testing.T) {
			p := newParkingLab(t, labOptions{change: func(o *Options) { o.Park.Keepalive = every }})
			idling := p.idle("alice")
			page, _ := p.srv.Sessions(session.Filter{User: "alice"})
			before := page[0].LastActivity
			p.clock.forward(15 * time.Minute)
			p.srv.Sweep()
			idling.Write("DONE")
			idling.Expect("i OK {*}") // and no "Still here" before it
			idling.Write("j IDLE")
			idling.Expect("+{*}")
			p.clock.forward(28 * time.Minute)
			p.srv.Sweep()
			if every > 0 {
				idling.Expect("* OK Still here")
			}
			page, _ = p.srv.Sessions(session.Filter{User: "alice"})
			if got := page[0].LastActivity.Sub(before); got < 15*time.Minute || got >= 43*time.Minute {
				t.Errorf("the last activity is %s after the first: it is the client's DONE and IDLE", got)
			}
			idling.Write("DONE")
			idling.Expect("j OK {*}")
		})
	}
}

func TestSwitchedOffParkingGivesConnectionsBack(t *testing.T) {
	p := newParkingLab(t, labOptions{})
	alice, bob := p.idle("alice"), p.login("bob")
	p.parked(2)
	off := p.opts
	off.Park = session.ParkOptions{Linger: time.Nanosecond}
	must(t, p.srv.Reload(off))
	eventually(t, "all to have their connections", func() bool {
		p.srv.Sweep()
		return p.srv.Status().Attachments[session.Attached.String()] == 2
	})
	if n := p.metric("imapproxy_resume_duration_seconds_count", `wake="off"`, `outcome="ok"`); n != 2 {
		t.Errorf("%v resumes for it are counted", n)
	}
	alice.Write("DONE")
	alice.Expect("i OK {*}")
	bob.MustOK("NOOP")
	must(t, p.srv.Reload(p.opts))
	p.parked(2)
}

// spansOf are the spans of the newest trace with such a root, the root last.
func spansOf(t testing.TB, l *lab, root string) (all tracetest.SpanStubs) {
	t.Helper()
	var found tracetest.SpanStub
	eventually(t, "a trace of a "+root, func() bool {
		for _, s := range l.spans.GetSpans() {
			if s.Name == root && !s.Parent.IsValid() { // a step of it may have the same name
				found = s
			}
		}
		return found.Name == root
	})
	for _, s := range l.spans.GetSpans() {
		if s.SpanContext.TraceID() == found.SpanContext.TraceID() {
			all = append(all, s)
		}
	}
	return all
}

// shown is a trace in a line: its steps, and the root's attributes of these names.
func shown(all tracetest.SpanStubs, attributes ...string) string {
	var words []string
	for _, s := range all[:len(all)-1] {
		words = append(words, s.Name)
	}
	for _, name := range attributes {
		for _, a := range all[len(all)-1].Attributes {
			if string(a.Key) == name {
				words = append(words, a.Value.String())
			}
		}
	}
	return strings.Join(words, " ")
}

func TestParksAndResumesLeaveTraces(t *testing.T) {
	p := newParkingLab(t, labOptions{})
	c := p.idle("alice")
	parked := spansOf(t, p.lab, "park")
	if got := shown(parked, "imapproxy.outcome", "imapproxy.mailbox", "imapproxy.backend", "imapproxy.park.way", "imapproxy.park.strategy", "imapproxy.park.watch", "imapproxy.park.tries"); got !=
		"subscribe done snapshot deselect release parked Work b1 idle qresync push 1" {
		t.Errorf("the park: %s", got)
	}
	login := spansOf(t, p.lab, "login")
	if links := parked[len(parked)-1].Links; len(links) != 1 || links[0].SpanContext.TraceID() != login[0].SpanContext.TraceID() {
		t.Errorf("the park links to %v", links)
	}

	c.Write("DONE")
	c.Expect("i OK {*}")
	c.MustOK("UID FETCH 1 (FLAGS)")
	var root, resume tracetest.SpanStub
	all := spansOf(t, p.lab, "imap UID FETCH")
	for _, s := range all {
		switch s.Name {
		case "resume":
			resume = s
		case "imap UID FETCH":
			root = s
		}
	}
	if resume.Parent.SpanID() != root.SpanContext.SpanID() {
		t.Errorf("the resume is no part of the trace of its command: %v", all)
	}
	var steps []string
	for _, s := range all {
		if s.Parent.SpanID() == resume.SpanContext.SpanID() {
			steps = append(steps, s.Name)
		}
	}
	steps = append(steps, shown(tracetest.SpanStubs{resume}, "imapproxy.outcome", "imapproxy.mailbox", "imapproxy.resume.wake", "imapproxy.resume.source", "imapproxy.resume.attempts", "imapproxy.resume.owed"))
	if got := strings.Join(steps, " "); !strings.HasPrefix(got, "turn pool enable select snapshot ") || !strings.HasSuffix(got, "tell ok Work UID FETCH pool 1 0") {
		t.Errorf("the resume: %s", got)
	}

	c.Write("i IDLE")
	c.Expect("+{*}")
	p.parked(1)
	other := p.login("alice")
	other.Literal("APPEND Work ", imaptest.GeneratedMessage(100, 2), "")
	c.Expect("* 2 EXISTS")
	if got := shown(spansOf(t, p.lab, "resync"), "imapproxy.outcome", "imapproxy.mailbox", "imapproxy.park.strategy", "imapproxy.park.watch", "imapproxy.resync.views"); got !=
		"connect resync tell ok Work qresync push 1" {
		t.Errorf("the resync: %s", got)
	}
	other.MustOK("SELECT Work")
	other.MustOK("STORE 1 +FLAGS.SILENT (\\Deleted)")
	other.MustOK("EXPUNGE")
	c.Expect("* 1 EXPUNGE")

	p.model.StopListening()
	p.model.CloseConns()
	p.opts.Park.Hub.Hint(park.Hint{User: "alice", Source: park.HintPush})
	eventually(t, "the trace of a resync that has failed", func() bool {
		all := spansOf(t, p.lab, "resync")
		return all[len(all)-1].Status.Code == codes.Error && strings.HasSuffix(shown(all, "imapproxy.outcome", "imapproxy.resync.reason"), "dial connect failed push")
	})
	if n := p.metric("imapproxy_park_resyncs_total", `outcome="failed"`, `strategy="qresync"`, `reason="push"`); n < 1 {
		t.Errorf("%v failed resyncs are counted", n)
	}
}

func TestEveryReasonWhyASessionIsntParkedIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	seen := map[string]bool{}
	for k, r := range track.Blockers() {
		if r.Reason == "" || r.Words == "" || seen[r.Reason] {
			t.Errorf("reason %d is %q: %q", k+1, r.Reason, r.Words)
		}
		seen[r.Reason] = true
		if !strings.Contains(string(text), "| `"+r.Reason+"` | ") {
			t.Errorf("docs/operations.md lacks %s: %s", r.Reason, r.Words)
		}
	}
}
