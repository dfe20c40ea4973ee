package session

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

const password = "s3cret-Pa55"

// A rig serves sessions without a Server: the listener, the sweep and all of Env belong to the test. It has
// one backend, and parks idle sessions when it sweeps.
type rig struct {
	t     testing.TB
	env   *Env
	addr  string // where clients connect
	pool  *upstream.Pool
	ahead atomic.Int64           // of real time
	look  atomic.Pointer[func()] // called whenever a session reads the clock
	reads atomic.Pointer[func()] // called once, when a session reads the settings
}

// polite is a backend that accepts every login, and answers commands as the test says.
func polite(commands map[string]imaptest.CommandFunc) imaptest.Handler {
	return imaptest.Dialogue{LoginCaps: "IMAP4rev1 IDLE UNSELECT ENABLE CONDSTORE LITERAL+", Commands: commands}.Serve
}

func newRig(t testing.TB, backend *imaptest.Backend, change ...func(*Settings)) *rig {
	t.Helper()
	r := &rig{t: t}
	tel := telemetry.Discard()
	router, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: tel})
	must(t, err)
	router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: backend.Addr, Weight: 1}}})
	dialer, err := upstream.New(upstream.Options{Hostname: "proxy.test", ConnectTimeout: 5 * time.Second, LoginTimeout: 10 * time.Second, Telemetry: tel})
	must(t, err)
	hub := park.NewHub(park.HubOptions{Watch: "push", Push: true, SweepEvery: time.Hour})
	r.pool = upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute, AuthCacheFor: time.Minute})
	set := &Settings{
		Hostname: "proxy.test", Version: "test", Sources: []auth.Source{auth.NewBackend()}, Recheck: DefaultRecheck, Dialer: dialer, Router: router,
		Limits: Limits{AuthFailureDelay: -1}.WithDefaults(),
		Park:   ParkOptions{Hub: hub, Pool: r.pool, Linger: time.Nanosecond},
	}
	for _, f := range change {
		f(set)
	}
	poller, err := conn.NewPoller()
	must(t, err)
	places, err := NewPlaces()
	must(t, err)
	var sessions sync.WaitGroup
	r.env = &Env{
		Now: r.now, Settings: func() *Settings { r.read(); return set }, Telemetry: tel, Buffers: conn.NewPool(), Poller: poller,
		Registry: NewRegistry(), Places: places, Guard: guessing.New(guessing.Options{}), Queues: NewQueues(set), Capabilities: &Capabilities{}, Probes: reachable{},
		Draining: func() bool { return false }, Gone: sessions.Done, Bug: func(what string) { panic(what) },
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r.addr = listener.Addr().String()
	of := NewListener("plain", TLSNone, ListenerSettings{CleartextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	ctx, stop := context.WithCancel(context.Background())
	beforeLogin, cutOff := context.WithCancel(ctx)
	var accepting, running sync.WaitGroup
	running.Go(func() { hub.Run(ctx) })
	running.Go(func() { r.pool.Run(ctx) })
	running.Go(func() {
		if err := poller.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	accepting.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // the listener is closed
			}
			client, err := conn.New(c.(*net.TCPConn))
			if err != nil {
				t.Error(err)
				continue
			}
			addr := c.RemoteAddr().(*net.TCPAddr).AddrPort()
			if over := r.env.Registry.Admit(addr.Addr(), set.Limits, 0); over != "" {
				t.Errorf("over %s", over)
			}
			sessions.Add(1)
			New(r.env, of, client, Origin{Addr: addr, Local: addr}).Live(beforeLogin)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
		cutOff()
		r.env.Registry.Each(func(s *Session) {
			if s.LoggedIn() {
				s.Abort(ReasonShutdown)
			}
		})
		sessions.Wait()
		if left := r.env.Registry.Leftover(); left != "" {
			t.Errorf("counted after the end: %s", left)
		}
		stop()
		running.Wait()
	})
	return r
}

// reachable are Probes for which every backend is reachable.
type reachable struct{}

func (reachable) Probe(context.Context, upstream.Target) error { return nil }
func (reachable) Failed(string, error)                         {}

func (r *rig) now() time.Time {
	if look := r.look.Load(); look != nil {
		(*look)()
	}
	return time.Now().Add(time.Duration(r.ahead.Load()))
}

func (r *rig) read() {
	if reads := r.reads.Swap(nil); reads != nil {
		(*reads)()
	}
}

// login returns a client that has logged in.
func (r *rig) login(user string) *imaptest.Client {
	r.t.Helper()
	c := imaptest.Dial(r.t, r.addr)
	c.Login(user, password)
	return c
}

// only returns the one session that there is.
func (r *rig) only() *Session {
	r.t.Helper()
	var all []*Session
	r.env.Registry.Each(func(s *Session) { all = append(all, s) })
	if len(all) != 1 {
		r.t.Fatalf("%d sessions", len(all))
	}
	return all[0]
}

// parked sweeps until the one session is parked.
func (r *rig) parked() *Session {
	r.t.Helper()
	s := r.only()
	eventually(r.t, "a parked session", func() bool {
		s.LookAfter(r.now(), DefaultIdleTimeout)
		return s.Attachment() == Parked
	})
	return s
}

// ended waits until a session has ended, and checks the reason.
func (r *rig) ended(s *Session, why Reason) {
	r.t.Helper()
	eventually(r.t, "the session's end", func() bool { return r.env.Registry.Total() == 0 })
	if got := s.Reason(); got != why {
		r.t.Errorf("it has ended for %q, not for %q", got, why)
	}
}

// oneConn returns a connection as a session has it, and its client's end.
func oneConn(t *testing.T) (ours *conn.Conn, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	theirs, err = net.Dial("tcp", l.Addr().String())
	must(t, err)
	accepted, err := l.Accept()
	must(t, err)
	ours, err = conn.New(accepted.(*net.TCPConn))
	must(t, err)
	t.Cleanup(func() {
		_ = ours.Close()
		_ = theirs.Close()
	})
	return ours, theirs
}

// bare returns a session in a phase that no goroutine runs. It has a connection, and is in the registry.
func bare(t *testing.T, p phase) *Session {
	t.Helper()
	poller, err := conn.NewPoller()
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = poller.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	client, _ := oneConn(t)
	set := &Settings{}
	env := &Env{
		Now: time.Now, Settings: func() *Settings { return set }, Telemetry: telemetry.Discard(), Poller: poller, Registry: NewRegistry(),
		Bug: func(what string) { t.Error(what) },
	}
	s := New(env, NewListener("plain", TLSNone, ListenerSettings{}), client, Origin{})
	s.inFlight.Texts = &s.env.Texts
	s.inFlight.Init(true, false)
	s.out.conn, s.out.hangUp = client, s.hangUp
	s.control.phase = p
	s.attachment.Store(uint32(phases[p].shown))
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a state that no event announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	imaptest.Eventually(t, what, ok)
}
