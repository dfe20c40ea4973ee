package parking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// patience is how long something that must happen may take on a busy machine.
const patience = 40 * time.Second

// A lab is a proxy that parks, before one real server, with a tap in between.
type lab struct {
	t   testing.TB
	srv *proxy.Server
	*imaptest.Tap
	server *site
	opt    labOptions
	hub    *park.Hub
	pool   *upstream.Pool
	Plain  string // the proxy, in clear
	TLS    string
	cert   imaptest.Cert
	logs   *logs
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

	now func() time.Time // the sessions' clock; nil: time.Now
}

func newLab(t testing.TB, server *site, o labOptions) *lab {
	t.Helper()
	l := &lab{t: t, server: server, opt: o, Tap: imaptest.NewTap(t, server.Addr), cert: imaptest.NewCert(t), logs: &logs{}}
	tel, err := telemetry.Start(context.Background(), telemetry.Options{LogWriter: l.logs, LogLevel: slog.LevelDebug, Prometheus: true})
	must(t, err)
	router, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: tel})
	must(t, err)
	router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: l.Addr, Weight: 100}}})
	dialer, err := upstream.New(upstream.Options{Hostname: "proxy.test", Telemetry: tel})
	must(t, err)
	queue := park.NewHintQueue(park.HintQueueOptions{})
	l.hub = park.NewHub(park.HubOptions{
		Watch: cmp.Or(o.watch, server.watch), Push: server.events != nil, Queue: queue, Telemetry: tel,
		SweepEvery: o.sweep, NotifyRenewEvery: o.notify,
	})
	if server.events != nil {
		h, err := park.NewEvents(park.EventsOptions{Secrets: []telemetry.Secret{eventsToken}, Wanted: l.hub.Wanted}, queue)
		must(t, err)
		server.events.add(t, h)
	}
	warm := cmp.Or(o.warmFor, 20*time.Second)
	l.pool = upstream.NewPool(upstream.PoolOptions{WarmFor: max(warm, 0), AuthCacheFor: o.authCache, Telemetry: tel})
	certs := []proxy.Certificate{{CertPEM: l.cert.CertPEM, KeyPEM: l.cert.KeyPEM}}
	l.srv, err = proxy.New(proxy.Options{
		Hostname: "proxy.test", Dialer: dialer, Router: router, Telemetry: tel, Sources: []auth.Source{auth.NewBackend()},
		Listeners: []proxy.ListenerOptions{
			{Name: "plain", Address: "127.0.0.1:0", TLS: proxy.TLSNone, CleartextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
			{Name: "imaps", Address: "127.0.0.1:0", TLS: proxy.TLSImplicit, Certificates: certs},
		},
		Limits: proxy.Limits{AuthFailureDelay: -1}, Drain: 100 * time.Millisecond, Now: o.now,
		Park: proxy.ParkOptions{Hub: l.hub, Pool: l.pool, Linger: time.Millisecond, QuietAfter: o.quietAfter, ResumeWithin: o.resumeWithin, ResumeTry: o.resumeTry},
	})
	must(t, err)
	must(t, l.srv.Listen(t.Context()))
	l.Plain, l.TLS = l.srv.Addrs()["plain"], l.srv.Addrs()["imaps"]
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	served := make(chan error, 1)
	running.Go(func() { l.hub.Run(ctx) })
	running.Go(func() { l.pool.Run(ctx) })
	running.Go(func() { served <- l.srv.Serve(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		must(t, tel.Shutdown(context.Background()))
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", l.logs.tail(60))
		}
	})
	return l
}

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

// A logs keeps a log.
type logs struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.text.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (l *logs) has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), words)
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
		if l.logs.has("reason=" + reason) {
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
