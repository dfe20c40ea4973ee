package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// password is every user's in these tests. No lab ends without its logs and
// traces having been searched for it.
const password = "s3cret-Pa55"

// Names of a lab's listeners.
const (
	plain    = "plain"    // in the clear, passwords allowed
	startTLS = "starttls" // passwords only under TLS
	implicit = "imaps"
	behind   = "behind" // in the clear, behind a balancer that speaks PROXY
)

// lab is a Server that runs, with scripted backends behind it.
type lab struct {
	t        testing.TB
	srv      *Server
	opts     Options // as the server was made with
	router   *routing.Router
	backends []*imaptest.Backend // "b1", "b2", …
	tel      *telemetry.Telemetry
	logs     *logLines
	spans    *tracetest.InMemoryExporter
	cert     imaptest.Cert
	clock    *clock

	final  string // the metrics at the end
	end    context.CancelFunc
	served chan error
	once   sync.Once
}

// labOptions say what is special about a lab. The zero value has one polite backend that accepts
// every login.
type labOptions struct {
	handlers []imaptest.Handler // a backend each
	rows     []routing.Backend  // instead of the handlers' own
	storage  routing.Storage    // 0: shared
	limits   session.Limits
	change   func(*Options)
	watch    string // of the hub of a parkingLab; "": push events
	quiet    bool   // keep neither logs nor traces: benchmarks
}

// polite is a backend that accepts every user with the password of the tests.
func polite() imaptest.Dialogue {
	return imaptest.Dialogue{Check: func(_ *imaptest.BackendConn, l imaptest.Login) string {
		if l.Password != password {
			return "NO [AUTHENTICATIONFAILED] wrong"
		}
		return ""
	}}
}

func newLab(t testing.TB, o labOptions) *lab {
	t.Helper()
	l := &lab{t: t, logs: newLogLines(), spans: tracetest.NewInMemoryExporter(), cert: imaptest.NewCert(t), clock: &clock{}, served: make(chan error, 1)}
	telOpts := telemetry.Options{Version: "test", LogWriter: l.logs, LogLevel: slog.LevelDebug, SampleRatio: 1, Prometheus: true, SpanExporter: l.spans, Now: l.clock.now}
	if o.quiet {
		telOpts = telemetry.Options{LogWriter: io.Discard, LogLevel: slog.LevelError, SlowCommand: -1, Prometheus: true}
	}
	tel, err := telemetry.Start(context.Background(), telOpts)
	must(t, err)
	l.tel = tel
	if o.handlers == nil {
		o.handlers = []imaptest.Handler{polite().Serve}
	}
	rows := o.rows
	for i, h := range o.handlers {
		b := imaptest.NewBackend(t, h)
		l.backends = append(l.backends, b)
		if o.rows == nil {
			rows = append(rows, routing.Backend{ID: fmt.Sprintf("b%d", i+1), Address: b.Addr, Weight: 100})
		}
	}
	if o.storage == 0 {
		o.storage = routing.Shared
	}
	l.router, err = routing.New(routing.Options{Storage: o.storage, Telemetry: tel})
	must(t, err)
	l.router.Apply(routing.Snapshot{Source: "test", Backends: rows})
	dialer, err := upstream.New(upstream.Options{Hostname: "proxy.test", ConnectTimeout: 5 * time.Second, LoginTimeout: 10 * time.Second, Telemetry: tel,
		TLS: l.cert.Client})
	must(t, err)
	if o.limits.AuthFailureDelay == 0 {
		o.limits.AuthFailureDelay = -1
	}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	certs := []Certificate{{CertPEM: l.cert.CertPEM, KeyPEM: l.cert.KeyPEM}}
	l.opts = Options{
		Hostname: "proxy.test", Version: "test",
		Listeners: []ListenerOptions{
			{Name: plain, Address: "127.0.0.1:0", TLS: session.TLSNone, CleartextFrom: loopback},
			{Name: startTLS, Address: "127.0.0.1:0", TLS: session.TLSStartTLS, Certificates: certs},
			{Name: implicit, Address: "127.0.0.1:0", TLS: session.TLSImplicit, Certificates: certs},
			{Name: behind, Address: "127.0.0.1:0", TLS: session.TLSNone, CleartextFrom: append(loopback, netip.MustParsePrefix("192.0.2.0/24")), ProxyTrusted: loopback},
		},
		Sources: []auth.Source{auth.NewBackend()}, Dialer: dialer, Router: l.router,
		Limits: o.limits, Telemetry: tel, Drain: 100 * time.Millisecond, Now: l.clock.now,
	}
	if o.change != nil {
		o.change(&l.opts)
	}
	if compressed {
		for i := range l.opts.Listeners {
			l.opts.Listeners[i].Compress, l.opts.Listeners[i].CompressHistory = true, 8192
		}
	}
	l.srv, err = New(l.opts)
	must(t, err)
	l.srv.illegal = func(what string) { panic(what) }
	must(t, l.srv.Listen(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	l.end = cancel
	go func() { l.served <- l.srv.Serve(ctx) }()
	t.Cleanup(l.stop)
	return l
}

// stop ends the server as SIGTERM does, waits for it, and looks for what must
// never be in logs and traces.
func (l *lab) stop() {
	l.t.Helper()
	l.once.Do(func() {
		l.end()
		select {
		case err := <-l.served:
			if err != nil {
				l.t.Errorf("Serve: %v", err)
			}
		case <-time.After(imaptest.DefaultTimeout):
			buf := make([]byte, 1<<20)
			l.t.Fatalf("Serve doesn't end\n%s", buf[:stacks(buf)])
		}
		if left := l.srv.reg.Leftover(); left != "" {
			l.t.Errorf("counted after the end: %s", left)
		}
		for _, b := range l.router.Backends() {
			if b.Sessions != 0 {
				l.t.Errorf("%d sessions are counted on %s after the end", b.Sessions, b.ID)
			}
		}
		l.final = l.metrics()
		var told strings.Builder
		told.WriteString(l.logs.String() + l.final)
		for _, s := range l.spans.GetSpans() {
			fmt.Fprintln(&told, s.Name, s.Status.Description)
			var keys []string
			for _, a := range s.Attributes {
				keys = append(keys, string(a.Key))
				fmt.Fprintln(&told, a.Key, a.Value.String())
			}
			if err := telemetry.CheckSpan(s.Name, s.SpanKind, !s.Parent.IsValid(), keys); err != nil {
				l.t.Errorf("docs/traces.md: %v", err)
			}
			for _, e := range s.Events {
				fmt.Fprintln(&told, e.Name, e.Attributes)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), imaptest.DefaultTimeout)
		defer cancel()
		must(l.t, l.tel.Shutdown(ctx))
		for _, secret := range spellings(password) {
			if i := strings.Index(told.String(), secret); i >= 0 {
				l.t.Errorf("a password was told: …%q…", told.String()[max(0, i-200):min(told.Len(), i+50)])
			}
		}
	})
}

// spellings are a secret in the clear, and what of its base64 doesn't depend
// on its neighbours, for each place it can have.
func spellings(secret string) []string {
	all := []string{secret}
	for pad := range 3 {
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", pad) + secret))
		all = append(all, enc[(pad*8+5)/6:len(enc)-4])
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// addr is a listener's address.
func (l *lab) addr(listener string) string { return l.srv.Addrs()[listener] }

// dial connects a client, under TLS where the listener begins with it.
func (l *lab) dial(listener string) *imaptest.Client {
	l.t.Helper()
	if listener == implicit {
		return imaptest.DialTLS(l.t, l.addr(listener), l.cert.Client)
	}
	return imaptest.Dial(l.t, l.addr(listener))
}

// compressed has the clients of all labs' logins compress: PROXY_TEST_COMPRESSED=1 go test ./proxy.
var compressed = os.Getenv("PROXY_TEST_COMPRESSED") != ""

// compress turns compression on for a client that has logged in, where the tests are run with it.
func (l *lab) compress(c *imaptest.Client) {
	l.t.Helper()
	if compressed {
		must(l.t, c.Compress())
	}
}

// login is a session of the user's, over the plain listener.
func (l *lab) login(user string) *imaptest.Client {
	l.t.Helper()
	c := l.dial(plain)
	c.Login(user, password)
	l.compress(c)
	return c
}

// metrics is the Prometheus page.
func (l *lab) metrics() string {
	if l.final != "" {
		return l.final
	}
	rec := httptest.NewRecorder()
	l.tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	return rec.Body.String()
}

// metric sums a metric's values over all label sets that contain the labels.
func (l *lab) metric(name string, labels ...string) float64 {
	l.t.Helper()
	var sum float64
	for line := range strings.Lines(l.metrics()) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.HasPrefix(series, name+"{") {
			continue
		}
		fits := true
		for _, label := range labels {
			fits = fits && strings.Contains(series, label)
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && fits {
			sum += v
		}
	}
	return sum
}

// closed is how many sessions have ended for a reason.
func (l *lab) closed(r session.Reason) int {
	l.t.Helper()
	return int(l.metric("imapproxy_sessions_closed_total", fmt.Sprintf("reason=%q", string(r))))
}

// ended waits until a session has ended for this reason.
func (l *lab) ended(r session.Reason) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("a session's end for %s (ended so far: %q)", r, grep(l.metrics(), "sessions_closed_total{")), func() bool { return l.closed(r) > 0 })
}

func grep(text, what string) string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, what) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return strings.Join(found, "; ")
}

// eventually waits for a state that no event announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	imaptest.Eventually(t, what, ok)
}

// clock is real time and what a test adds to it.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// logLines is a log that can be waited on.
type logLines struct {
	mu   sync.Mutex // guards what follows
	buf  bytes.Buffer
	more chan struct{} // closed and replaced with each line
}

func newLogLines() *logLines { return &logLines{more: make(chan struct{})} }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	close(l.more)
	l.more = make(chan struct{})
	return len(p), nil
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// wait returns the first line that matches, when it is there.
func (l *logLines) wait(t testing.TB, re string) string {
	t.Helper()
	want := regexp.MustCompile(re)
	deadline := time.After(imaptest.DefaultTimeout)
	for {
		l.mu.Lock()
		text, more := l.buf.String(), l.more
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			if want.MatchString(line) {
				return line
			}
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("waited for the log to say %s:\n%s", re, text)
		}
	}
}

// play runs a transcript's client side.
func (l *lab) play(name, src, listener string, vars map[string]string) {
	l.t.Helper()
	s, err := imaptest.ParseScript(name, []byte(src))
	must(l.t, err)
	all := map[string]string{
		"password": password, "plain": imaptest.PlainInitial("", "alice", password),
		"user64": base64.StdEncoding.EncodeToString([]byte("alice")), "password64": base64.StdEncoding.EncodeToString([]byte(password)),
	}
	for k, v := range vars {
		all[k] = v
	}
	var dial imaptest.DialOptions
	if listener == implicit {
		dial.TLS = l.cert.Client
	}
	_, err = s.Run(l.t.Context(), imaptest.RunOptions{
		Addr: l.addr(listener), Dial: dial, TLS: l.cert.Client, Vars: all,
		Hooks: map[string]func(context.Context, ...string) error{
			"ended":   func(_ context.Context, a ...string) error { l.ended(session.Reason(a[0])); return nil },
			"log":     func(_ context.Context, a ...string) error { l.logs.wait(l.t, strings.Join(a, " ")); return nil },
			"fire":    func(_ context.Context, a ...string) error { l.backends[0].Fire(a[0]); return nil },
			"happens": func(_ context.Context, a ...string) error { return l.backends[0].Wait(a[0]) },
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// transcripts are the files of a folder of testdata, by name.
func transcripts(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txtar"))
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no transcripts in", folder)
	}
	all := map[string]string{}
	for _, f := range files {
		src, err := os.ReadFile(f)
		must(t, err)
		all[strings.TrimSuffix(filepath.Base(f), ".txtar")] = string(src)
	}
	return all
}

// directive reads "# name: value" from a transcript.
func directive(src, name, or string) string {
	if m := regexp.MustCompile(`(?m)^# ` + name + `: *(\S+)`).FindStringSubmatch(src); m != nil {
		return m[1]
	}
	return or
}

func stacks(buf []byte) int { return runtime.Stack(buf, true) }

// dialerFor is a dialer that trusts a backend's certificate.
func dialerFor(t testing.TB, cert imaptest.Cert) *upstream.Dialer {
	t.Helper()
	d, err := upstream.New(upstream.Options{Hostname: "proxy.test", LoginTimeout: 10 * time.Second, TLS: cert.Client})
	must(t, err)
	return d
}
