package proxy

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// keysOf is what a source has stored of a password.
func keysOf(t testing.TB, mechanism, password string) string {
	t.Helper()
	generate := scram.SHA256
	if strings.HasPrefix(mechanism, auth.MechanismScramSHA1) {
		generate = scram.SHA1
	}
	client, err := generate.NewClientUnprepped("", password, "")
	must(t, err)
	k, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "0123456789abcdef", Iters: 4096})
	must(t, err)
	b := base64.StdEncoding.EncodeToString
	return "{" + mechanism + "}4096," + b([]byte(k.Salt)) + "," + b(k.StoredKey) + "," + b(k.ServerKey)
}

// keeper is a source with the keys of alice, whose verdict a test changes.
type keeper struct {
	scram *auth.Scram
	keys  map[string]string

	mu      sync.Mutex
	verdict auth.Verdict // nil: accepted
	asked   int
}

func newKeeper(t testing.TB) *keeper {
	k := &keeper{keys: map[string]string{}}
	k.scram = auth.NewScram(auth.ScramOptions{Mechanisms: []string{auth.MechanismScramSHA256, auth.MechanismScramSHA1}, Secret: "a secret"})
	for _, m := range []string{auth.MechanismScramSHA256, auth.MechanismScramSHA1} {
		k.keys[m] = keysOf(t, m, password)
	}
	return k
}

func (s *keeper) Name() string       { return "sql" }
func (s *keeper) Close() error       { return nil }
func (s *keeper) Scram() *auth.Scram { return s.scram }
func (s *keeper) Authenticate(context.Context, auth.Credentials) auth.Verdict {
	return auth.Rejected{Reason: auth.ReasonBadPassword}
}

func (s *keeper) Keys(_ context.Context, c auth.Credentials) (auth.Keys, auth.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if c.User != "alice" {
		return auth.Keys{}, auth.Unknown{}
	}
	k, v := auth.StoredKeys(c.Mechanism, s.keys[strings.TrimSuffix(c.Mechanism, "-PLUS")])
	if s.verdict != nil {
		v = s.verdict
	}
	return k, v
}

func (s *keeper) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func newScram(t *testing.T, change ...func(*Options)) (*scripted, *keeper) {
	t.Helper()
	source := newKeeper(t)
	p := newScripted(t, scriptedCaps, 3, append([]func(*Options){func(o *Options) {
		o.Sources = []auth.Source{source}
		o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "of-the-master"}
		o.Limits.AuthFailureDelay = -1
	}}, change...)...)
	p.judge = func(l imaptest.Login) string {
		if l.Authzid == "" || l.Password != "of-the-master" {
			return "NO [AUTHORIZATIONFAILED] not for itself"
		}
		return ""
	}
	return p, source
}

// byScram logs a client in. sent are the challenges.
func byScram(t *testing.T, c *imaptest.Client, mechanism, user, password string, b scram.ChannelBinding, initial bool) (sent []string, answer imaptest.Response) {
	t.Helper()
	generate := scram.SHA256
	if strings.HasPrefix(mechanism, auth.MechanismScramSHA1) {
		generate = scram.SHA1
	}
	client, err := generate.NewClientUnprepped(user, password, "")
	must(t, err)
	talk := client.NewConversation()
	if auth.Binds(mechanism) {
		talk = client.NewConversationWithChannelBinding(b)
	}
	first, err := talk.Step("")
	must(t, err)
	line := base64.StdEncoding.EncodeToString([]byte(first))
	if initial {
		c.Write("a1 AUTHENTICATE " + mechanism + " " + line)
	} else {
		c.Write("a1 AUTHENTICATE " + mechanism)
		if r := c.Read(); r.Text != "+ " {
			t.Fatalf("the first challenge isn't empty: %s", r)
		}
		c.Write(line)
	}
	for {
		r := c.Read()
		if r.Tag() != "+" {
			return sent, r
		}
		text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Text, "+ "))
		must(t, err)
		sent = append(sent, string(text))
		said, err := talk.Step(string(text))
		if err != nil {
			t.Fatalf("the client doesn't believe the proxy: %v", err)
		}
		c.Write(base64.StdEncoding.EncodeToString([]byte(said)))
	}
}

// tlsOf is the state of a client's TLS connection.
func tlsOf(t *testing.T, c *imaptest.Client) tls.ConnectionState {
	t.Helper()
	under, ok := c.Conn.Conn.(*tls.Conn)
	if !ok {
		t.Fatalf("the client isn't under TLS, it is a %T", c.Conn.Conn)
	}
	return under.ConnectionState()
}

// Each way to log in by SCRAM, and each end of it: what the client hears, what the log and the metrics say.
func TestLoginsByScramAreAnswered(t *testing.T) {
	bindings := map[string]func(*testing.T, tls.ConnectionState) scram.ChannelBinding{
		"tls-exporter": func(t *testing.T, s tls.ConnectionState) scram.ChannelBinding {
			b, err := scram.NewTLSExporterBinding(&s)
			must(t, err)
			return b
		},
		"tls-server-end-point": func(t *testing.T, s tls.ConnectionState) scram.ChannelBinding {
			b, err := scram.NewTLSServerEndpointBinding(&s)
			must(t, err)
			return b
		},
		"of another connection": func(*testing.T, tls.ConnectionState) scram.ChannelBinding {
			return scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: []byte(strings.Repeat("x", 32))}
		},
	}
	for name, c := range map[string]struct {
		mechanism, binding, user, password string
		verdict                            auth.Verdict
		challenges                         int
		code, reason                       string
	}{
		"right":                       {"SCRAM-SHA-256", "", "alice", password, nil, 2, "", ""},
		"right, SHA-1":                {"SCRAM-SHA-1", "", "alice", password, nil, 2, "", ""},
		"right, by its exporter":      {"SCRAM-SHA-256-PLUS", "tls-exporter", "alice", password, nil, 2, "", ""},
		"right, by the end point":     {"SCRAM-SHA-256-PLUS", "tls-server-end-point", "alice", password, nil, 2, "", ""},
		"right, SHA-1, by exporter":   {"SCRAM-SHA-1-PLUS", "tls-exporter", "alice", password, nil, 2, "", ""},
		"right, another's connection": {"SCRAM-SHA-256-PLUS", "of another connection", "alice", password, nil, 1, "AUTHENTICATIONFAILED", "bad_binding"},
		"wrong":                       {"SCRAM-SHA-256", "", "alice", "x", nil, 1, "AUTHENTICATIONFAILED", "bad_password"},
		"unknown":                     {"SCRAM-SHA-256", "", "bob", password, nil, 1, "AUTHENTICATIONFAILED", "unknown_user"},
		"locked":                      {"SCRAM-SHA-256", "", "alice", password, auth.Rejected{Reason: auth.ReasonAccountDisabled}, 1, "AUTHENTICATIONFAILED", "account_disabled"},
		"unavailable":                 {"SCRAM-SHA-256", "", "alice", password, auth.Unavailable{Err: errAway}, 0, "UNAVAILABLE", "unavailable"},
		"bad name":                    {"SCRAM-SHA-256", "", "al*ice", password, nil, 0, "AUTHENTICATIONFAILED", "bad_name"},
	} {
		for _, initial := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p, source := newScram(t, func(o *Options) { o.Names.RefuseSeparators = "*" })
				source.set(func() { source.verdict = c.verdict })
				client := p.dial(implicit)
				var b scram.ChannelBinding
				if c.binding != "" {
					b = bindings[c.binding](t, tlsOf(t, client))
				}
				sent, r := byScram(t, client, c.mechanism, c.user, c.password, b, initial)
				if r.Tag() != "a1" || (r.Status() == "OK") != (c.reason == "") || r.Status() != "OK" && r.Code() != c.code || len(sent) != c.challenges {
					t.Fatalf("after %d challenges: %s", len(sent), r)
				}
				client.MustOK("NOOP") // both sides are in step
				if c.reason == "" {
					p.logs.wait(t, "login.*mechanism="+c.mechanism+" source=sql")
					return
				}
				p.logs.wait(t, `login failed.*mechanism=`+c.mechanism+` reason=`+c.reason)
				if p.metric("imapproxy_login_failures_total", `reason="`+c.reason+`"`) != 1 {
					t.Error("it isn't counted")
				}
			})
		}
	}
}

var errAway = context.DeadlineExceeded

// A user who isn't there is answered as one with a wrong password, and the same way each time.
func TestScramDoesntShowWhoIsThere(t *testing.T) {
	p, _ := newScram(t)
	shape := func(user string) string {
		sent, r := byScram(t, p.dial(plain), "SCRAM-SHA-256", user, "wrong", scram.ChannelBinding{}, true)
		parts := strings.Split(sent[0], ",")
		if r.Code() != "AUTHENTICATIONFAILED" || len(parts) != 3 {
			t.Fatalf("%s: %q, %s", user, sent, r)
		}
		return parts[1] + "," + parts[2]
	}
	unknown, real := shape("bob"), shape("alice")
	if unknown != shape("bob") || unknown == shape("carol") || len(unknown) != len(real) || unknown[strings.Index(unknown, ",i="):] != real[strings.Index(real, ",i="):] {
		t.Errorf("who isn't there is told %s, who is %s", unknown, real)
	}
}

// Clients that end the exchange, or send something else, are answered, and can go on.
func TestScramExchangesThatAreBrokenOff(t *testing.T) {
	p, _ := newScram(t)
	client := p.dial(plain)
	first := base64.StdEncoding.EncodeToString([]byte("n,,n=alice,r=abc"))
	for _, c := range []struct{ then, status, code string }{
		{"*", "BAD", ""}, {"%%", "BAD", ""}, {base64.StdEncoding.EncodeToString([]byte("c=biws,r=abc,p=AAAA")), "NO", "AUTHENTICATIONFAILED"}, {"", "NO", "AUTHENTICATIONFAILED"},
	} {
		client.Write("a1 AUTHENTICATE SCRAM-SHA-256 " + first)
		client.Expect("+ {*}")
		client.Write(c.then)
		if r := client.Read(); r.Tag() != "a1" || r.Status() != c.status || r.Code() != c.code {
			t.Errorf("%q: %s", c.then, r)
		}
	}
	client.Write("a2 AUTHENTICATE SCRAM-SHA-256-PLUS " + first) // no TLS, nothing to bind to
	if r := client.Read(); r.Code() != "CANNOT" {
		t.Errorf("-PLUS in the clear: %s", r)
	}
	client.Write("a3 CAPABILITY")
	if r := client.Read(); !strings.HasSuffix(r.Text, "AUTH=PLAIN AUTH=LOGIN AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1") {
		t.Errorf("in the clear: %s", r)
	}
	under := p.dial(implicit)
	under.Write("a3 CAPABILITY")
	if r := under.Read(); !strings.HasSuffix(r.Text, "AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-1 AUTH=SCRAM-SHA-1-PLUS") {
		t.Errorf("under TLS: %s", r)
	}
	// It could do -PLUS and wasn't told that the proxy can.
	under.Read()
	under.Write("a4 AUTHENTICATE SCRAM-SHA-256 " + base64.StdEncoding.EncodeToString([]byte("y,,n=alice,r=abc")))
	if r := under.Read(); r.Code() != "AUTHENTICATIONFAILED" {
		t.Errorf("who was told of no -PLUS: %s", r)
	}
	p.logs.wait(t, "login failed.*reason=bad_binding")
}

// A proof that is wrong is a guess: further logins wait, before the source is asked.
func TestScramGuessesAreDelayed(t *testing.T) {
	p, source := newScram(t, func(o *Options) {
		o.Limits.AuthFailureDelay = 1
		o.Guessing.Longest = 1
	})
	for range 7 {
		byScram(t, p.dial(plain), "SCRAM-SHA-256", "alice", "wrong", scram.ChannelBinding{}, true)
	}
	p.logs.wait(t, "login delayed.*user=alice by=address")
	if source.asked != 7 {
		t.Errorf("the source was asked %d times", source.asked)
	}
}

// A session that came by SCRAM is parked like others, and ends when the keys are others.
func TestScramSessionsEndWithTheirKeys(t *testing.T) {
	p, source := newScram(t, func(o *Options) { o.Recheck = time.Millisecond })
	login := func() *imaptest.Client {
		c := p.dial(plain)
		if _, r := byScram(t, c, "SCRAM-SHA-256", "alice", password, scram.ChannelBinding{}, true); r.Status() != "OK" {
			t.Fatal(r)
		}
		return c
	}
	attached, parked := login(), login()
	parked.MustOK("SELECT INBOX")
	p.idles(parked)
	p.srv.Sweep()
	attached.MustOK("NOOP") // the keys are the same
	source.set(func() { source.keys[auth.MechanismScramSHA256] = keysOf(t, auth.MechanismScramSHA256, "another") })
	eventually(t, "both sessions' end", func() bool { p.srv.Sweep(); return p.closed(session.ReasonCredentials) == 2 })
	for _, c := range []*imaptest.Client{attached, parked} {
		if r := c.Read(); r.Status() != "BYE" {
			t.Errorf("the client hears %s", r)
		}
		c.ExpectEOF()
	}
}

func TestWithoutAMasterALoginByScramGoesNowhere(t *testing.T) {
	p, _ := newScram(t, func(o *Options) { o.Login = upstream.Auth{Mode: upstream.ModeUser} })
	asked := false
	p.judge = func(imaptest.Login) string { asked = true; return "" }
	if _, r := byScram(t, p.dial(plain), "SCRAM-SHA-256", "alice", password, scram.ChannelBinding{}, true); r.Code() != "UNAVAILABLE" {
		t.Errorf("%s", r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if asked {
		t.Error("the backend was asked")
	}
}
