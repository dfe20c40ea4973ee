package proxy

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/routing"
)

// slowResume has the user's next resume take so long, by the lab's clock. A connection that the hub uses meanwhile isn't
// used for the resume.
func (p *parkingLab) slowResume(user string, d time.Duration) {
	p.t.Helper()
	slow := imaptest.NewTap(p.t, p.model.Addr)
	slow.Once("SELECT", func() { p.clock.forward(d) })
	p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: slow.Addr, Weight: 100}}})
	p.opts.Park.Pool.LetGo(user)
}

// number is an attribute of a span as a number; -1: it has none.
func number(s tracetest.SpanStub, key string) float64 {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			n, _ := strconv.ParseFloat(a.Value.String(), 64)
			return n
		}
	}
	return -1
}

// wantWaited checks the trace of the newest command of that name: it has waited for the resume, which is a part of it.
func (p *parkingLab) wantWaited(verb string, d time.Duration) {
	p.t.Helper()
	all := spansOf(p.t, p.lab, "imap "+verb)
	at := slices.IndexFunc(all, func(s tracetest.SpanStub) bool { return !s.Parent.IsValid() })
	root := all[at]
	if took := root.EndTime.Sub(root.StartTime); took < d {
		p.t.Errorf("the command took %s for its trace, its client waited %s", took, d)
	}
	if n := number(root, "imapproxy.resume_wait"); n < d.Seconds() {
		p.t.Errorf("it waited for its connection for %v s, want %s and more", n, d)
	}
	for _, share := range []string{"imapproxy.backend_wait", "imapproxy.forward", "imapproxy.client_wait"} {
		if n := number(root, share); n < 0 || n >= d.Seconds() {
			p.t.Errorf("%s is %v", share, n)
		}
	}
	if !slices.ContainsFunc(all, func(s tracetest.SpanStub) bool {
		return s.Name == "resume" && s.Parent.SpanID() == root.SpanContext.SpanID()
	}) {
		p.t.Error("the resume is no part of the trace")
	}
	if n := p.metric("imapproxy_command_resume_wait_seconds_sum", `verb="`+verb+`"`); n < d.Seconds() {
		p.t.Errorf("the metric has %v s", n)
	}
	if n := p.metric("imapproxy_command_duration_seconds_sum", `verb="`+verb+`"`); n < d.Seconds() {
		p.t.Errorf("the metric of durations has %v s", n)
	}
}

func TestACommandHasWaitedForTheResumeBehindIt(t *testing.T) {
	p := newParkingLab(t, labOptions{})
	c := p.idle("alice")
	c.Write("DONE")
	c.Expect("i OK {*}")
	p.parked(1)
	p.clock.forward(time.Minute) // the client thinks: no wait of its next command
	p.slowResume("alice", 7*time.Second)
	c.MustOK("UID FETCH 1 (FLAGS)")
	p.wantWaited("UID FETCH", 7*time.Second)
	p.clock.forward(time.Minute)
	c.MustOK("UID SEARCH ALL")
	spansOf(t, p.lab, "imap UID SEARCH")
	for _, s := range p.spans.GetSpans() {
		if took := s.EndTime.Sub(s.StartTime); took > 30*time.Second && (s.Name == "resume" || s.Name == "imap UID FETCH" || s.Name == "imap UID SEARCH") {
			t.Errorf("%s took %s", s.Name, took)
		}
	}
}

// A command that is answered without the relay, since its client counts messages that are gone.
func TestACommandInCatchUpHasWaitedForTheResumeBehindIt(t *testing.T) {
	p := newParkingLab(t, labOptions{})
	c, other := p.idle("alice"), p.login("alice")
	other.MustOK("SELECT Work")
	other.Literal("APPEND Work ", imaptest.GeneratedMessage(100, 2), "")
	c.Expect("* 2 EXISTS")
	c.Write("DONE")
	c.Expect("i OK {*}")
	p.parked(2) // DONE has resumed the session if a hint came at the same time
	other.MustOK("STORE 1 +FLAGS.SILENT (\\Deleted)")
	other.MustOK("EXPUNGE")
	p.slowResume("alice", 7*time.Second)
	c.Write("f FETCH 2 (UID)")
	c.Expect("* 2 FETCH {*}")
	c.Expect("f OK {*}")
	p.wantWaited("FETCH", 7*time.Second)
}

// A resume whose command the proxy itself answers leaves a trace of its own.
func TestAResumeBehindNoCommandIsTraced(t *testing.T) {
	p := newParkingLab(t, labOptions{})
	c := p.idle("alice")
	c.Write("DONE")
	c.Expect("i OK {*}")
	c.Write("c COMPRESS DEFLATE")
	c.Expect("c {*}")
	c.MustOK("LOGOUT")
	c.ExpectEOF()
	spansOf(t, p.lab, "resume")
}

// What a command's span says of bytes is about that command: it was the command's before.
func TestBytesOutAreThatCommands(t *testing.T) {
	p := newParkingLab(t, labOptions{change: func(o *Options) { o.Park = session.ParkOptions{} }})
	c := p.login("alice")
	c.Cmd("CREATE Work")
	c.Literal("APPEND Work ", imaptest.GeneratedMessage(3000, 1), "")
	c.MustOK("SELECT Work")
	for range 2 {
		for _, one := range []struct{ command, name string }{{"UID FETCH 1 BODY.PEEK[]", "imap UID FETCH"}, {"NOOP", "imap NOOP"}, {"CAPABILITY", "imap CAPABILITY"}} {
			p.spans.Reset()
			a := c.MustOK("%s", one.command)
			want := len(a.Tagged.Text) + 2
			for _, u := range a.Untagged {
				want += len(u.Text) + 2
				for _, l := range u.Literals {
					want += 2 + int(l.Size)
				}
			}
			all := spansOf(t, p.lab, one.name)
			if got := number(all[len(all)-1], "imapproxy.bytes_out"); got != float64(want) {
				t.Errorf("%s was sent %v bytes by its span, %d in truth", one.name, got, want)
			}
		}
	}
}

func TestAClientThatClosesInIdleIsNoError(t *testing.T) {
	for name, parked := range map[string]bool{"attached": false, "parked": true} {
		t.Run(name, func(t *testing.T) {
			p := newParkingLab(t, labOptions{change: func(o *Options) {
				if !parked {
					o.Park = session.ParkOptions{}
				}
			}})
			var c *imaptest.Client
			if parked {
				c = p.idle("alice")
			} else {
				c = p.login("alice")
				c.MustOK("CREATE Work")
				c.MustOK("SELECT Work")
				c.Write("i IDLE")
				c.Expect("+{*}")
			}
			c.Close()
			s := spansOf(t, p.lab, "imap IDLE")[0]
			if s.Status.Code == codes.Error || number(s, "imapproxy.backend_wait") >= 0 {
				t.Errorf("status %v, attributes %v", s.Status, s.Attributes)
			}
			if n := p.metric("imapproxy_commands_total", `verb="IDLE"`, `status="closed"`); n != 1 {
				t.Errorf("%v are counted as closed", n)
			}
		})
	}
}

// A client may connect and let the user type the password.
func TestALoginsTimeBeginsWithItsCommand(t *testing.T) {
	for _, listener := range []string{plain, implicit} {
		for _, command := range []string{"LOGIN", "AUTHENTICATE"} {
			t.Run(listener+" "+command, func(t *testing.T) {
				l := newLab(t, labOptions{})
				c := l.dial(listener)
				l.clock.forward(20 * time.Second)
				if command == "LOGIN" {
					c.Login("alice", password)
				} else {
					c.Plain("", "alice", password)
				}
				all := spansOf(t, l, "login")
				if s := all[len(all)-1]; s.EndTime.Sub(s.StartTime) >= 20*time.Second {
					t.Errorf("the login took %s by its trace", s.EndTime.Sub(s.StartTime))
				}
				for _, s := range all {
					if s.Name == "tls" {
						t.Error("the handshake is a part of the login's trace")
					}
				}
			})
		}
	}
}

// An id that leads to no trace costs the reader of a log a search for nothing.
func TestOnlyTracesThatAreKeptAreNamed(t *testing.T) {
	l := newLab(t, labOptions{})
	l.tel.SetSampling(0, -1)
	l.login("alice").Cmd("BAD-COMMAND")
	l.logs.wait(t, "msg=login")
	if strings.Contains(l.logs.String(), "trace_id") {
		t.Errorf("the log names a trace that isn't kept:\n%s", l.logs.String())
	}
	l.tel.SetSampling(1, -1)
	l.login("bob")
	eventually(t, "a line with a trace", func() bool { return strings.Contains(l.logs.String(), "trace_id=") })
	all := l.spans.GetSpans() // the failed command has kept its login
	kept := map[trace.SpanID]bool{}
	for _, s := range all {
		kept[s.SpanContext.SpanID()] = true
	}
	links := 0
	for _, s := range all {
		for _, link := range s.Links {
			links++
			if !kept[link.SpanContext.SpanID()] {
				t.Errorf("%s links to %v, which isn't kept", s.Name, link)
			}
		}
	}
	if links == 0 {
		t.Error("nothing links to a login")
	}
}
