package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/telemetry"
)

// poolLab is a backend that accepts every login, a Dialer, a Pool, and a clock.
type poolLab struct {
	*Pool
	t       *testing.T
	dialer  *Dialer
	target  Target
	clock   *setClock
	metrics *telemetry.Telemetry

	mu    sync.Mutex // guards peers
	peers []net.Conn // the backend's ends, in the order of their coming
}

// here is where clients are.
var here = netip.MustParseAddr("192.0.2.1")

type setClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *setClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *setClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newPoolLab(t *testing.T, opt PoolOptions) *poolLab {
	t.Helper()
	l := &poolLab{t: t, clock: &setClock{now: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)}}
	tel, err := telemetry.Start(context.Background(), telemetry.Options{Service: "t", LogWriter: io.Discard, Prometheus: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	l.metrics = tel
	b := serve(t, func(c net.Conn) error {
		l.mu.Lock()
		l.peers = append(l.peers, c)
		l.mu.Unlock()
		return playScript(c, "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nANYLOGIN\n", nil)
	})
	l.target = Target{ID: "b1", Address: b.addr}
	l.dialer = newDialer(t, Options{Telemetry: tel, Now: l.clock.Now})
	opt.Telemetry, opt.Now = tel, l.clock.Now
	l.Pool = NewPool(opt)
	t.Cleanup(l.Close)
	return l
}

func (l *poolLab) auth(user, password string) Auth {
	return Auth{User: user, Password: telemetry.Secret(password)}
}

func (l *poolLab) key(user, password string) PoolKey {
	return l.Key(user, l.target, l.auth(user, password), UseSession, "")
}

// login makes a connection and gives the backend's end of it.
func (l *poolLab) login(user, password string) (*Conn, net.Conn) {
	l.t.Helper()
	c, err := l.dialer.Login(context.Background(), l.target, l.auth(user, password), Client{Addr: netip.AddrPortFrom(here, 1143)})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	l.mu.Lock()
	defer l.mu.Unlock()
	return c, l.peers[len(l.peers)-1]
}

// warm puts a connection into the pool.
func (l *poolLab) warm(user, password string) net.Conn {
	l.t.Helper()
	c, peer := l.login(user, password)
	if !l.Give(l.key(user, password), c, Condition{}) {
		l.t.Fatal("a clean connection isn't kept")
	}
	return peer
}

func (l *poolLab) takes(want bool, k PoolKey, proof Proof) *Conn {
	l.t.Helper()
	c := l.Take(k, proof, here)
	if (c != nil) != want {
		l.t.Fatalf("lent: %v, want %v", c != nil, want)
	}
	if c != nil {
		l.t.Cleanup(func() { _ = c.Close() })
	}
	return c
}

// gauge reads imapproxy.backend.connections.
func (l *poolLab) gauge(kind string) string {
	return gaugeOf(l.t, l.metrics, kind)
}

func TestALentConnectionIsTheOneThatWasGivenAndWorks(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
	c, peer := l.login("u", "p")
	if !l.Give(l.key("u", "p"), c, Condition{}) {
		t.Fatal("not kept")
	}
	if got := l.gauge("session") + l.gauge("warm"); got != "01" {
		t.Errorf("session and warm: %s", got)
	}
	out := l.takes(true, l.key("u", "p"), Verified)
	if got := l.gauge("session") + l.gauge("warm"); got != "10" {
		t.Errorf("session and warm: %s", got)
	}
	go func() { _, _ = peer.Write([]byte("* OK still there\r\n")) }()
	b := make([]byte, 18)
	if _, err := io.ReadFull(out, b); err != nil || !bytes.HasPrefix(b, []byte("* OK still")) {
		t.Fatalf("%q, %v", b, err)
	}
	if out.Target != l.target || !out.Caps.Has("IMAP4rev1") {
		t.Errorf("what was known of it is lost: %+v, %v", out.Target, out.Caps)
	}
	l.takes(false, l.key("u", "p"), Verified) // it has one owner
	_ = out.Close()
	if got := l.gauge("session") + l.gauge("warm"); got != "00" {
		t.Errorf("session and warm: %s", got)
	}
}

func TestTheGiversHandleIsDead(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
	c, _ := l.login("u", "p")
	l.Give(l.key("u", "p"), c, Condition{})
	// What a session does at its end, whatever happened before.
	_ = c.Abort()
	_ = c.Close()
	l.takes(true, l.key("u", "p"), Verified)
}

func TestAKeyIsAllOfIt(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Minute, AuthCacheFor: time.Minute})
	l.warm("u", "p")
	auth := l.auth("u", "p")
	elsewhere := func(change func(*Target)) PoolKey {
		target := l.target
		change(&target)
		return l.Key("u", target, auth, UseSession, "")
	}
	for name, k := range map[string]PoolKey{
		"user":           l.Key("v", l.target, auth, UseSession, ""),
		"identity":       l.Key("u", l.target, l.auth("U", "p"), UseSession, ""),
		"password":       l.key("u", "q"),
		"no password":    l.key("u", ""),
		"master":         l.Key("u", l.target, Auth{Mode: ModeMaster, User: "u", MasterUser: "u", MasterPassword: "p"}, UseSession, ""),
		"user*master":    l.Key("u", l.target, l.auth("u*m", "p"), UseSession, ""),
		"dialect":        l.Key("u", l.target, auth, UseSession, "QRESYNC"),
		"use":            l.Key("u", l.target, auth, UseWatch, ""),
		"backend":        elsewhere(func(t *Target) { t.ID = "b2" }),
		"address":        elsewhere(func(t *Target) { t.Address = "127.0.0.1:1" }),
		"tls":            elsewhere(func(t *Target) { t.TLS = TLSImplicit }),
		"another pool's": NewPool(PoolOptions{}).Key("u", l.target, auth, UseSession, ""),
	} {
		t.Run(name, func(t *testing.T) {
			if c := l.Take(k, Verified, here); c != nil {
				_ = c.Close()
				t.Fatal("lent")
			}
		})
	}
	l.takes(true, l.Key("u", l.target, Auth{Mode: ModeUser, User: "u", Password: "p"}, UseSession, ""), Verified)
}

func TestAKeyShowsNoPassword(t *testing.T) {
	l := newPoolLab(t, PoolOptions{})
	if s := fmt.Sprintf("%+v %#v", l.key("u", "Secret.1"), l.key("u", "Secret.1")); strings.Contains(s, "Secret") {
		t.Error(s)
	}
}

func TestALoginNeedsMoreThanAWarmConnection(t *testing.T) {
	t.Run("auth_cache_for 0", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
		l.warm("u", "p")
		l.takes(false, l.key("u", "p"), Unproven)
		l.takes(true, l.key("u", "p"), Verified) // it is still there for who was verified
	})
	t.Run("within auth_cache_for of the backend's own word", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Hour, AuthCacheFor: time.Minute})
		c, _ := l.login("u", "p")
		l.clock.add(30 * time.Second)
		l.Give(l.key("u", "p"), c, Condition{})
		l.clock.add(29 * time.Second)
		c = l.takes(true, l.key("u", "p"), Unproven)
		// Lent and given again it's no younger.
		l.Give(l.key("u", "p"), c, Condition{})
		l.clock.add(time.Second)
		l.takes(false, l.key("u", "p"), Unproven)
		l.takes(true, l.key("u", "p"), Verified)
	})
	t.Run("not by the word of before a flush, also where the connection comes later", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Hour, AuthCacheFor: time.Hour})
		l.warm("u", "p")
		held, _ := l.login("u", "p")
		other, _ := l.login("v", "p")
		l.clock.add(time.Second)
		if n := l.FlushUser("u"); n != 1 || l.OfUser("u") != 0 {
			t.Errorf("%d were closed, %d are left", n, l.OfUser("u"))
		}
		l.Give(l.key("u", "p"), held, Condition{})
		l.Give(l.key("v", "p"), other, Condition{})
		l.clock.add(time.Second)
		l.takes(false, l.key("u", "p"), Unproven)
		l.takes(true, l.key("u", "p"), Verified)
		l.takes(true, l.key("v", "p"), Unproven)
		c, _ := l.login("u", "p")
		l.Give(l.key("u", "p"), c, Condition{})
		l.takes(true, l.key("u", "p"), Unproven)
	})
	t.Run("in master mode the connection proves nothing", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Hour, AuthCacheFor: time.Hour})
		c, _ := l.login("u", "p")
		k := l.Key("u", l.target, Auth{Mode: ModeMaster, User: "u", MasterUser: "m", MasterPassword: "mp"}, UseSession, "")
		l.Give(k, c, Condition{})
		l.takes(false, k, Unproven)
		l.takes(true, k, Verified)
	})
	t.Run("from elsewhere it isn't what the backend said yes to", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Hour, AuthCacheFor: time.Hour})
		l.warm("u", "p")
		k, elsewhere := l.key("u", "p"), netip.MustParseAddr("198.51.100.1")
		if l.Take(k, Unproven, elsewhere) != nil || l.Take(k, Unproven, netip.Addr{}) != nil {
			t.Error("lent to another address")
		}
		l.Give(k, l.takes(true, k, Unproven), Condition{})
		if c := l.Take(k, Verified, elsewhere); c == nil {
			t.Error("not lent to who was verified")
		} else {
			l.Give(k, c, Condition{})
		}
		l.takes(true, k, Unproven) // it is still the one that was opened from here
	})
	t.Run("networks", func(t *testing.T) {
		for _, c := range []struct {
			a, b string
			want bool
		}{
			{"192.0.2.1", "192.0.2.1", true},
			{"192.0.2.1", "192.0.2.254", true},
			{"192.0.2.1", "::ffff:192.0.2.9", true},
			{"192.0.2.1", "192.0.3.1", false},
			{"2001:db8:1:2::3", "2001:db8:1:2:ffff::4", true},
			{"2001:db8:1:2::3", "2001:db8:1:3::3", false},
			{"192.0.2.1", "2001:db8::1", false},
			{"::", "192.0.2.1", false},
		} {
			if got := SameNetwork(netip.MustParseAddr(c.a), netip.MustParseAddr(c.b)); got != c.want {
				t.Errorf("%s and %s: %t", c.a, c.b, got)
			}
		}
		if SameNetwork(netip.Addr{}, netip.Addr{}) {
			t.Error("two that aren't known")
		}
	})
	t.Run("a clock that went back", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Hour, AuthCacheFor: time.Hour})
		l.warm("u", "p")
		l.clock.add(-time.Minute)
		l.takes(false, l.key("u", "p"), Unproven)
	})
}

func TestWhatIsNotCleanIsClosed(t *testing.T) {
	for name, s := range map[string]Condition{
		"in IDLE": {Idling: true}, "command in flight": {InFlight: true}, "half a literal": {HalfLiteral: true},
		"selected": {Selected: true}, "NOTIFY": {Notify: true}, "in doubt": {Doubt: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
			c, peer := l.login("u", "p")
			if l.Give(l.key("u", "p"), c, s) || l.Len() != 0 {
				t.Fatal("kept")
			}
			closedByProxy(t, peer)
		})
	}
	t.Run("data unread", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
		c, peer := l.login("u", "p")
		c.Unread([]byte("* 1 EXISTS\r\n"))
		if l.Give(l.key("u", "p"), c, Condition{}) {
			t.Fatal("kept")
		}
		closedByProxy(t, peer)
	})
	t.Run("under another backend's key", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
		c, _ := l.login("u", "p")
		if l.Give(l.Key("u", Target{ID: "b2"}, l.auth("u", "p"), UseSession, ""), c, Condition{}) {
			t.Fatal("kept")
		}
	})
	t.Run("without a user", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
		c, _ := l.login("u", "p")
		if l.Give(PoolKey{target: l.target}, c, Condition{}) {
			t.Fatal("kept")
		}
	})
	t.Run("warm_for 0", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{})
		c, peer := l.login("u", "p")
		if l.Give(l.key("u", "p"), c, Condition{}) {
			t.Fatal("kept")
		}
		closedByProxy(t, peer)
	})
	t.Run("a closed pool", func(t *testing.T) {
		l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
		l.Close()
		c, peer := l.login("u", "p")
		if l.Give(l.key("u", "p"), c, Condition{}) {
			t.Fatal("kept")
		}
		closedByProxy(t, peer)
	})
}

// closedByProxy waits until the proxy has closed its end.
func closedByProxy(t *testing.T, peer net.Conn) {
	t.Helper()
	_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := io.Copy(io.Discard, peer); n > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Fatalf("the proxy keeps the connection: %d, %v", n, err)
	}
}

func TestWhatTheBackendDidMeanwhileIsNoticed(t *testing.T) {
	for name, do := range map[string]func(net.Conn){
		"it said BYE":    func(c net.Conn) { _, _ = c.Write([]byte("* BYE Idle for too long\r\n")) },
		"it said more":   func(c net.Conn) { _, _ = c.Write([]byte("* OK Still here\r\n")) },
		"it closed":      func(c net.Conn) { _ = c.Close() },
		"it reset":       func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() },
		"it half-closed": func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("at lending", func(t *testing.T) {
				l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
				peer := l.warm("u", "p")
				do(peer)
				l.arrived()
				l.takes(false, l.key("u", "p"), Verified)
				if l.Len() != 0 || l.gauge("warm") != "0" {
					t.Errorf("%d kept, gauge %s", l.Len(), l.gauge("warm"))
				}
			})
			t.Run("by the sweep", func(t *testing.T) {
				l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
				good := l.warm("v", "p")
				do(l.warm("u", "p"))
				l.arrived()
				l.Sweep()
				if l.Len() != 1 || l.gauge("warm") != "1" {
					t.Errorf("%d kept, gauge %s", l.Len(), l.gauge("warm"))
				}
				_ = good
				l.takes(true, l.key("v", "p"), Verified)
			})
		})
	}
}

// arrived waits until what the backend did can be seen on some connection in the
// pool.
func (l *poolLab) arrived() {
	l.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		l.Pool.mu.Lock()
		all := l.allLocked()
		l.Pool.mu.Unlock()
		for _, w := range all {
			if w.conn.Pending() != nil {
				return
			}
		}
		if time.Now().After(deadline) {
			l.t.Fatal("nothing arrives")
		}
		runtime.Gosched()
	}
}

func TestIdleForTooLong(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
	old := l.warm("u", "p")
	l.clock.add(59 * time.Second)
	l.warm("u", "p")
	l.Sweep()
	if l.Len() != 2 {
		t.Fatalf("%d kept, want 2", l.Len())
	}
	l.clock.add(time.Second)
	l.takes(true, l.key("u", "p"), Verified) // the younger one
	closedByProxy(t, old)                    // and the other was seen to be too old
	l.warm("u", "p")
	l.clock.add(time.Minute)
	l.Sweep()
	if l.Len() != 0 {
		t.Fatalf("%d kept, want none", l.Len())
	}
}

// The hub uses a connection for a parked user every few minutes, which must not occupy it
// all the time.
func TestAConnectionOfTheProxysOwnWaitsATenthAsLong(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: 10 * time.Minute})
	k := l.Key("u", l.target, l.auth("u", "p"), UseWatch, "")
	for _, w := range []struct {
		age  time.Duration
		lent bool
	}{{59 * time.Second, true}, {time.Minute, false}} {
		c, _ := l.login("u", "p")
		if !l.Give(k, c, Condition{}) {
			t.Fatal("not kept")
		}
		l.clock.add(w.age)
		l.takes(w.lent, k, Verified)
	}
	if c, _ := l.login("u", "p"); !l.Give(k, c, Condition{}) {
		t.Fatal("not kept")
	}
	l.clock.add(time.Minute)
	l.Sweep()
	if l.Len() != 0 {
		t.Error("the sweep leaves it")
	}
}

func TestAConnectionIsntKeptForEver(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: 10 * time.Minute})
	k := l.key("u", "p")
	c, _ := l.login("u", "p")
	for range 11 { // a user who logs in again and again
		l.clock.add(5 * time.Minute)
		if !l.Give(k, c, Condition{}) {
			t.Fatal("not kept, within an hour of its login")
		}
		c = l.takes(true, k, Verified)
	}
	l.clock.add(5 * time.Minute)
	if l.Give(k, c, Condition{}) {
		t.Error("kept, an hour after its login")
	}
}

func TestBounds(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Minute, PerUser: 2, Total: 3})
	first := l.warm("u", "p")
	l.warm("u", "p")
	l.warm("u", "p") // the first goes
	closedByProxy(t, first)
	l.warm("v", "p")
	if l.Len() != 3 {
		t.Fatalf("%d kept, want 3", l.Len())
	}
	l.warm("w", "p") // u's older one goes
	if l.Len() != 3 {
		t.Fatalf("%d kept, want 3", l.Len())
	}
	l.takes(true, l.key("v", "p"), Verified)
	l.takes(true, l.key("w", "p"), Verified)
	l.takes(true, l.key("u", "p"), Verified)
	l.takes(false, l.key("u", "p"), Verified)
}

func TestForgetting(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
	u, v := l.warm("u", "p"), l.warm("v", "p")
	l.ForgetUser("u")
	closedByProxy(t, u)
	l.takes(false, l.key("u", "p"), Verified)
	l.ForgetBackend("b2")
	if l.Len() != 1 {
		t.Fatal("another backend's was closed")
	}
	l.ForgetBackend("b1")
	closedByProxy(t, v)
}

func TestReloadCountsForThoseThatWait(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Hour})
	peer := l.warm("u", "p")
	l.clock.add(time.Minute)
	l.Reload(PoolOptions{WarmFor: time.Second, Now: l.clock.Now, Telemetry: l.metrics})
	closedByProxy(t, peer)
}

func TestRunSweepsAndClosesAtTheEnd(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Minute, SweepEvery: time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	old := l.warm("u", "p")
	l.clock.add(time.Minute)
	closedByProxy(t, old)
	fresh := l.warm("u", "p")
	cancel()
	<-done
	closedByProxy(t, fresh)
}

// TestOneOwner has many givers, takers and sweeps at once: a connection is lent to
// one at a time. Each owner reads only the answers to its own commands.
func TestOneOwner(t *testing.T) {
	l := newPoolLab(t, PoolOptions{WarmFor: time.Minute, PerUser: 8})
	b := serve(t, func(c net.Conn) error {
		return playScript(c, "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nANYLOGIN\nECHO\n", nil)
	})
	target := Target{ID: "b1", Address: b.addr}
	auth := l.auth("u", "p")
	k := l.Key("u", target, auth, UseSession, "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				c := l.Take(k, Verified, here)
				if c == nil {
					var err error
					if c, err = l.dialer.Login(context.Background(), target, auth, Client{}); err != nil {
						t.Error(err)
						return
					}
				}
				word := fmt.Sprintf("%02d-%02d", i, j)
				got := make([]byte, len(word))
				if _, err := c.Write([]byte(word)); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
					t.Errorf("got %q, want %q: %v", got, word, err)
				}
				if j%10 == 9 {
					_ = c.Close()
					continue
				}
				l.Give(k, c, Condition{})
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			l.Sweep()
		}
	})
	wg.Wait()
	if b.connections() > 8*6 {
		t.Errorf("%d logins: the pool is of no use", b.connections())
	}
}

// gaugeOf reads a value of imapproxy.backend.connections as Prometheus does; "0"
// where it isn't there.
func gaugeOf(t *testing.T, tel *telemetry.Telemetry, kind string) string {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(line, "imapproxy_backend_connections{") && strings.Contains(line, `kind="`+kind+`"`) {
			_, value, _ := strings.Cut(line, "} ")
			return strings.TrimSpace(value)
		}
	}
	return "0"
}
