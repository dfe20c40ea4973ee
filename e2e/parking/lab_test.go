//go:build parking

package parking

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
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
	*tap
	server *servers.Server
	hub    *park.Hub
	pool   *upstream.Pool
	Plain  string // the proxy, in clear
	TLS    string
	cert   imaptest.Cert
	logs   *logs
}

// labOptions say what is special about a lab.
type labOptions struct {
	watch      string        // of the hub; "" = idle
	events     string        // where push events are listened for; "" = nowhere
	quietAfter time.Duration // 0 = sessions outside IDLE aren't parked
	warmFor    time.Duration // 0 = 20 s; negative: no connection is kept warm
	authCache  time.Duration
	poll       time.Duration
	sweep      time.Duration
	notify     time.Duration // between renewals
}

const eventsToken = "0123456789abcdef0123"

func newLab(t testing.TB, server *servers.Server, o labOptions) *lab {
	t.Helper()
	l := &lab{t: t, server: server, tap: newTap(t, server.Addr), cert: imaptest.NewCert(t), logs: &logs{}}
	tel, err := telemetry.Start(context.Background(), telemetry.Options{LogWriter: l.logs, LogLevel: slog.LevelDebug, Prometheus: true})
	must(t, err)
	router, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: tel})
	must(t, err)
	router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: l.tap.Addr, Weight: 100}}})
	dialer, err := upstream.New(upstream.Options{Hostname: "proxy.test", Telemetry: tel})
	must(t, err)
	queue := park.NewHintQueue(park.HintQueueOptions{})
	l.hub = park.NewHub(park.HubOptions{
		Watch: cmp.Or(o.watch, "idle"), Push: o.events != "", Queue: queue, Telemetry: tel,
		PollEvery: o.poll, SweepEvery: o.sweep, NotifyRenewEvery: o.notify,
	})
	warm := cmp.Or(o.warmFor, 20*time.Second)
	l.pool = upstream.NewPool(upstream.PoolOptions{WarmFor: max(warm, 0), AuthCacheFor: o.authCache, Telemetry: tel})
	certs := []proxy.Certificate{{CertPEM: l.cert.CertPEM, KeyPEM: l.cert.KeyPEM}}
	l.srv, err = proxy.New(proxy.Options{
		Hostname: "proxy.test", Dialer: dialer, Router: router, Telemetry: tel, Sources: []auth.Source{auth.NewBackend()},
		Listeners: []proxy.ListenerOptions{
			{Name: "plain", Address: "127.0.0.1:0", TLS: proxy.TLSNone, CleartextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
			{Name: "imaps", Address: "127.0.0.1:0", TLS: proxy.TLSImplicit, Certificates: certs},
		},
		Limits: proxy.Limits{AuthFailureDelay: -1}, Drain: 100 * time.Millisecond,
		Park: proxy.ParkOptions{Hub: l.hub, Pool: l.pool, Linger: time.Millisecond, QuietAfter: o.quietAfter},
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
	if o.events != "" {
		l.listenForEvents(&running, ctx, o.events, queue)
	}
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

func (l *lab) listenForEvents(running *sync.WaitGroup, ctx context.Context, addr string, queue *park.HintQueue) {
	events, err := park.NewEvents(park.EventsOptions{Secrets: []telemetry.Secret{eventsToken}, Wanted: l.hub.Wanted}, queue)
	must(l.t, err)
	ln, err := net.Listen("tcp", addr)
	must(l.t, err)
	srv := &http.Server{Handler: events, ReadHeaderTimeout: patience}
	running.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			l.t.Error(err)
		}
	})
	running.Go(func() {
		<-ctx.Done()
		_ = srv.Close()
	})
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

var lastUser atomic.Int32

// newUser is one that no test has used yet.
func newUser() string { return servers.User(1 + int(lastUser.Add(1)-1)%servers.Users) }

// A variant is a server and how it is watched.
type variant struct {
	name  string
	watch string
	start func(t testing.TB) (s *servers.Server, events string)
}

func variants() []variant {
	dovecot := func(store string) func(testing.TB) (*servers.Server, string) {
		return func(t testing.TB) (*servers.Server, string) {
			return servers.StartDovecot(t, servers.DovecotOptions{Store: store}), ""
		}
	}
	return []variant{
		{"sdbox-idle", "idle", dovecot("sdbox")},
		{"sdbox-notify", "notify", dovecot("sdbox")},
		{"sdbox-push", "push", dovecotWithEvents},
		{"maildir-idle", "idle", dovecot("maildir")},
		{"cyrus-idle", "idle", func(t testing.TB) (*servers.Server, string) { return servers.StartCyrus(t), "" }},
	}
}

// onEach runs f on each variant whose name contains which.
func onEach(t *testing.T, which string, o labOptions, f func(t *testing.T, l *lab)) {
	servers.Real(t)
	for _, v := range variants() {
		if !strings.Contains(v.name, which) {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			server, events := v.start(t)
			o := o
			o.watch, o.events = v.watch, events
			f(t, newLab(t, server, o))
		})
	}
}

// with is the lab as a subtest uses it.
func (l *lab) with(t testing.TB) *lab {
	sub := *l
	sub.t = t
	return &sub
}
