package proxy

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/movetest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// A moveLab is a parkLab with two backends that have the same mail, and an agreement of proxies that says at which
// of them a user is. Its parkLab's tap is b1's.
type moveLab struct {
	*parkLab
	agreement *movetest.Agreement
	b2        *imaptest.Tap
}

// newMoveLab makes a moveLab. No session is parked for having been idle.
func newMoveLab(t *testing.T, watch string, change func(*Options)) *moveLab {
	t.Helper()
	l := &moveLab{parkLab: &parkLab{}, agreement: movetest.New("b1", nil)}
	l.hub = park.NewHub(park.HubOptions{Watch: watch, Push: watch == "push", SweepEvery: time.Hour})
	l.parks(t)
	l.server = imaptest.NewModelServer(t, imaptest.ModelServerOptions{QResync: true, Changed: func(user, mailbox string) {
		if watch == "push" {
			l.hub.Hint(park.Hint{User: user, Mailbox: mailbox, Source: park.HintPush})
		}
	}})
	l.Tap, l.b2 = imaptest.NewTap(t, l.server.Addr), imaptest.NewTap(t, l.server.Addr)
	var router *routing.Router
	l.lab = newLab(t, labOptions{handlers: []imaptest.Handler{}, rows: []routing.Backend{}, change: func(o *Options) {
		o.Park = session.ParkOptions{Hub: l.hub, Pool: l.pool, Linger: time.Hour, QuietAfter: time.Hour}
		var err error
		router, err = routing.New(routing.Options{Storage: routing.Shared, Agreement: l.agreement.Routing(), Telemetry: o.Telemetry})
		must(t, err)
		router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{
			{ID: "b1", Address: l.Tap.Addr, Weight: 100}, {ID: "b2", Address: l.b2.Addr, Weight: 100}}})
		o.Router = router
		o.Dialer, err = upstream.New(upstream.Options{Hostname: "proxy.test", ConnectTimeout: 5 * time.Second, LoginTimeout: 10 * time.Second,
			Telemetry: o.Telemetry, Claims: l.agreement.Claims()})
		must(t, err)
		if change != nil {
			change(o)
		}
	}})
	l.router = router
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("sessions: %+v", l.page(""))
			t.Logf("users: %s", l.agreement)
		}
	})
	return l
}

// letGo has the proxy let go of a user.
func (l *moveLab) letGo(user string, abort bool) {
	l.srv.LetGo(user, abort)
	l.pool.LetGo(user)
	l.hub.LetGo(user)
}

// move moves a user, and waits until they are there. Sessions that are in the way are asked once.
func (l *moveLab) move(user, to string) {
	l.t.Helper()
	l.agreement.Move(user, to)
	l.letGo(user, false)
	l.arrived(user, to)
}

// arrived waits until a user is at a backend.
func (l *moveLab) arrived(user, at string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeoutCause(l.t.Context(), imaptest.DefaultTimeout, fmt.Errorf("%s isn't at %s", user, at))
	defer cancel()
	if err := l.agreement.Arrived(ctx, user, at); err != nil {
		_, _, conns := l.agreement.At(user)
		for _, s := range l.page(user) {
			l.t.Logf("%+v", s)
		}
		l.t.Fatalf("%v; %d connections count", err, conns)
	}
}

// page lists a user's sessions.
func (l *moveLab) page(user string) []session.Info {
	page, _ := l.srv.Sessions(Filter{User: user})
	return page
}

// is waits until a client's session is attached, parked …
func (l *moveLab) is(w *imaptest.ModelWatcher, want session.Attachment) {
	l.t.Helper()
	eventually(l.t, "the session to be "+want.String(), func() bool {
		s := l.of(w)
		if s == nil {
			l.t.Fatal("the session has ended")
		}
		return s.Attachment() == want
	})
}

// at fails unless a client's session is at a backend.
func (l *moveLab) isAt(w *imaptest.ModelWatcher, backend string) {
	l.t.Helper()
	if s := l.of(w); s == nil || s.Backend() != backend {
		l.t.Fatalf("the session isn't at %s: %+v", backend, l.page(""))
	}
}

// moment does something once before the nth line that goes to a backend from now on; what it returns does it if it hasn't been yet.
func (l *moveLab) moment(n int, do func()) (now func()) {
	var once sync.Once
	var mu sync.Mutex
	seen := 0
	before := func(*imaptest.Tapped, string) bool {
		mu.Lock()
		seen++
		due := seen == n
		mu.Unlock()
		if due {
			once.Do(do)
		}
		return true
	}
	l.OnUp(before)
	l.b2.OnUp(before)
	return func() { once.Do(do) }
}
