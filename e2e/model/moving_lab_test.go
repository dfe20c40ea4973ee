package model

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/movetest"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// turn is how long a user is asked to leave a backend: a user who couldn't leave by then stays. No test expects
// anything within it.
const turn = 300 * time.Millisecond

// moving is a proxy that agrees with others, who move its users between two backends.
type moving struct {
	*movetest.Agreement
	srv    *proxy.Server
	hub    *park.Hub
	pool   *upstream.Pool
	router *routing.Router
	moves  atomic.Int64 // that were made
	asked  atomic.Int64
}

// twins has a second server that serves the mail of the first.
func twins(start func(testing.TB, *lab) *servers.Server) func(testing.TB, *lab) (first, second *servers.Server) {
	return func(t testing.TB, l *lab) (*servers.Server, *servers.Server) {
		s := start(t, l)
		return s, s // under two names
	}
}

// dovecots are two that have the same mail.
func dovecots(store string) func(testing.TB, *lab) (first, second *servers.Server) {
	return func(t testing.TB, l *lab) (*servers.Server, *servers.Server) {
		l.has = modernTraits()
		mail := servers.DovecotMail(t)
		return servers.StartDovecot(t, servers.DovecotOptions{Store: store, Mail: mail, Name: "dovecot-1"}),
			servers.StartDovecot(t, servers.DovecotOptions{Store: store, Mail: mail, Name: "dovecot-2"})
	}
}

// startMoving runs a proxy in this process whose users are moved. It ends with the test.
func (l *lab) startMoving(second *servers.Server, linger time.Duration) {
	t := l.t
	m := &moving{Agreement: movetest.New("b1", func(string, string) { l.moving.moves.Add(1) })}
	l.moving = m
	tel, err := telemetry.Start(context.Background(), telemetry.Options{Version: "test", LogWriter: l.log, LogLevel: slog.LevelDebug})
	must(t, err)
	m.hub = park.NewHub(park.HubOptions{Watch: l.watch, SweepEvery: l.sweep, PollEvery: l.sweep, Plant: l.found, Telemetry: tel})
	m.pool = upstream.NewPool(upstream.PoolOptions{WarmFor: 5 * time.Second, Telemetry: tel})
	m.router, err = routing.New(routing.Options{Storage: routing.Shared, Agreement: m.Routing(), Telemetry: tel})
	must(t, err)
	m.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{
		{ID: "b1", Address: l.server.Addr, Weight: 100}, {ID: "b2", Address: second.Addr, Weight: 100}}})
	dialer, err := upstream.New(upstream.Options{Hostname: "proxy.test", Telemetry: tel, Claims: m.Claims()})
	must(t, err)
	m.srv, err = proxy.New(proxy.Options{
		Hostname: "proxy.test", Version: "test",
		Listeners: []proxy.ListenerOptions{{Name: "plain", Address: "127.0.0.1:0", TLS: session.TLSNone,
			CleartextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
		Sources: []auth.Source{auth.NewBackend()}, Dialer: dialer, Router: m.router, Telemetry: tel, Drain: time.Second,
		Park: session.ParkOptions{Hub: m.hub, Pool: m.pool, Linger: linger, QuietAfter: 3 * linger},
	})
	must(t, err)
	must(t, m.srv.Listen(t.Context()))
	l.proxy, l.addr = m.srv, m.srv.Addrs()["plain"]
	serving, stopServing := context.WithCancel(context.Background())
	parking, stopParking := context.WithCancel(context.Background())
	var server, others sync.WaitGroup
	server.Go(func() {
		if err := m.srv.Serve(serving); err != nil {
			t.Error(err)
		}
	})
	others.Go(func() { m.hub.Run(parking) })
	others.Go(func() { m.pool.Run(parking) })
	t.Cleanup(func() {
		stopServing()
		server.Wait()
		stopParking()
		others.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), imaptest.DefaultTimeout)
		defer cancel()
		must(t, tel.Shutdown(ctx))
	})
}

// move asks a user's sessions to leave for the other backend.
func (m *moving) move(user string) {
	to := "b1"
	at, under, _ := m.At(user)
	if under {
		return
	}
	if at == to {
		to = "b2"
	}
	m.asked.Add(1)
	m.Move(user, to)
	m.letGo(user)
	time.AfterFunc(turn, func() { m.GiveUp(user) })
}

// leads has a user who is being moved arrive at a backend: in one turn, or, as with real proxies, in a later one.
func (m *moving) leads(t *testing.T, user, to string) {
	t.Helper()
	for end := time.Now().Add(defaultPatience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 10*turn)
		err := m.Arrived(ctx, user, to)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			page, _ := m.srv.Sessions(proxy.Filter{User: user})
			t.Fatalf("the user isn't at %s: %v; sessions %+v", to, m, page)
		}
		m.GiveUp(user)
		m.Move(user, to)
		m.letGo(user)
	}
}

func (m *moving) letGo(user string) {
	m.srv.LetGo(user, false)
	m.hub.LetGo(user)
	m.pool.LetGo(user)
}
