package proxy

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
)

// tokenJSON is what the backend says of a token that it doesn't take.
const tokenJSON = `{"status":"invalid_token","openid-configuration":"https://id.example.org/.well-known/openid-configuration"}`

// jwt is a token with the time at which it expires; nothing has signed it.
func jwt(until time.Time, end string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, until.Unix())) + "." + end
}

// passing is a proxy that passes tokens on to a backend, which takes those that have password in them. told are the logins there.
type passing struct {
	*scripted
	told []imaptest.Login // guarded by scripted.mu
	bad  bool             // no token is taken; likewise
}

func newPassing(t *testing.T, listed string, change ...func(*Options)) *passing {
	t.Helper()
	p := &passing{}
	before := imaptest.Dialogue{Caps: "IMAP4rev1 ID LITERAL+ SASL-IR " + listed, Challenge: tokenJSON}
	p.scripted = newScriptedBefore(t, before, scriptedCaps, 3, append([]func(*Options){func(o *Options) {
		o.Sources = []auth.Source{auth.NewBackend(auth.MechanismOAuthBearer, auth.MechanismXOAuth2)}
		o.Names.Lowercase = true
	}}, change...)...)
	p.set(func() {
		p.judge = func(l imaptest.Login) string {
			p.told = append(p.told, l)
			if p.bad || !strings.Contains(l.Password, password) {
				return "NO [AUTHENTICATIONFAILED] Authentication failed."
			}
			return ""
		}
	})
	return p
}

const bothTokens = "AUTH=PLAIN AUTH=OAUTHBEARER AUTH=XOAUTH2"

// by logs a client in with a token.
func (p *passing) by(mechanism, token string) *imaptest.Client {
	p.t.Helper()
	c := p.dial(plain)
	c.Write("a1 AUTHENTICATE " + mechanism + " " + message(mechanism, "Alice", token))
	if r := c.Read(); r.Tag() != "a1" || r.Status() != "OK" {
		p.t.Fatalf("%s: %s", mechanism, r)
	}
	return c
}

// A backend is sent the client's token under the normalised name, by the client's mechanism; what it says of a bad one reaches the client
// unchanged. The token may be long.
func TestTokensArePassedOn(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{auth.MechanismOAuthBearer, auth.MechanismXOAuth2} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			p := newPassing(t, bothTokens)
			for _, token := range []string{password, password + strings.Repeat("A", 16<<10-len(password))} {
				c := p.by(mechanism, token)
				c.MustOK("NOOP")
				p.set(func() {
					if want := (imaptest.Login{Mechanism: mechanism, User: "alice", Password: token}); len(p.told) != 1 || p.told[0] != want {
						t.Errorf("the backend was sent %.200v, want %.200v", p.told, want)
					}
					p.told = nil
				})
				must(t, c.Conn.Close())
			}
			for token, reason := range map[string]string{"wrong": "backend_refused", jwt(time.Now().Add(-time.Minute), "x"): "expired_token", jwt(time.Now().Add(time.Hour), "x"): "backend_refused"} {
				c := p.dial(plain)
				before := p.metric("imapproxy_login_failures_total", `reason="`+reason+`"`)
				c.Write("a1 AUTHENTICATE " + mechanism + " " + message(mechanism, "alice", token))
				r := c.Read()
				text, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(r.Text, "+ ")))
				if string(text) != tokenJSON {
					t.Fatalf("challenged with %s", r)
				}
				c.Write(map[string]string{auth.MechanismOAuthBearer: "AQ=="}[mechanism])
				if r = c.Read(); r.Tag() != "a1" || r.Code() != "AUTHENTICATIONFAILED" {
					t.Errorf("%s", r)
				}
				if p.metric("imapproxy_login_failures_total", `reason="`+reason+`"`) != before+1 {
					t.Errorf("%s isn't counted as %s", token, reason)
				}
				must(t, c.Conn.Close())
			}
			if a := p.login("alice"); a == nil { // a password still is one
				t.Error("no login by a password")
			}
		})
	}
}

// What is offered is what is passed on, and a backend that takes no tokens isn't sent one.
func TestTokensOfABackendThatTakesNone(t *testing.T) {
	t.Parallel()
	p := newPassing(t, "AUTH=PLAIN", func(o *Options) { o.Sources = []auth.Source{auth.NewBackend(auth.MechanismXOAuth2)} })
	c := p.dial(plain)
	caps := c.MustOK("CAPABILITY")
	if list, ok := caps.Find("CAPABILITY"); !ok || !strings.Contains(list.Text, "AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2") || strings.Contains(list.Text, "OAUTHBEARER") {
		t.Errorf("%v", list)
	}
	c.Write("a1 AUTHENTICATE OAUTHBEARER " + message("OAUTHBEARER", "alice", password))
	if r := c.Read(); r.Code() != "CANNOT" {
		t.Errorf("%s", r)
	}
	c.Write("a2 AUTHENTICATE XOAUTH2 " + message("XOAUTH2", "alice", password))
	if r := c.Read(); r.Code() != "UNAVAILABLE" {
		t.Errorf("%s", r)
	}
	p.set(func() {
		if len(p.told) != 0 {
			t.Errorf("it was sent %v", p.told)
		}
	})
}

// A token that may end soon, or at any time, keeps its session's connection.
func TestSessionsWhoseTokenMayEndSoonAreNotParked(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{"opaque": password, "ends soon": jwt(time.Now().Add(10*time.Minute), password)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPassing(t, bothTokens)
			c := p.by(auth.MechanismXOAuth2, token)
			c.MustOK("SELECT INBOX")
			c.Write("i IDLE")
			c.Expect("+{*}")
			eventually(t, "the reason why not", func() bool {
				p.srv.Sweep()
				page, _ := p.srv.Sessions(session.Filter{})
				return len(page) == 1 && page[0].NotParked == "token"
			})
		})
	}
}

// A session whose token is good for long is parked, and has its connection back before the token ends; it logs in with the token, never with
// a warm connection of another login.
func TestASessionWithATokenIsParkedInItsTime(t *testing.T) {
	t.Parallel()
	p := newPassing(t, bothTokens)
	token := jwt(time.Now().Add(20*time.Minute), password)
	c := p.by(auth.MechanismXOAuth2, token)
	c.MustOK("SELECT INBOX")
	p.idles(c)
	p.lose() // its warm connection
	p.clock.forward(16 * time.Minute)
	p.attached()
	p.set(func() {
		for _, l := range p.told {
			if l != (imaptest.Login{Mechanism: auth.MechanismXOAuth2, User: "alice", Password: token}) {
				t.Errorf("the backend was sent %v", l)
			}
		}
		if len(p.told) < 2 {
			t.Errorf("%d logins", len(p.told))
		}
	})
	c.Write("DONE")
	for r := c.Read(); r.Tag() != "i"; r = c.Read() {
		if r.Text != "* OK Still here" { // 16 minutes have passed
			t.Fatal(r)
		}
	}
	c.MustOK("NOOP")
	for range 3 {
		p.srv.Sweep()
	}
	if at := p.srv.Status().Attachments; at[session.Attached.String()] != 1 {
		t.Errorf("it is parked again: %v", at)
	}
}

// After a loss a session goes on with its token, whether it could be parked or not; if the backend takes it no more, the session ends, and
// is counted.
func TestASessionWithATokenAfterALoss(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{"lasts long": jwt(time.Now().Add(time.Hour), password), "ends soon": jwt(time.Now().Add(time.Minute), password), "opaque": password} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPassing(t, bothTokens)
			c := p.by(auth.MechanismOAuthBearer, token)
			c.MustOK("SELECT INBOX")
			c.MustOK("NOOP")
			p.lose()
			p.recovered()
			c.MustOK("NOOP")
			p.set(func() { p.bad = true })
			p.lose()
			p.ended(session.ReasonCredentials)
		})
	}
}
