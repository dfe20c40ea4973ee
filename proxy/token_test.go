package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// tokens is a source of tokens alone. A user's token is the password of the tests and, if it is long, what more
// belongs to it.
type tokens struct {
	mu      sync.Mutex
	verdict auth.Verdict // instead; nil: by the token
}

func (s *tokens) Name() string { return "oauth" }
func (s *tokens) Close() error { return nil }
func (s *tokens) Mechanisms() []string {
	return []string{auth.MechanismOAuthBearer, auth.MechanismXOAuth2}
}
func (s *tokens) Wants() (openIDConfiguration, scope string) {
	return "https://id.example/.well-known/openid-configuration", "mail"
}

func (s *tokens) Authenticate(_ context.Context, c auth.Credentials) auth.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.verdict != nil:
		return s.verdict
	case strings.HasPrefix(c.Password.Reveal(), password):
		return auth.Accepted{}
	}
	return auth.Rejected{Reason: auth.ReasonBadToken}
}

func (s *tokens) say(v auth.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verdict = v
}

// message is what a client sends by a mechanism, in base64.
func message(mechanism, user, token string) string {
	text := "n,a=" + user + ",\x01host=h\x01port=993\x01auth=Bearer " + token + "\x01\x01"
	if mechanism == auth.MechanismXOAuth2 {
		text = "user=" + user + "\x01auth=Bearer " + token + "\x01\x01"
	}
	return base64.StdEncoding.EncodeToString([]byte(text))
}

func newTokens(t *testing.T, change ...func(*Options)) (*scripted, *tokens) {
	t.Helper()
	source := &tokens{}
	p := newScripted(t, scriptedCaps, 3, append([]func(*Options){func(o *Options) {
		o.Sources = []auth.Source{source}
		o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "of-the-master"}
	}}, change...)...)
	p.judge = func(l imaptest.Login) string {
		if l.Authzid == "" || l.Password != "of-the-master" {
			return "NO [AUTHORIZATIONFAILED] not for itself"
		}
		return ""
	}
	return p, source
}

// Each way to send a token, and each end of it: what the client hears, what the log and the metrics say.
func TestLoginsWithATokenAreAnsweredAsClientsNeedIt(t *testing.T) {
	long := password + strings.Repeat("A", 16<<10-len(password))
	for _, mechanism := range []string{"OAUTHBEARER", "XOAUTH2"} {
		for name, c := range map[string]struct {
			message    string
			verdict    auth.Verdict
			challenged bool
			status     string // of the tagged answer
			code       string
			reason     string // "": ok
		}{
			"right":            {message(mechanism, "alice", password), nil, false, "OK", "", ""},
			"of 16 KB":         {message(mechanism, "alice", long), nil, false, "OK", "", ""},
			"wrong":            {message(mechanism, "alice", "xyz"), nil, true, "NO", "AUTHENTICATIONFAILED", "bad_token"},
			"expired":          {message(mechanism, "alice", password), auth.Rejected{Reason: auth.ReasonExpiredToken}, true, "NO", "AUTHENTICATIONFAILED", "expired_token"},
			"locked":           {message(mechanism, "alice", password), auth.Rejected{Reason: auth.ReasonAccountDisabled}, true, "NO", "AUTHENTICATIONFAILED", "account_disabled"},
			"unknown":          {message(mechanism, "alice", password), auth.Unknown{}, true, "NO", "AUTHENTICATIONFAILED", "bad_token"},
			"bad name":         {message(mechanism, "al*ice", password), nil, true, "NO", "AUTHENTICATIONFAILED", "bad_name"},
			"8-bit name":       {message(mechanism, "al\xffice", password), nil, true, "NO", "AUTHENTICATIONFAILED", "bad_name"},
			"unavailable":      {message(mechanism, "alice", password), auth.Unavailable{Err: errors.New("away")}, false, "NO", "UNAVAILABLE", "unavailable"},
			"empty":            {message(mechanism, "alice", ""), nil, false, "NO", "AUTHENTICATIONFAILED", "malformed"},
			"NUL":              {message(mechanism, "alice", password+"\x00"), nil, false, "NO", "AUTHENTICATIONFAILED", "malformed"},
			"8-bit":            {message(mechanism, "alice", password+"\xfc"), nil, false, "NO", "AUTHENTICATIONFAILED", "malformed"},
			"injection":        {message(mechanism, "alice", password+"\x01user=bob\x01auth=Bearer "+password), nil, false, "NO", "AUTHENTICATIONFAILED", "malformed"},
			"longer than that": {message(mechanism, "alice", long+"A"), nil, false, "NO", "AUTHENTICATIONFAILED", "malformed"},
			"much longer":      {message(mechanism, "alice", long+long[:4<<10]), nil, false, "BAD", "", "malformed"},
			"not base64":       {"%%%", nil, false, "BAD", "", "malformed"},
		} {
			for _, initial := range []bool{true, false} {
				t.Run(mechanism+"/"+name, func(t *testing.T) {
					t.Parallel()
					p, source := newTokens(t, func(o *Options) {
						o.Limits.AuthFailureDelay = -1
						o.Names.RefuseSeparators = "*"
					})
					source.say(c.verdict)
					client := p.dial(plain)
					if initial {
						client.Write("a1 AUTHENTICATE " + mechanism + " " + c.message)
					} else {
						client.Write("a1 AUTHENTICATE " + mechanism)
						client.Expect("+ ")
						client.Write(c.message)
					}
					r := client.Read()
					if c.challenged {
						text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Text, "+ "))
						if r.Tag() != "+" || err != nil || !strings.Contains(string(text), `"status":"`) || !strings.Contains(string(text), `"scope":"mail"`) {
							t.Fatalf("challenged with %s: %s", r, text)
						}
						client.Write(map[string]string{"OAUTHBEARER": "AQ==", "XOAUTH2": ""}[mechanism])
						r = client.Read()
					}
					if r.Tag() != "a1" || r.Status() != c.status || c.code != "" && r.Code() != c.code {
						t.Fatalf("the answer is %s", r)
					}
					client.MustOK("NOOP") // both sides are in step
					if c.reason == "" {
						p.logs.wait(t, "login.*mechanism="+mechanism+" source=oauth")
						if p.metric("imapproxy_login_duration_seconds_count", `mechanism="`+mechanism+`"`, `source="oauth"`, `outcome="ok"`) != 1 {
							t.Error("it isn't counted")
						}
						return
					}
					p.logs.wait(t, `login failed.*mechanism=`+mechanism+` reason=`+c.reason)
					if p.metric("imapproxy_login_failures_total", `reason="`+c.reason+`"`) != 1 {
						t.Error("it isn't counted")
					}
				})
			}
		}
	}
}

// After a challenge some clients give up by "*", and some say nothing more.
func TestAClientMayAnswerTheChallengeAsItLikes(t *testing.T) {
	p, _ := newTokens(t, func(o *Options) { o.Limits.AuthFailureDelay = -1 })
	for _, answer := range []string{"*", "AQ==", "", "e30="} {
		c := p.dial(plain)
		c.Write("a1 AUTHENTICATE XOAUTH2 " + message("XOAUTH2", "alice", "xyz"))
		c.Expect("+ {*}")
		c.Write(answer)
		if r := c.Read(); r.Tag() != "a1" || r.Code() != "AUTHENTICATIONFAILED" {
			t.Errorf("%q: %s", answer, r)
		}
		c.Write("a2 AUTHENTICATE XOAUTH2 " + message("XOAUTH2", "alice", password))
		if r := c.Read(); r.Status() != "OK" {
			t.Errorf("with the right one then: %s", r)
		}
		must(t, c.Conn.Close())
	}
	c := p.dial(plain)
	c.Write("a1 AUTHENTICATE XOAUTH2 " + message("XOAUTH2", "alice", "xyz"))
	c.Expect("+ {*}")
	must(t, c.Conn.Close())
	eventually(t, "the session's end", func() bool { return p.srv.reg.Total() == 0 })
}

// What the list says is what the sources can do, no more and no less.
func TestTheListOfMechanismsSaysWhatTheSourcesCanDo(t *testing.T) {
	master := upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "of-the-master"}
	for name, c := range map[string]struct {
		sources []auth.Source
		want    string
		login   string // the code of a LOGIN's NO; "": OK
	}{
		"tokens":    {[]auth.Source{&tokens{}}, "AUTH=OAUTHBEARER AUTH=XOAUTH2 LOGINDISABLED", "CANNOT"},
		"passwords": {[]auth.Source{auth.NewBackend()}, "AUTH=PLAIN AUTH=LOGIN", ""},
		"both":      {[]auth.Source{&tokens{}, auth.NewBackend()}, "AUTH=PLAIN AUTH=LOGIN AUTH=OAUTHBEARER AUTH=XOAUTH2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, labOptions{change: func(o *Options) { o.Sources, o.Login = c.sources, master }})
			client := l.dial(plain)
			client.Write("a1 CAPABILITY")
			if r := client.Read(); !strings.HasSuffix(r.Text, " ID "+c.want) {
				t.Errorf("%s", r)
			}
			client.Read()
			for _, m := range []string{"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "GSSAPI"} {
				if strings.Contains(c.want, "AUTH="+m) {
					continue
				}
				client.Write("a2 AUTHENTICATE " + m)
				if r := client.Read(); r.Status() != "NO" || r.Code() != "CANNOT" {
					t.Errorf("%s: %s", m, r)
				}
			}
			if a := client.TryLogin("alice", password); a.OK() != (c.login == "") || a.Tagged.Code() != c.login && c.login != "" {
				t.Errorf("LOGIN: %s", a.Tagged)
			}
		})
	}
}

// A literal of LOGIN isn't asked for where no source takes passwords.
func TestNoPasswordIsAskedForWhereNoneIsTaken(t *testing.T) {
	p, _ := newTokens(t)
	c := p.dial(plain)
	c.Write("a1 LOGIN alice {10}")
	if r := c.Read(); r.Tag() != "a1" || r.Code() != "CANNOT" {
		t.Errorf("%s", r)
	}
}

// A backend is never sent a token as a password.
func TestWithoutAMasterATokenGoesNowhere(t *testing.T) {
	p, _ := newTokens(t, func(o *Options) { o.Login = upstream.Auth{Mode: upstream.ModeUser} })
	asked := false
	p.judge = func(imaptest.Login) string { asked = true; return "" }
	c := p.dial(plain)
	c.Write("a1 AUTHENTICATE XOAUTH2 " + message("XOAUTH2", "alice", password))
	if r := c.Read(); r.Code() != "UNAVAILABLE" {
		t.Errorf("%s", r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if asked {
		t.Error("the backend was asked")
	}
}

// A token that isn't good any more ends its user's sessions, attached and parked ones.
func TestATokenThatIsOverEndsItsSessions(t *testing.T) {
	p, source := newTokens(t, func(o *Options) { o.Recheck = time.Millisecond })
	login := func() *imaptest.Client {
		c := p.dial(plain)
		c.Write("a1 AUTHENTICATE OAUTHBEARER " + message("OAUTHBEARER", "alice", password))
		if r := c.Read(); r.Status() != "OK" {
			t.Fatalf("%s", r)
		}
		return c
	}
	attached, parked := login(), login()
	parked.MustOK("SELECT INBOX")
	p.idles(parked)
	source.say(auth.Unavailable{Err: errors.New("away")})
	p.srv.Sweep()
	attached.MustOK("NOOP") // no one is put out because the provider is away
	source.say(auth.Rejected{Reason: auth.ReasonExpiredToken})
	eventually(t, "both sessions' end", func() bool { p.srv.Sweep(); return p.closed(session.ReasonCredentials) == 2 })
	for _, c := range []*imaptest.Client{attached, parked} {
		if r := c.Read(); r.Status() != "BYE" {
			t.Errorf("the client hears %s", r)
		}
		c.ExpectEOF()
	}
}
