package parking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/app"
	"imapproxy/internal/apptest"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
)

// patience is how long something that must happen may take on a busy machine.
const patience = 40 * time.Second

// A lab is a proxy that parks, before one real server, with a tap in between.
type lab struct {
	t   testing.TB
	app *app.App
	srv *proxy.Server
	*imaptest.Tap
	server *site
	opt    labOptions
	Plain  string // the proxy, in clear
	TLS    string
	cert   imaptest.Cert
	logs   *apptest.Log
}

// labOptions say what is special about a lab.
type labOptions struct {
	watch      string        // of the hub; "": the site's
	quietAfter time.Duration // 0 = sessions outside IDLE aren't parked
	warmFor    time.Duration // 0 = 20 s; negative: no connection is kept warm
	authCache  time.Duration
	sweep      time.Duration
	notify     time.Duration // between renewals

	resumeWithin, resumeTry time.Duration

	now func() time.Time // the proxy's clock; nil: time.Now
}

// noSeparators has names of the form user*master reach the server, which decides about them.
const noSeparators = `
users {
  refuse_separators = ""
}
`

func newLab(t testing.TB, server *site, o labOptions) *lab {
	t.Helper()
	l := &lab{t: t, server: server, opt: o, Tap: imaptest.NewTap(t, server.Addr), cert: imaptest.NewCert(t), logs: &apptest.Log{}}
	settings := apptest.Park{
		"watch": cmp.Or(o.watch, server.watch), "linger": time.Millisecond, "quiet_after": o.quietAfter,
		"warm_for": max(cmp.Or(o.warmFor, 20*time.Second), 0), "auth_cache_for": o.authCache,
	}
	if o.sweep != 0 {
		settings["sweep_every"] = o.sweep
	}
	// Registered before the proxy's own clean-up, so it runs after it: the log's end is there, too.
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", l.logs.Tail(60))
		}
	})
	l.app = apptest.Start(t, apptest.Config{Backend: l.Addr, Cert: l.cert, Events: server.events != nil, Park: settings, More: noSeparators}, app.Options{
		Logs: l.logs, Now: o.now,
		Park: app.ParkOptions{NotifyRenewEvery: o.notify, ResumeWithin: o.resumeWithin, ResumeTry: o.resumeTry},
	})
	l.srv = l.app.Server()
	l.Plain, l.TLS = l.app.Addrs()["plain"], l.app.Addrs()["imaps"]
	if server.events != nil {
		server.events.add(t, l.eventsURL())
	}
	return l
}

// eventsURL is where the proxy takes push events.
func (l *lab) eventsURL() string { return "http://" + l.app.EventsAddr() + "/v1/events" }

// newUser is one that no test has used yet.
func (l *lab) newUser() string {
	l.t.Helper()
	return l.server.newUser(l.t)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what no event tells of.
func eventually(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s: %w", patience, what, err)
		case <-tick.C:
		}
	}
}

// attachment waits until a client's session is attached, parked ….
func (l *lab) attachment(ctx context.Context, c net.Conn, want string) error {
	me := c.LocalAddr().String()
	return eventually(ctx, "the session to be "+want, func() error {
		page, _ := l.srv.Sessions(proxy.Filter{})
		for _, s := range page {
			if s.Client.String() != me {
				continue
			}
			if s.Attachment == want {
				return nil
			}
			if want == "parked" {
				l.srv.Sweep() // what Serve does every other second
			}
			return fmt.Errorf("it is %s (%s)", s.Attachment, s.NotParked)
		}
		return errors.New("it is gone")
	})
}

// parked waits until a client's session is parked.
func (l *lab) parked(c *imaptest.Client) {
	l.t.Helper()
	must(l.t, l.attachment(l.t.Context(), c.Conn, "parked"))
}

// ended waits until a session of this client's has ended for a reason.
func (l *lab) ended(reason string) {
	l.t.Helper()
	must(l.t, eventually(l.t.Context(), "a session's end for "+reason, func() error {
		if l.logs.Has("reason=" + reason) {
			return nil
		}
		return errors.New("none has")
	}))
}

// login is a client of the proxy's.
func (l *lab) login(user string) *imaptest.Client {
	l.t.Helper()
	c := imaptest.Dial(l.t, l.Plain)
	c.Login(user, servers.Password)
	return c
}

// loginTLS is one that has TLS.
func (l *lab) loginTLS(user string) *imaptest.Client {
	l.t.Helper()
	c := imaptest.DialTLS(l.t, l.TLS, l.cert.Client)
	c.Login(user, servers.Password)
	return c
}

// direct is a client of the server's.
func (l *lab) direct(user string) *imaptest.Client {
	l.t.Helper()
	c := imaptest.Dial(l.t, l.server.Addr)
	c.Login(user, servers.Password)
	return c
}

// happens waits for an event.
func (l *lab) happens(event <-chan struct{}, what string) {
	l.t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		l.t.Fatalf("waited %v for %s", patience, what)
	}
}
