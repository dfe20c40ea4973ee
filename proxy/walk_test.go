package proxy

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/crypto/bcrypt"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
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
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		must(t, err)
		must(t, os.WriteFile(path, []byte("alice:{BLF-CRYPT}"+string(hash)+"\n"), 0o600))
		users, err := auth.NewPasswdFile(path, auth.PasswdFileOptions{})
		must(t, err)
		defer users.Close()
		l := newLab(t, labOptions{change: func(o *Options) { o.Sources = []auth.Source{users} }})
		l.login("alice")
		spans := map[string]tracetest.SpanStub{}
		for _, s := range spansOf(t, l, "login") {
			spans[s.Name] = s
		}
		around, turn, hashed := spans["auth"], spans["hash_turn"], spans["hash"]
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
		if n := number(l.named("imap CHECK", []string{"imapproxy.backend=b1"}), "imapproxy.backend_wait"); n < slowly.Seconds() {
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
