package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/crypto/bcrypt"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// slowly is how much time passes at the cause, by the lab's clock.
const slowly = 7 * time.Second

// named checks that one kept trace names a cause: its span lasted as long as the cause, and so did the spans around it, but no other span of the
// trace. within are the spans that contain the cause.
func (l *lab) named(span string, attrs []string, within ...string) tracetest.SpanStub {
	l.t.Helper()
	var found tracetest.SpanStub
	eventually(l.t, "a slow span "+span, func() bool {
		for _, s := range l.spans.GetSpans() {
			if s.Name == span && s.EndTime.Sub(s.StartTime) >= slowly {
				found = s
				return true
			}
		}
		return false
	})
	eventually(l.t, "the root of the trace of "+span, func() bool {
		for _, s := range l.spans.GetSpans() {
			if s.SpanContext.TraceID() == found.SpanContext.TraceID() && !s.Parent.IsValid() {
				return true
			}
		}
		return false
	})
	for _, s := range l.spans.GetSpans() {
		if s.SpanContext.TraceID() != found.SpanContext.TraceID() || s.Name == span || s.EndTime.Sub(s.StartTime) < slowly {
			continue
		}
		around := false
		for _, name := range within {
			around = around || s.Name == name
		}
		if !around {
			l.t.Errorf("the span %s lasted %s as well as %s", s.Name, s.EndTime.Sub(s.StartTime), span)
		}
	}
	for _, want := range attrs {
		key, value, _ := strings.Cut(want, "=")
		if got := text(found, key); got != value && (value != "*" || got == "") {
			l.t.Errorf("%s: the attribute %s is %q, want %q", span, key, got, value)
		}
	}
	return found
}

// text is an attribute of a span as text; "": it has none.
func text(s tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// slowSource is a credential source in which time passes.
type slowSource struct {
	auth.Source
	pass func()
}

func (s *slowSource) Authenticate(ctx context.Context, c auth.Credentials) auth.Verdict {
	s.pass()
	return s.Source.Authenticate(ctx, c)
}

// Each cause of a slow login or command has a span or an attribute of its own in its trace.
func TestATraceNamesWhatWasSlow(t *testing.T) {
	t.Run("TLS", func(t *testing.T) {
		l := newLab(t, labOptions{})
		slow := l.cert.Client.Clone()
		slow.VerifyConnection = func(tls.ConnectionState) error { // before the client's last message of the handshake
			l.clock.forward(slowly)
			return nil
		}
		imaptest.DialTLS(t, l.addr(implicit), slow)
		l.named("tls", []string{"imapproxy.outcome=ok", "session.id=*"})
	})
	t.Run("credential source", func(t *testing.T) {
		var l *lab
		l = newLab(t, labOptions{change: func(o *Options) {
			o.Sources = []auth.Source{&slowSource{auth.NewBackend(), func() { l.clock.forward(slowly) }}}
		}})
		l.login("alice")
		l.named("auth", []string{"imapproxy.auth.source=backend"}, "login")
	})
	t.Run("hashing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "users")
		hash, err := bcrypt.GenerateFromPassword([]byte(password), 10) // long enough to be seen at work, on most tries
		must(t, err)
		must(t, os.WriteFile(path, []byte("alice:{BLF-CRYPT}"+string(hash)+"\n"), 0o600))
		users, err := auth.NewPasswdFile(path, auth.PasswdFileOptions{})
		must(t, err)
		defer users.Close()
		l := newLab(t, labOptions{change: func(o *Options) { o.Sources = []auth.Source{users} }})
		spans := func(name string, least time.Duration) (n int) {
			for _, s := range l.spans.GetSpans() {
				if s.Name == name && s.EndTime.Sub(s.StartTime) >= least {
					n++
				}
			}
			return n
		}
		for spans("hash", slowly) == 0 { // the hash may be over before it is seen, or before time has passed
			before, seen, buf := spans("login", 0), false, make([]byte, 1<<20)
			c := l.dial(plain)
			c.Write("a LOGIN alice " + password)
			eventually(t, "the password to be hashed", func() bool {
				seen = strings.Contains(string(buf[:runtime.Stack(buf, true)]), "auth.(*verifier).matches")
				return seen || spans("login", 0) > before
			})
			if seen {
				l.clock.forward(slowly)
			}
			c.Expect("a OK {*}")
			eventually(t, "the login's trace", func() bool { return spans("login", 0) > before })
		}
		slow := l.named("hash", nil, "auth", "login")
		parts := l.partsOf(slow)
		around, turn, hashed := parts["auth"], parts["hash_turn"], parts["hash"]
		if hashed.Name == "" || turn.Name == "" || turn.StartTime.Before(around.StartTime) || hashed.StartTime.Before(turn.EndTime) || hashed.EndTime.After(around.EndTime) {
			t.Errorf("auth %v to %v, hash_turn %v to %v, hash %v to %v", around.StartTime, around.EndTime, turn.StartTime, turn.EndTime, hashed.StartTime, hashed.EndTime)
		}
		if got := text(around, "imapproxy.auth.source"); got != "passwd_file" {
			t.Errorf("the source is %q", got)
		}
	})
	t.Run("placement", func(t *testing.T) {
		var l *lab
		l = newLab(t, labOptions{change: func(o *Options) {
			o.Placement = func(context.Context, string) (string, bool, error) {
				l.clock.forward(slowly)
				return "b1", true, nil
			}
		}})
		l.login("alice")
		l.named("placement", nil, "login")
	})
	t.Run("login at the backend", func(t *testing.T) {
		var asked time.Time // when the backend was
		slow := polite()
		check := slow.Check
		slow.Check = func(c *imaptest.BackendConn, login imaptest.Login) string {
			asked = time.Now()
			return check(c, login)
		}
		l := newLab(t, labOptions{handlers: []imaptest.Handler{slow.Serve}})
		l.login("alice")
		var named []string
		for _, s := range spansOf(t, l, "login") {
			if s.StartTime.Before(asked) && s.EndTime.After(asked) {
				named = append(named, s.Name)
			}
			if s.Name == "backend_login" && (text(s, "imapproxy.backend") != "b1" || text(s, "server.address") != "127.0.0.1" || text(s, "server.port") == "" ||
				text(s, "network.transport") != "tcp" || s.SpanKind != trace.SpanKindClient) {
				t.Errorf("%s %v", s.SpanKind, s.Attributes)
			}
		}
		if strings.Join(named, " ") != "backend_login login" {
			t.Errorf("while the backend was asked, these spans went on: %v", named)
		}
	})
	t.Run("refused by the backend", func(t *testing.T) {
		l := newLab(t, labOptions{rows: []routing.Backend{{ID: "b1", Address: "127.0.0.1:1", Weight: 100}}})
		c := l.dial(plain)
		if c.TryLogin("alice", password).OK() {
			t.Fatal("a login without a backend")
		}
		for _, s := range spansOf(t, l, "login") {
			if s.Name == "dial" && (text(s, "server.port") != "1" || text(s, "error.type") == "" || s.SpanKind != trace.SpanKindClient) {
				t.Errorf("the dial: %v", s.Attributes)
			}
		}
	})
	t.Run("command at the backend", func(t *testing.T) {
		var l *lab
		slow := polite()
		slow.Commands = map[string]imaptest.CommandFunc{"CHECK": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			l.clock.forward(slowly)
			return c.Sendf("%s OK checked", cmd.Tag())
		}}
		l = newLab(t, labOptions{handlers: []imaptest.Handler{slow.Serve}})
		l.login("alice").MustOK("CHECK")
		l.named("relay", []string{"imapproxy.backend=b1", "server.address=127.0.0.1", "server.port=*", "network.transport=tcp"}, "imap CHECK")
		all := spansOf(t, l, "imap CHECK")
		if n := number(all[len(all)-1], "imapproxy.backend_wait"); n < slowly.Seconds() {
			t.Errorf("backend_wait is %v", n)
		}
	})
	t.Run("client", func(t *testing.T) {
		l := newLab(t, labOptions{})
		c := l.login("alice")
		// The command's literal comes late.
		c.Write("a SEARCH SUBJECT {3}")
		c.Expect("+")
		l.clock.forward(slowly)
		c.Write("abc")
		c.Expect("a BAD unknown command")
		l.named("imap SEARCH", []string{"imapproxy.forward=*"})
	})
}

// The causes that need more than one client or a parked session.
func TestATraceNamesAWaitInTheProxy(t *testing.T) {
	t.Run("queue", func(t *testing.T) {
		asked, answer := make(chan struct{}, 2), make(chan struct{})
		busy := polite()
		check := busy.Check
		busy.Check = func(c *imaptest.BackendConn, login imaptest.Login) string {
			asked <- struct{}{}
			<-answer
			return check(c, login)
		}
		l := newLab(t, labOptions{handlers: []imaptest.Handler{busy.Serve}, limits: session.Limits{UnprovedLogins: 1}})
		first, second := l.dial(plain), l.dial(plain)
		first.Write("a LOGIN alice " + password)
		<-asked
		second.Write("b LOGIN bob " + password)
		awaitStack(t, "the second login to wait for its turn", "fair.(*Queue[...]).AcquireAs")
		l.clock.forward(slowly)
		close(answer)
		first.Expect("a OK {*}")
		second.Expect("b OK {*}")
		l.named("turn", nil, "login")
	})
	t.Run("dial", func(t *testing.T) {
		var l *lab
		l = newLab(t, labOptions{change: func(o *Options) {
			dialer, err := upstream.New(upstream.Options{Hostname: "proxy.test", ConnectTimeout: time.Minute, LoginTimeout: time.Minute, Telemetry: o.Telemetry, Now: func() time.Time { return l.clock.now() },
				Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
					l.clock.forward(slowly)
					return (&net.Dialer{}).DialContext(ctx, network, address)
				}})
			must(t, err)
			o.Dialer = dialer
		}})
		l.login("alice")
		s := l.named("dial", []string{"imapproxy.backend=b1", "server.address=127.0.0.1", "server.port=*", "network.transport=tcp"}, "login")
		if s.SpanKind != trace.SpanKindClient {
			t.Errorf("the dial's kind is %s", s.SpanKind)
		}
	})
	t.Run("resume", func(t *testing.T) {
		p := newParkingLab(t, labOptions{})
		c := p.idle("alice")
		c.Write("DONE")
		c.Expect("i OK {*}")
		p.parked(1)
		p.slowResume("alice", slowly)
		c.MustOK("UID FETCH 1 (FLAGS)")
		p.named("select", []string{"imapproxy.backend=b1", "server.address=127.0.0.1", "network.transport=tcp"}, "resume", "imap UID FETCH")
		kinds := map[string]trace.SpanKind{}
		for _, s := range spansOf(t, p.lab, "imap UID FETCH") {
			kinds[s.Name] = s.SpanKind
		}
		for _, name := range []string{"dial", "backend_login", "select", "relay"} {
			if kinds[name] != trace.SpanKindClient {
				t.Errorf("the kind of %s is %s", name, kinds[name])
			}
		}
	})
}

// The line about a session's end says how it stood and what its client did last.
func TestTheLineOfAnEndHasTheAttachmentAndTheLastCommand(t *testing.T) {
	ended := func(l *lab, want string) {
		t.Helper()
		eventually(t, want, func() bool {
			for line := range strings.Lines(l.logs.String()) {
				if strings.Contains(line, `"session ended"`) && strings.Contains(line, want) {
					return true
				}
			}
			return false
		})
	}
	l := newLab(t, labOptions{})
	c := l.login("alice")
	c.MustOK("NOOP")
	_ = c.Conn.Close()
	ended(l, "attachment=attached last_command=NOOP")
	p := newParkingLab(t, labOptions{})
	_ = p.idle("alice").Conn.Close()
	ended(p.lab, "attachment=parked last_command=IDLE")
}
