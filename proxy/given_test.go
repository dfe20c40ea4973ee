package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// gives lets alice in, as another user and with a password for the backend. It notes the names that it is
// asked about.
type gives struct {
	changeable
	names chan string
}

func (g *gives) Authenticate(ctx context.Context, c auth.Credentials) auth.Verdict {
	g.names <- c.User
	return g.changeable.Authenticate(ctx, c)
}

// ofTheBackend is what a source gives; lab searches all that is told for password, which is in it.
const ofTheBackend = password + "-2"

// A source says who the client is at the backend, and by which password: sessions, limits and the
// backend go by it, at the login and at each resume, while the source is asked by the client's own.
func TestWhatASourceGivesCountsAtTheBackend(t *testing.T) {
	t.Parallel()
	source := &gives{changeable: changeable{verdict: auth.Accepted{User: "u17", Password: ofTheBackend}}, names: make(chan string, 100)}
	p := newScripted(t, scriptedCaps, 3, func(o *Options) {
		o.Sources = []auth.Source{source}
		o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "of-the-master"}
	})
	var logins []imaptest.Login
	p.judge = func(l imaptest.Login) string {
		logins = append(logins, l)
		return ""
	}
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	p.idles(c)
	if s := p.srv.reg.OfUser("u17"); len(s) != 1 || s[0].User() != "u17" {
		t.Errorf("sessions of u17: %v", s)
	}
	p.clock.forward(session.DefaultRecheck)
	source.set(auth.Accepted{User: "u17", Password: ofTheBackend + "-new"})
	done(c)
	c.MustOK("UID FETCH 1:* (FLAGS)")
	p.idles(c)
	close(source.names)
	for name := range source.names {
		if name != "alice" {
			t.Errorf("the source was asked about %s", name)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range logins {
		if l.Authzid != "" || l.User != "u17" || !strings.HasPrefix(l.Password, ofTheBackend) {
			t.Errorf("login %d at the backend: authzid %q, user %q", i, l.Authzid, l.User)
		}
	}
	if n := len(logins); n < 2 || logins[n-1].Password != ofTheBackend+"-new" {
		t.Errorf("%d logins, the last not with the new password", n)
	}
}

// The client's password was right: a backend that refuses the one that the source gives is the
// operators' trouble, and no reason for the client to ask its user for another.
func TestABackendThatRefusesWhatASourceGave(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ says, want string }{
		{"NO [AUTHENTICATIONFAILED] no", "NO [UNAVAILABLE] {*}"},
		{"NO [EXPIRED] Choose another password", "NO [EXPIRED] Choose another password"},
		{"NO [UNAVAILABLE] later", "NO [UNAVAILABLE] {*}"},
	} {
		p := newScripted(t, scriptedCaps, 3, func(o *Options) {
			o.Sources = []auth.Source{&changeable{verdict: auth.Accepted{User: "u17", Password: ofTheBackend}}}
			o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "of-the-master"}
		})
		p.mu.Lock()
		p.judge = func(imaptest.Login) string { return c.says }
		p.mu.Unlock()
		client := p.dial(plain)
		client.Write("a LOGIN alice " + password)
		client.Expect("a " + c.want)
		if c.says == "NO [AUTHENTICATIONFAILED] no" && !strings.Contains(p.logs.String(), "gives for this user") {
			t.Errorf("the log doesn't say what to correct: %s", p.logs)
		}
		p.mu.Lock()
		p.judge = func(imaptest.Login) string { return "" }
		p.mu.Unlock()
		client.MustOK("LOGIN alice " + password)
	}
}

// The client's name is another user's since: the session isn't theirs.
func TestASessionEndsWhenItsNameIsAnotherUsers(t *testing.T) {
	t.Parallel()
	for _, now := range []auth.Accepted{{User: "u18"}, {}} {
		source := &changeable{verdict: auth.Accepted{User: "u17"}}
		p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Sources = []auth.Source{source} })
		c := p.login("alice")
		c.MustOK("SELECT INBOX")
		p.idles(c)
		p.clock.forward(session.DefaultRecheck)
		source.set(now)
		done(c)
		c.Write("x UID FETCH 1:* (FLAGS)")
		if r := c.Read(); r.Status() != "BYE" || !strings.Contains(r.Text, "password") {
			t.Errorf("%s", r)
		}
		c.ExpectEOF()
		p.ended(session.ReasonCredentials)
	}
}

// A source wants a failure's answer delayed: its client waits, and no other does.
func TestASourcesWaitDelaysItsOwnClientAlone(t *testing.T) {
	t.Parallel()
	source := &changeable{verdict: auth.Rejected{Reason: auth.ReasonBadPassword, Wait: time.Hour}}
	l := newLab(t, labOptions{change: func(o *Options) { o.Sources = []auth.Source{source} }})
	late := l.dial(plain)
	late.Write("a LOGIN alice " + password)
	eventually(t, "the question", func() bool { return source.times() == 1 })
	source.set(auth.Accepted{})
	l.dial(plain).MustOK("LOGIN bob %s", password)
	late.Quiet(20 * time.Millisecond)
}
