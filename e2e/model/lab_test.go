package model

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// eventSecret is what push events come with.
const eventSecret = "0123456789abcdef0123"

// sweepEvery is how often the hub looks without a hint: what was lost is found then.
const sweepEvery = 700 * time.Millisecond

// labOptions say what stands behind the clients.
type labOptions struct {
	start   func(t testing.TB, l *lab) *servers.Server
	watch   string // of the hub; "" no proxy: the clients talk to the server
	events  bool   // the server posts push events
	plain   bool   // the server has neither CONDSTORE nor QRESYNC
	calm    bool   // nobody speaks at the same time as another: Courier's sessions lock each other out for minutes
	maildir bool   // Dovecot's, which has ways of its own: see reborn
	tls     bool   // the clients' side has TLS
	shared  bool   // the mailbox is somebody else's than the clients'
	// slowIdle: in IDLE the server itself tells what others do after a minute only (Courier without FAM).
	slowIdle bool
	// staleFlags: the server may tell older flags after newer ones (mox, which queues what others
	// change for each connection, and doesn't empty the queue at SELECT or STORE). So clients ask
	// for flags, and nobody resynchronises from what was told.
	staleFlags bool
	sweep      time.Duration // 0: sweepEvery
	patience   time.Duration // for an answer; 0: defaultPatience
	settle     time.Duration // how long it may take until everybody knows everything; 0: 20 s
	lose       int           // of ten events so many are lost; and others come late, or twice
	// plant, if any, is a fault of the hub's.
	plant func(mailbox string, s *park.State) *park.State
}

// lab is a real server and, mostly, a proxy before it.
type lab struct {
	labOptions
	t      testing.TB
	server *servers.Server
	addr   string // the clients'
	events string // URL for push events
	proxy  *proxy.Server
	hub    *park.Hub
	queue  *park.HintQueue
	log    *tail
	tls    *tls.Config // the clients', nil in the clear
	has    traits

	lost  atomic.Int64 // events
	mu    sync.Mutex
	users int
	boxes int
}

func newLab(t *testing.T, o labOptions) *lab {
	t.Helper()
	l := &lab{labOptions: o, t: t, log: &tail{}}
	l.patience = cmp.Or(l.patience, defaultPatience)
	l.sweep, l.settle = cmp.Or(l.sweep, sweepEvery), cmp.Or(l.settle, 20*time.Second)
	queue := park.NewHintQueue(park.HintQueueOptions{})
	if o.events {
		l.events = l.serveEvents(queue)
	}
	l.queue = queue
	l.server = o.start(t, l)
	l.addr = l.server.Addr
	if o.watch != "" {
		l.startProxy()
	}
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startProxy runs a proxy in this process. It ends with the test.
func (l *lab) startProxy() {
	t := l.t
	tel, err := telemetry.Start(context.Background(), telemetry.Options{LogWriter: l.log, LogLevel: slog.LevelDebug})
	must(t, err)
	router, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: tel})
	must(t, err)
	router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: l.server.Addr, Weight: 100}}})
	dialer, err := upstream.New(upstream.Options{Hostname: "proxy.test", Telemetry: tel})
	must(t, err)
	l.hub = park.NewHub(park.HubOptions{Watch: l.watch, Push: l.labOptions.events, Queue: l.queue, SweepEvery: l.sweep, PollEvery: l.sweep, Telemetry: tel, Plant: l.plant})
	warm := 5 * time.Second
	if l.server.Kind == "mox" {
		// 0.0.15 tells a connection of messages that came between its login and its SELECT as if
		// they came afterwards, and then closes it ("uid already present").
		warm = 0
	}
	pool := upstream.NewPool(upstream.PoolOptions{WarmFor: warm, Telemetry: tel})
	listener := proxy.ListenerOptions{
		Name: "imap", Address: "127.0.0.1:0", TLS: proxy.TLSNone, CleartextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	if l.labOptions.tls {
		cert := imaptest.NewCert(t)
		l.tls = cert.Client
		listener.TLS, listener.Certificates = proxy.TLSImplicit, []proxy.Certificate{{CertPEM: cert.CertPEM, KeyPEM: cert.KeyPEM}}
	}
	l.proxy, err = proxy.New(proxy.Options{
		Hostname: "proxy.test", Dialer: dialer, Router: router, Telemetry: tel, Sources: []auth.Source{auth.NewBackend()},
		Park:      proxy.ParkOptions{Hub: l.hub, Pool: pool, Linger: time.Millisecond, QuietAfter: 3 * time.Millisecond},
		Listeners: []proxy.ListenerOptions{listener},
		Drain:     time.Second,
	})
	must(t, err)
	must(t, l.proxy.Listen(t.Context()))
	l.addr = l.proxy.Addrs()["imap"]
	ctx, cancel := context.WithCancel(context.Background())
	var g, serving sync.WaitGroup
	g.Go(func() { l.hub.Run(ctx) })
	g.Go(func() { pool.Run(ctx) })
	serve, stop := context.WithCancel(context.Background())
	serving.Go(func() {
		if err := l.proxy.Serve(serve); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		serving.Wait()
		cancel()
		g.Wait()
		_ = tel.Shutdown(context.Background())
	})
}

// serveEvents takes push events, and hands them on as the network would: some get
// lost, some come late, some twice.
func (l *lab) serveEvents(queue *park.HintQueue) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(l.t, err)
	inner := park.NewHintQueue(park.HintQueueOptions{})
	h, err := park.NewEvents(park.EventsOptions{Secrets: []telemetry.Secret{eventSecret}}, inner)
	must(l.t, err)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			l.t.Error(err)
		}
	})
	g.Go(func() {
		for {
			hint, err := inner.Next(ctx)
			if err != nil {
				return
			}
			l.deliver(queue, hint)
		}
	})
	l.t.Cleanup(func() {
		_ = srv.Close()
		cancel()
		g.Wait()
	})
	return "http://" + ln.Addr().String() + "/v1/events"
}

// deliver hands an event on as the network would.
func (l *lab) deliver(queue *park.HintQueue, hint park.Hint) {
	switch n := rand.IntN(10); {
	case n < l.lose:
		l.lost.Add(1)
	case n == 9:
		queue.Add(hint)
		time.AfterFunc(time.Duration(rand.IntN(30))*time.Millisecond, func() { queue.Add(hint) })
	case n >= 7:
		time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, func() { queue.Add(hint) })
	default:
		queue.Add(hint)
	}
}

// user is one that no case has used yet.
func (l *lab) user() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
	return l.server.User(l.users)
}

func (l *lab) box() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boxes++
	return fmt.Sprintf("%sm%d", l.has.prefix, l.boxes)
}

// as is who the clients of a user's mailbox log in as.
func (l *lab) as(user string) string {
	if l.shared {
		return l.server.User(servers.Users)
	}
	return user
}

// boxAs is what they call it.
func (l *lab) boxAs(user, box string) string {
	if l.shared {
		return l.server.OtherUsers + user + "/" + box
	}
	return box
}

// attachment of a client's session.
func (l *lab) attachment(c *client) proxy.SessionInfo {
	if l.proxy != nil {
		page, _ := l.proxy.Sessions(proxy.Filter{User: c.user})
		for _, s := range page {
			if s.Client.String() == c.local {
				return s
			}
		}
	}
	return proxy.SessionInfo{}
}

// tail keeps the end of a log.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.b) > 1<<20 {
		w.b = append([]byte(nil), w.b[len(w.b)/2:]...)
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

// last are the last lines about a user's sessions.
func (w *tail) last(n int, user string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sessions := map[string]bool{}
	var found []string
	for line := range strings.Lines(string(w.b)) {
		_, id, _ := strings.Cut(line, " session=")
		id, _, _ = strings.Cut(strings.TrimSpace(id), " ")
		if strings.Contains(line, "user="+user) {
			sessions[id] = true
			found = append(found, line)
		} else if sessions[id] {
			found = append(found, line)
		}
	}
	return strings.Join(found[max(0, len(found)-n):], "")
}
