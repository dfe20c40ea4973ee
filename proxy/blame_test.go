package proxy

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// of is a backend as the router has it.
func (l *lab) backend(id string) routing.BackendStatus {
	for _, b := range l.router.Backends() {
		if b.ID == id {
			return b
		}
	}
	l.t.Fatalf("no backend %s", id)
	return routing.BackendStatus{}
}

// closesFor is a polite backend that closes the connection at a user's login bytes.
func closesFor(user string) (d imaptest.Dialogue, logins *atomic.Int32) {
	logins = new(atomic.Int32)
	d = polite()
	check := d.Check
	d.Check = func(c *imaptest.BackendConn, l imaptest.Login) string {
		logins.Add(1)
		if l.User == user {
			_ = c.Close()
		}
		return check(c, l)
	}
	return d, logins
}

// A backend closes at what one client sends as a login. That ends no session of the
// user's, and isn't counted against the backend.
func TestABackendThatClosesAtALoginIsNotDown(t *testing.T) {
	t.Parallel()
	b1, logins := closesFor("mallory")
	l := newLab(t, labOptions{handlers: []imaptest.Handler{b1.Serve}})
	victim := l.login("alice")
	for range 4 {
		c := l.dial(plain)
		c.Write("a1 LOGIN mallory " + password)
		c.Expect("a1 NO [UNAVAILABLE]{*}")
		must(t, c.Conn.Close())
	}
	if b := l.backend("b1"); b.Failures != 0 || b.Suspect {
		t.Errorf("%d failures are counted against the backend: %s", b.Failures, b.LastError)
	}
	if n := logins.Load(); n > 1+4*2 {
		t.Errorf("%d logins for 5 clients", n)
	}
	victim.Write("v1 NOOP")
	victim.Expect("v1 OK{*}")
	must(t, victim.Conn.Close())
}

// The backend ends during a login: the probe finds it away, and the user goes elsewhere.
func TestABackendThatEndsDuringALoginIsDown(t *testing.T) {
	t.Parallel()
	var ends [2]atomic.Bool // which one of them has a login under way first
	var handlers []imaptest.Handler
	var first atomic.Int32
	first.Store(-1)
	for i := range ends {
		d := polite()
		check := d.Check
		d.Check = func(c *imaptest.BackendConn, l imaptest.Login) string {
			if first.CompareAndSwap(-1, int32(i)) {
				ends[i].Store(true)
				_ = c.Close()
			}
			return check(c, l)
		}
		handlers = append(handlers, func(c *imaptest.BackendConn) error {
			if ends[i].Load() {
				return c.Close()
			}
			return d.Serve(c)
		})
	}
	l := newLab(t, labOptions{handlers: handlers})
	c := l.login("alice")
	must(t, c.Conn.Close())
	ended, other := "b1", "b2"
	if first.Load() == 1 {
		ended, other = "b2", "b1"
	}
	if l.backend(ended).Failures == 0 || l.backend(other).Failures != 0 {
		t.Errorf("failures: %d on the one that ended, %d on the other", l.backend(ended).Failures, l.backend(other).Failures)
	}
}

// A backend that was refused is found well again by the proxy's probes, and found
// unreachable by them: no other user's login waits for that.
func TestProbesTryABackendNotUsers(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	var logins atomic.Int32
	d := polite()
	check := d.Check
	d.Check = func(c *imaptest.BackendConn, l imaptest.Login) string {
		logins.Add(1)
		return check(c, l)
	}
	handlers := make([]imaptest.Handler, 2)
	handlers[0] = func(c *imaptest.BackendConn) error {
		if stuck.Load() {
			return c.Send("* BYE out of order")
		}
		return d.Serve(c)
	}
	handlers[1] = polite().Serve
	l := newLab(t, labOptions{handlers: handlers})
	user := ""
	for n := 0; ; n++ { // a user whose first choice is b1
		user = "user" + strings.Repeat("x", n)
		p, err := l.router.Pick(user, "")
		must(t, err)
		id := p.Backend.ID
		p.Release()
		if id == "b1" {
			break
		}
	}
	stuck.Store(true)
	c := l.login(user) // meets it, and goes to b2
	must(t, c.Conn.Close())
	eventually(t, "the probes' finding", func() bool { return l.backend("b1").Suspect })
	if n := logins.Load(); n != 0 {
		t.Errorf("%d logins at the backend that is out of order", n)
	}
	stuck.Store(false)
	eventually(t, "the probes' finding that it's back", func() bool { return l.backend("b1").Failures == 0 })
	if n := logins.Load(); n != 0 {
		t.Errorf("a user's login has found out: %d", n)
	}
}

// A login on a connection from the pool is no evidence that a new one can be made.
func TestAWarmLoginClearsNoFailures(t *testing.T) {
	t.Parallel()
	var pool *upstream.Pool
	var refusing atomic.Bool
	d := polite()
	l := newLab(t, labOptions{handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
		if refusing.Load() {
			return c.Send("* BYE out of order")
		}
		return d.Serve(c)
	}}, change: func(o *Options) {
		pool = upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute, AuthCacheFor: time.Minute})
		t.Cleanup(pool.Close)
		o.Park = session.ParkOptions{Hub: park.NewHub(park.HubOptions{}), Pool: pool, Linger: time.Hour}
	}})
	c := l.login("alice")
	c.Write("a2 LOGOUT")
	c.Expect("* BYE{*}")
	c.Expect("a2 OK{*}")
	c.ExpectEOF()
	eventually(t, "the warm connection", func() bool { return pool.Len() == 1 })
	refusing.Store(true)
	l.router.ReportDialFailure("b1", errRefusedInTest)
	c = l.login("alice")
	if pool.Len() != 0 {
		t.Error("the warm connection wasn't used")
	}
	if l.backend("b1").Failures == 0 {
		t.Error("a login on a warm connection has cleared the backend's failures")
	}
	must(t, c.Conn.Close())
}

// fullBackend serves at most n connections at a time; others wait without a greeting, as at
// Cyrus's maxchild.
type fullBackend struct{ slots chan struct{} }

func (f *fullBackend) handler(d imaptest.Dialogue) imaptest.Handler {
	return func(c *imaptest.BackendConn) error {
		f.slots <- struct{}{}
		defer func() { <-f.slots }()
		return d.Serve(c)
	}
}

// Twelve users log in, select and log out one after another at a backend with eight
// processes. Each gets in: the connections that earlier ones left make way.
func TestWarmConnectionsMakeWayAtAFullBackend(t *testing.T) {
	t.Parallel()
	full := &fullBackend{slots: make(chan struct{}, 8)}
	var pool *upstream.Pool
	var room *upstream.Room
	slowAfter := func(o *Options, d time.Duration) {
		dialer, err := upstream.New(upstream.Options{Room: room, SlowAfter: d, Telemetry: o.Telemetry})
		must(t, err)
		o.Dialer = dialer
	}
	l := newLab(t, labOptions{handlers: []imaptest.Handler{full.handler(polite())}, change: func(o *Options) {
		room = upstream.NewRoom(upstream.RoomOptions{})
		pool = upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute, Room: room})
		t.Cleanup(pool.Close)
		slowAfter(o, time.Hour)
		o.Park = session.ParkOptions{Hub: park.NewHub(park.HubOptions{}), Pool: pool, Linger: time.Hour}
	}})
	patient, impatient := l.opts, l.opts
	slowAfter(&impatient, 20*time.Millisecond)
	for n := range 12 {
		switch n {
		case 8: // the first one that isn't greeted; a slow machine may be silent to others
			must(t, l.srv.Reload(impatient))
		case 9:
			must(t, l.srv.Reload(patient))
		}
		c := l.login("user" + string(rune('a'+n)))
		c.Write("a2 LOGOUT")
		c.Expect("* BYE{*}")
		c.Expect("a2 OK{*}")
		c.ExpectEOF()
		eventually(t, "the session's end", func() bool { return l.srv.reg.Total() == 0 })
	}
	s := room.Status("b1")
	if s.Learnt != 8 || s.Bound >= 8 || s.Connections > s.Bound {
		t.Errorf("%+v", s)
	}
	if b := l.backend("b1"); b.Failures != 0 {
		t.Errorf("a full backend has %d failures: %s", b.Failures, b.LastError)
	}
}

// errRefusedInTest is a failed dial's.
var errRefusedInTest = errors.New("connection refused")

// A user's parked session has no connection to the backend that has died: the user's next
// login goes to another at once.
func TestAParkedSessionHoldsNobodyOnADeadBackend(t *testing.T) {
	t.Parallel()
	l := newParkLab(t, session.ParkOptions{}, nil)
	w, _ := l.parkedAway()
	s := l.of(w)
	b2 := imaptest.NewBackend(t, polite().Serve)
	l.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{
		{ID: "b1", Address: l.Tap.Addr, Weight: 100}, {ID: "b2", Address: b2.Addr, Weight: 100}}})
	dead := imaptest.NewBackend(t, func(c *imaptest.BackendConn) error { return c.Close() })
	l.Move(dead.Addr)
	c := l.dial(plain)
	c.Login(s.Info().User, password) // NO [UNAVAILABLE] for 30 s if the parked session held the user
	if l.backend("b2").Sessions != 1 {
		t.Error("the login isn't on the other backend")
	}
	l.srv.Sweep()
	if s.Backend() != "b2" {
		t.Errorf("the parked session is at %s", s.Backend())
	}
	w.Write("DONE")
	w.Write("x UID FETCH 1:* (FLAGS)") // the other backend can do less
	w.ExpectBye("w2")
	_ = w.Conn.Close()
	l.ended(session.ReasonCapabilities)
	must(t, c.Conn.Close())
}
