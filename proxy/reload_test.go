package proxy

import (
	"slices"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

func TestReloadKeepsAListenersTLSMode(t *testing.T) {
	for _, mode := range []string{session.TLSNone, session.TLSStartTLS, session.TLSImplicit} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labOptions{})
			o := l.opts
			o.Hostname = "new.test"
			o.Listeners = slices.Clone(o.Listeners)
			for i := range o.Listeners {
				o.Listeners[i].TLS = mode
				o.Listeners[i].Certificates = nil
				if mode != session.TLSNone {
					o.Listeners[i].Certificates = []Certificate{{CertPEM: l.cert.CertPEM, KeyPEM: l.cert.KeyPEM}}
				}
			}
			must(t, l.srv.Reload(o))
			l.login("alice").MustOK("NOOP")
			c := l.dialTLS()
			c.Login("bob", password)
			if ok, err := imaptest.Match("* OK {*} new.test ready", c.Greeting); !ok || err != nil {
				t.Errorf("%s %v", c.Greeting, err) // all else is taken
			}
			imaptest.DialStartTLS(t, l.addr(startTLS), l.cert.Client).Login("carol", password)
		})
	}
}

// The user of a master login is told that the server is away; who runs the proxy, what is wrong.
func TestAMastersWrongPasswordIsNamedInTheLog(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, func(o *Options) {
		o.Sources = []auth.Source{knows{}}
		o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "old-master"}
	})
	p.change(func() { p.judge = func(imaptest.Login) string { return "NO [AUTHENTICATIONFAILED] wrong" } })
	if r := p.dial(plain).TryLogin("alice", password).Tagged; r.Code() != "UNAVAILABLE" {
		t.Errorf("the user is told %v", r)
	}
	p.logs.wait(t, "login impossible.*refuses the master user: correct backend_login")
}

// The master's password is changed on the backend, and then here. Sessions that are parked
// since before must not show the backend the old one: each would do so several times, and end.
func TestAParkedSessionUsesTheMasterPasswordOfNow(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, func(o *Options) {
		o.Sources = []auth.Source{knows{}}
		o.Login = upstream.Auth{Mode: upstream.ModeMaster, MasterUser: "master", MasterPassword: "old-master"}
	})
	var wrong atomic.Int32
	masterIs := func(password string) {
		p.change(func() {
			p.judge = func(l imaptest.Login) string {
				switch {
				case l.Password != password:
					wrong.Add(1)
					return "NO [AUTHENTICATIONFAILED] wrong"
				case l.Authzid == "": // the master itself has no mailbox
					return "NO [AUTHORIZATIONFAILED] not for itself"
				}
				return ""
			}
		})
	}
	masterIs("old-master")
	c := p.idle("SELECT INBOX")
	early := p.dial(plain) // connected before the reload, and logs in after it
	masterIs("new-master")
	wrong.Store(0)
	o := p.opts
	o.Login.MasterPassword = "new-master"
	must(t, p.srv.Reload(o))
	o.Park.Pool.ForgetUser("alice") // no warm connection hides what a login says
	done(c)
	c.MustOK("UID FETCH 1:* (FLAGS)")
	early.Login("alice", password)
	if n := wrong.Load(); n != 0 {
		t.Errorf("the backend has heard %d wrong passwords", n)
	}
	if n := p.closed(session.ReasonBackendLost); n != 0 {
		t.Errorf("%d sessions have ended", n)
	}
}

// The queues of backends that the router doesn't have any more are forgotten.
func TestTheServerForgetsQueuesOfBackendsThatAreGone(t *testing.T) {
	l := newLab(t, labOptions{})
	l.login("alice").MustOK("NOOP")
	l.srv.forgetQueues()
	there := l.srv.env.Queues.Len()
	o := l.opts
	none, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: l.tel})
	must(t, err)
	o.Router = none
	l.srv.set.Store(newSettings(o))
	l.srv.forgetQueues()
	if n := l.srv.env.Queues.Len(); there == 0 || n != 0 {
		t.Errorf("%d queues of a backend that is there, %d of one that is gone", there, n)
	}
}
