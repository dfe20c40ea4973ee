//go:build parking

package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
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

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// eventSecret is what push events come with.
const eventSecret = "0123456789abcdef0123"

// sweepEvery is how often the hub looks without a hint: what was lost is found then.
const sweepEvery = 700 * time.Millisecond

// labOptions say what stands behind the clients.
type labOptions struct {
	start  func(t testing.TB, l *lab) *servers.Server
	watch  string // of the hub; "" no proxy: the clients talk to the server
	events bool   // the server posts push events
	plain  bool   // the server has neither CONDSTORE nor QRESYNC
	// calm: nobody speaks at the same time as another. Dovecot's maildir can't stand it: of two STOREs
	// one is hidden by HIGHESTMODSEQ, and a message whose file is being renamed is missing for a moment.
	calm   bool
	linger time.Duration
	sweep  time.Duration // 0: sweepEvery
	lose   int           // of ten events so many are lost; and others come late, or twice
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
	log    *tail

	mu    sync.Mutex
	users int
	boxes int
}

func newLab(t *testing.T, o labOptions) *lab {
	t.Helper()
	servers.Real(t)
	l := &lab{labOptions: o, t: t, log: &tail{}}
	if l.sweep == 0 {
		l.sweep = sweepEvery
	}
	queue := park.NewHintQueue(park.HintQueueOptions{})
	if o.events {
		l.events = l.serveEvents(queue)
	}
	l.server = o.start(t, l)
	l.addr = l.server.Addr
	if o.watch != "" {
		l.startProxy(queue)
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
func (l *lab) startProxy(queue *park.HintQueue) {
	t := l.t
	tel, err := telemetry.Start(context.Background(), telemetry.Options{LogWriter: l.log, LogLevel: slog.LevelDebug})
	must(t, err)
	router, err := routing.New(routing.Options{Storage: routing.Shared, Telemetry: tel})
	must(t, err)
	router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: l.server.Addr, Weight: 100}}})
	dialer, err := upstream.New(upstream.Options{Hostname: "proxy.test", Telemetry: tel})
	must(t, err)
	l.hub = park.NewHub(park.HubOptions{Watch: l.watch, Push: l.labOptions.events, Queue: queue, SweepEvery: l.sweep, Telemetry: tel})
	pool := upstream.NewPool(upstream.PoolOptions{WarmFor: 5 * time.Second, Telemetry: tel})
	l.proxy, err = proxy.New(proxy.Options{
		Hostname: "proxy.test", Dialer: dialer, Router: router, Telemetry: tel, Sources: []auth.Source{auth.NewBackend()},
		Park: proxy.ParkOptions{Hub: l.hub, Pool: pool, Linger: max(l.linger, time.Millisecond), QuietAfter: 3 * time.Millisecond},
		Listeners: []proxy.ListenerOptions{{
			Name: "imap", Address: "127.0.0.1:0", TLS: proxy.TLSNone, CleartextFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		}},
		Drain: time.Second,
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
			switch n := rand.IntN(10); {
			case n < l.lose:
			case n == 9:
				queue.Add(hint)
				time.AfterFunc(time.Duration(rand.IntN(30))*time.Millisecond, func() { queue.Add(hint) })
			case n >= 7:
				time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, func() { queue.Add(hint) })
			default:
				queue.Add(hint)
			}
		}
	})
	l.t.Cleanup(func() {
		_ = srv.Close()
		cancel()
		g.Wait()
	})
	return "http://" + ln.Addr().String() + "/v1/events"
}

// user is one that no case has used yet.
func (l *lab) user() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
	return servers.User(l.users)
}

func (l *lab) box() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boxes++
	return fmt.Sprintf("m%d", l.boxes)
}

// attachments of the user's sessions, by the client's address.
func (l *lab) attachments(user string) map[string]proxy.SessionInfo {
	out := map[string]proxy.SessionInfo{}
	if l.proxy == nil {
		return out
	}
	page, _ := l.proxy.Sessions(proxy.Filter{User: user})
	for _, s := range page {
		out[s.Client.String()] = s
	}
	return out
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

// --- servers ---

func dovecot(store, extra string) func(testing.TB, *lab) *servers.Server {
	return func(t testing.TB, l *lab) *servers.Server {
		o := servers.DovecotOptions{Store: store, Extra: extra}
		if l.events != "" {
			o.Extra += pushConfig(t, l.events)
		}
		return servers.StartDovecot(t, o)
	}
}

// onlyIMAP4rev1 hides what the comparison strategy does without.
const onlyIMAP4rev1 = `
imap_capability = IMAP4rev1 SASL-IR LITERAL+ ENABLE IDLE UNSELECT UIDPLUS MOVE ESEARCH SORT NAMESPACE
`

// pushConfig is what docs/push-events.md tells operators of Dovecot 2.3.
func pushConfig(t testing.TB, url string) string {
	dir := servers.Folder(t)
	lua, err := os.ReadFile(filepath.Join("..", "..", "contrib", "dovecot", "push.lua"))
	must(t, err)
	script, token := filepath.Join(dir, "push.lua"), filepath.Join(dir, "token")
	must(t, os.WriteFile(script, lua, 0o644))
	must(t, os.WriteFile(token, []byte(eventSecret+"\n"), 0o644))
	return fmt.Sprintf(`
mail_plugins = acl quota notify push_notification mail_lua push_notification_lua
protocol imap {
  mail_plugins = acl quota notify push_notification mail_lua push_notification_lua imap_acl imap_quota
}
plugin {
  push_notification_driver = lua:file=%s
  imapproxy_url = %s
  imapproxy_token_file = %s
}
`, script, url, token)
}

func cyrus(t testing.TB, l *lab) *servers.Server {
	if l.events == "" {
		return servers.StartCyrus(t)
	}
	dir := servers.Folder(t)
	program := filepath.Join(dir, "notify")
	b, err := os.ReadFile(filepath.Join("..", "..", "contrib", "cyrus", "notify"))
	must(t, err)
	must(t, os.WriteFile(program, b, 0o755))
	must(t, os.MkdirAll(program+".d", 0o755))
	must(t, os.WriteFile(filepath.Join(program+".d", "0.conf"),
		[]byte(fmt.Sprintf("url = %q\nheader = %q\n", l.events, "Authorization: Bearer "+eventSecret)), 0o644))
	return servers.StartCyrusWith(t, servers.CyrusOptions{Notify: program})
}
