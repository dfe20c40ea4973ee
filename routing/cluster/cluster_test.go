package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
	"imapproxy/routing"
	"imapproxy/routing/agree"
	"imapproxy/routing/discovery"
	"imapproxy/telemetry"
)

func TestMain(m *testing.M) { imaptest.LeakMain(m) }

// patience is how long a test waits for an event before it fails.
const patience = 60 * time.Second

// proxy is a test's Cluster, with the effects that it has had.
type proxy struct {
	*Cluster
	t    *testing.T
	stop func() // as a process that is killed

	mu      sync.Mutex
	letGo   []agree.Effect
	changed chan struct{}
}

func (p *proxy) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// asked waits until the proxy is asked to let go of the user.
func (p *proxy) asked(user string) {
	p.t.Helper()
	late := time.After(patience)
	for {
		p.mu.Lock()
		for _, e := range p.letGo {
			if e.User == user || e.Kind == agree.CloseAll {
				p.mu.Unlock()
				return
			}
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-late:
			p.t.Fatalf("nobody asked to let go of %s", user)
		}
	}
}

func join(t *testing.T, agent *consultest.Agent, id string, change func(*Options)) *proxy {
	t.Helper()
	p := &proxy{t: t, changed: make(chan struct{})}
	o := Options{
		Consul:  discovery.ConsulOptions{Address: agent.Address()},
		Service: "imapproxy",
		Member:  agree.Options{ID: id, Storage: routing.Shared, Users: "lower", TTL: 10 * time.Second},
		Switched: func(*agree.Fleet) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.wake()
		},
		LetGo: func(e agree.Effect) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.letGo = append(p.letGo, e)
			p.wake()
		},
	}
	o.Member.Policy.FlapDamp = time.Millisecond
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.Cluster = c
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	p.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(p.stop)
	return p
}

func backends(states ...routing.State) (all []routing.Backend) {
	for i, s := range states {
		all = append(all, routing.Backend{ID: fmt.Sprint("imap", i+1), Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 143).String(), Weight: 1, State: s})
	}
	return all
}

func (p *proxy) claim(user string) *Hold {
	p.t.Helper()
	h, err := p.Claim(p.t.Context(), patience, user, "")
	if err != nil {
		p.t.Fatalf("claim of %s: %v", user, err)
	}
	return h
}

// until waits for something that only Status shows.
func (p *proxy) until(what string, ok func(agree.Status) bool) {
	p.t.Helper()
	for late := time.Now().Add(patience); !ok(p.Status()); {
		if time.Now().After(late) {
			p.t.Fatalf("not seen: %s; %+v", what, p.Status())
		}
		p.Cluster.mu.Lock()
		changed := p.Cluster.changed
		p.Cluster.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(tick):
		}
	}
}

// All proxies send a user to the same backend. If one still has the user at a backend that isn't the choice
// any more, the others follow it until it lets go.
func TestProxiesAgree(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	up := backends(routing.Up, routing.Up, routing.Up)
	var proxies []*proxy
	for i := range 3 {
		p := join(t, agent, fmt.Sprint("proxy-", i+1), nil)
		p.Discover(1, true, up)
		proxies = append(proxies, p)
	}
	users := make([]string, 60)
	at := make(map[string]string)
	held := make(map[string]*Hold) // by the first proxy
	for i := range users {
		users[i] = fmt.Sprint("user", i)
		held[users[i]] = proxies[0].claim(users[i])
		at[users[i]] = held[users[i]].Backend
		for _, p := range proxies[1:] {
			h := p.claim(users[i])
			if h.Backend != at[users[i]] {
				t.Fatalf("%s is at %s for one proxy, at %s for another", users[i], at[users[i]], h.Backend)
			}
			h.Release()
		}
	}
	proxies[1].until("three proxies", func(s agree.Status) bool { return len(s.Proxies) == 3 })

	// imap1 is drained: its users stay where they are held, for all proxies.
	drained := backends(routing.Draining, routing.Up, routing.Up)
	for _, p := range proxies {
		p.Discover(2, true, drained)
	}
	for _, p := range proxies {
		p.until("epoch 2 acked", func(s agree.Status) bool { return s.Acked == 2 })
	}
	var moving []string
	for _, u := range users {
		if at[u] == "imap1" {
			moving = append(moving, u)
		}
	}
	if len(moving) == 0 {
		t.Fatal("nobody is at imap1: choose other names")
	}
	for _, u := range moving {
		proxies[0].asked(u) // at a safe point
		for _, p := range proxies[1:] {
			ctx, cancel := context.WithTimeout(t.Context(), 0)
			if h, err := p.Cluster.Claim(ctx, 0, u, ""); err == nil && h.Backend != "imap1" {
				t.Fatalf("%s is at imap1 by the first proxy, and at %s", u, h.Backend)
			} else if err == nil {
				h.Release()
			}
			cancel()
		}
		held[u].Release()
	}
	for _, u := range moving {
		first := proxies[0].claim(u)
		for _, p := range proxies[1:] {
			if h := p.claim(u); h.Backend == "imap1" || h.Backend != first.Backend {
				t.Errorf("%s has moved to %s, for another proxy to %s", u, first.Backend, h.Backend)
			}
		}
	}
}

// A proxy that stops removes its key once its connections have ended, and not before.
func TestACleanStopWaitsForTheConnections(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	a, b := join(t, agent, "a", nil), join(t, agent, "b", nil)
	for _, p := range []*proxy{a, b} {
		p.Discover(1, true, backends(routing.Up, routing.Up))
	}
	hold := a.claim("ann")
	b.claim("ann").Release()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := a.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("left with a connection: %v", err)
	}
	if _, err := a.Claim(t.Context(), patience, "bob", ""); !errors.Is(err, ErrRefused) {
		t.Errorf("a proxy that stops gave a claim: %v", err)
	}
	hold.Release()
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, there := agent.Get("/v1/kv/imapproxy/imapproxy/proxies/a"); there {
		t.Error("its key is still there")
	}
	b.until("one proxy", func(s agree.Status) bool { return len(s.Proxies) == 1 })
}

// A proxy that has died counts for as long as it may have trusted what it knew, and not for ever.
func TestADeadProxyIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	a, b := join(t, agent, "a", nil), join(t, agent, "b", nil)
	for _, p := range []*proxy{a, b} {
		p.Discover(1, true, backends(routing.Up, routing.Up))
	}
	hold := a.claim("ann")
	b.claim("bob").Release()
	a.stop()
	states := []routing.State{routing.Up, routing.Up}
	states[hold.Backend[len("imap")]-'1'] = routing.Draining
	b.Discover(2, true, backends(states...))
	b.until("epoch 2", func(s agree.Status) bool { return s.Acked == 2 })
	if _, err := b.Claim(t.Context(), time.Second, "ann", ""); !errors.Is(err, ErrWait) {
		t.Fatalf("the dead proxy may have ann on %s: %v", hold.Backend, err)
	}
	if a.Overdue() {
		t.Fatal("the dead proxy's deadline has passed before anybody waited for it")
	}
	if h := b.claim("ann"); h.Backend == hold.Backend {
		t.Errorf("ann is at the drained %s", h.Backend)
	}
	if !a.Overdue() {
		t.Error("others moved a user while the dead proxy could have trusted itself")
	}
}

// A connection may be made to the backend where the caller has the user, or not at all; no claim counts for
// one that isn't made.
func TestAConnectionIsClaimedWhereTheUserIs(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	a := join(t, agent, "a", nil)
	if hold, elsewhere, err := a.ClaimAt("ann", "imap1", false); hold != nil || elsewhere != "" || err != nil {
		t.Fatalf("before it has joined: %v, %q, %v", hold, elsewhere, err)
	}
	a.Discover(1, true, backends(routing.Up, routing.Up))
	login := a.claim("ann")
	other := map[string]string{"imap1": "imap2", "imap2": "imap1"}[login.Backend]
	conn, elsewhere, err := a.ClaimAt("ann", login.Backend, false)
	if conn == nil || conn.Backend != login.Backend || elsewhere != "" || err != nil {
		t.Fatalf("%v, %q, %v", conn, elsewhere, err)
	}
	login.Release()
	if hold, elsewhere, err := a.ClaimAt("ann", other, false); hold != nil || elsewhere != conn.Backend || err != nil {
		t.Errorf("at another backend: %v, %q, %v", hold, elsewhere, err)
	}
	if s := a.Status(); s.Users != 1 {
		t.Errorf("%d users are held", s.Users)
	}
	conn.Release()
	if s := a.Status(); s.Users != 0 {
		t.Errorf("%d users are held in the end", s.Users)
	}
	if n := a.Counts(); n.Switches != 1 || n.Waiting != 0 {
		t.Errorf("%+v", n)
	}
}

// A proxy that is known to be dead is removed, and its users are moved at once.
func TestADeadProxyIsRemoved(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	a, b := join(t, agent, "a", nil), join(t, agent, "b", nil)
	for _, p := range []*proxy{a, b} {
		p.Discover(1, true, backends(routing.Up, routing.Up))
	}
	hold := a.claim("ann")
	b.claim("bob").Release()
	b.until("two proxies", func(s agree.Status) bool { return len(s.Proxies) == 2 })
	a.stop()
	states := []routing.State{routing.Up, routing.Up}
	states[hold.Backend[len("imap")]-'1'] = routing.Draining
	b.Discover(2, true, backends(states...))
	b.until("epoch 2", func(s agree.Status) bool { return s.Acked == 2 })
	if err := b.Remove(t.Context(), "c"); !errors.Is(err, agree.ErrUnknownProxy) {
		t.Errorf("a proxy that isn't there: %v", err)
	}
	if err := b.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	h := b.claim("ann")
	if h.Backend == hold.Backend {
		t.Errorf("ann is at the drained %s", h.Backend)
	}
	if a.Overdue() {
		t.Error("the dead proxy's time was over: nothing was seen")
	}
}

// While Consul is away no connection is lost and users who aren't being moved are served (isolated =
// "serve"); with "hold" all users are let go of before other proxies may move any user.
func TestConsulIsAway(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	serve := join(t, agent, "serve", nil)
	hold := join(t, agent, "hold", func(o *Options) { o.Member.Isolated = agree.Hold })
	for _, p := range []*proxy{serve, hold} {
		p.Discover(1, true, backends(routing.Up, routing.Up))
		p.claim("ann")
	}
	agent.Stop()
	defer agent.Continue()
	hold.asked("all")
	serve.until("isolated", func(s agree.Status) bool { return s.State == "isolated" })
	serve.claim("ann")
	serve.claim("carl").Release()
	if _, err := hold.Claim(t.Context(), 0, "carl", ""); !errors.Is(err, ErrWait) {
		t.Errorf("an isolated proxy that holds gave a claim: %v", err)
	}
}

// users finds a user at imap1 and one at imap2.
func (p *proxy) users() (first, second string) {
	p.t.Helper()
	for i := 0; first == "" || second == ""; i++ {
		user := fmt.Sprint("user", i)
		h := p.claim(user)
		if h.Release(); h.Backend == "imap1" {
			first = user
		} else {
			second = user
		}
	}
	return first, second
}

// arrives claims the user until they are at the backend: meanwhile the proxy may follow another one to where it still has the user.
func (p *proxy) arrives(user, backend string) {
	p.t.Helper()
	p.until(user+" at "+backend, func(agree.Status) bool {
		h, err := p.Claim(p.t.Context(), 0, user, "")
		if err != nil {
			return false
		}
		h.Release()
		return h.Backend == backend
	})
}

// Consul has no leader: users who aren't being moved are served, and those who are wait until there is one. A proxy that
// starts meanwhile serves no user before that.
func TestConsulHasNoLeader(t *testing.T) {
	t.Parallel()
	server := consultest.Start(t)
	agent := server.Join("proxies")
	long := func(o *Options) { o.Member.TTL = 5 * time.Minute } // no proxy is isolated
	a, b := join(t, agent, "a", long), join(t, agent, "b", long)
	for _, p := range []*proxy{a, b} {
		p.Discover(1, true, backends(routing.Up, routing.Up))
		p.until("both", func(s agree.Status) bool { return s.State == "joined" && len(s.Proxies) == 2 })
	}
	moved, stays := a.users()
	hold := b.claim(moved)
	for _, p := range []*proxy{a, b} {
		p.Discover(2, true, backends(routing.Down, routing.Up))
	}
	b.asked(moved)
	a.until("the stay of the other", func(s agree.Status) bool {
		for _, p := range s.Proxies {
			if p.Stays == 0 && p.ID == "b" || p.Acked != s.Epoch {
				return false
			}
		}
		return s.Epoch == s.Acked
	})
	server.Stop()
	defer server.Continue()
	hold.Release()
	c := join(t, agent, "c", long)
	c.Discover(2, true, backends(routing.Down, routing.Up))
	for _, p := range []*proxy{a, b} {
		h, err := p.Claim(t.Context(), 0, stays, "")
		if err != nil {
			t.Fatalf("a user who isn't moved waits: %v", err)
		}
		h.Release()
	}
	if h, err := a.Claim(t.Context(), 0, moved, ""); !errors.Is(err, ErrWait) {
		t.Errorf("a user who is being moved: %+v, %v", h, err)
	}
	if h, err := c.Claim(t.Context(), 0, stays, ""); !errors.Is(err, ErrWait) {
		t.Errorf("by a proxy that hasn't joined: %+v, %v", h, err)
	}
	server.Continue()
	a.arrives(moved, "imap2")
	c.claim(stays).Release()
}

// Consul answers each request late: the proxies agree, users who aren't being moved don't wait, and the others are moved.
func TestConsulIsSlow(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	to := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", agent.Address() }, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		late := time.NewTimer(500 * time.Millisecond)
		defer late.Stop()
		select {
		case <-late.C:
			to.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(slow.Close)
	change := func(o *Options) { o.Consul.Address, o.Member.TTL = slow.Listener.Addr().String(), time.Minute }
	a, b := join(t, agent, "a", change), join(t, agent, "b", change)
	for _, p := range []*proxy{a, b} {
		p.Discover(1, true, backends(routing.Up, routing.Up))
		p.until("both", func(s agree.Status) bool { return s.State == "joined" && len(s.Proxies) == 2 })
	}
	moved, stays := a.users()
	hold := b.claim(moved)
	a.Discover(2, true, backends(routing.Down, routing.Up))
	b.asked(moved)
	for _, p := range []*proxy{a, b} {
		h, err := p.Claim(t.Context(), 0, stays, "")
		if err != nil {
			t.Fatalf("a user who isn't moved waits: %v", err)
		}
		h.Release()
	}
	hold.Release()
	a.arrives(moved, "imap2")
	for _, p := range []*proxy{a, b} {
		if s := p.Status(); s.State != "joined" {
			t.Errorf("%+v", s)
		}
	}
}

// A value that no proxy wrote is reported with its key, and the last good fleet stays.
func TestAValueThatIsntOurs(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	lines := make(chan string, 1000)
	a := join(t, agent, "a", func(o *Options) {
		o.Telemetry = telemetry.Discard()
		o.Telemetry.Log = slog.New(slog.NewTextHandler(writer(func(line string) {
			if strings.Contains(line, "is ignored") {
				lines <- line
			}
		}), nil))
	})
	says := func(words ...string) {
		t.Helper()
		select {
		case line := <-lines:
			for _, w := range words {
				if !strings.Contains(line, w) {
					t.Errorf("%q isn't in %s", w, line)
				}
			}
		case <-time.After(patience):
			t.Fatalf("the log doesn't say %q", words)
		}
	}
	a.Discover(1, true, backends(routing.Up))
	a.claim("ann").Release()
	a.claim("here")
	agent.PutKV("imapproxy/imapproxy/notes", "ask jane")
	says("key=imapproxy/imapproxy/notes", "consul kv delete imapproxy/imapproxy/notes\"")

	const later, value = "imapproxy/imapproxy/proxies/later", `{"format": 9, "epoch": "seven"}`
	agent.PutKV(later, value)
	says("key="+later, "later release")
	if _, err := a.Claim(t.Context(), 0, "here", ""); err != nil {
		t.Errorf("a user with a connection: %v", err)
	}
	if _, err := a.Claim(t.Context(), 0, "ann", ""); !errors.Is(err, ErrWait) { // that proxy may have them anywhere
		t.Errorf("a user without one: %v", err)
	}
	if text, _ := agent.Get("/v1/kv/" + later + "?raw"); text != value {
		t.Errorf("it is %s now", text)
	}
	agent.DeleteKV(later)
	a.claim("ann").Release()

	agent.PutKV("imapproxy/imapproxy/fleet", "a typo")
	says("key=imapproxy/imapproxy/fleet", "leave it there")
	a.until("the outage", func(s agree.Status) bool { return !s.Outage.IsZero() })
	a.claim("bob").Release()
	if text, _ := agent.Get("/v1/kv/imapproxy/imapproxy/fleet?raw"); !strings.Contains(text, "typo") {
		t.Error("the operator's value was overwritten at once")
	}
}

// A drain holds for all proxies, whichever of them was asked, whatever discovery says, and also for proxies
// that start later; its users are asked to leave, and after its deadline their sessions are ended. When the
// drain ends, the backend is up again.
func TestADrainHoldsForAllProxies(t *testing.T) {
	t.Parallel()
	agent := consultest.Start(t)
	ended := make(chan string, 1000)
	change := func(o *Options) {
		o.End = func(e agree.Effect) {
			select {
			case ended <- e.User + " " + e.Backend:
			default:
			}
		}
	}
	a, b := join(t, agent, "a", change), join(t, agent, "b", change)
	up := backends(routing.Up, routing.Up)
	for _, p := range []*proxy{a, b} {
		p.Discover(1, true, up)
	}
	ann := "ann"
	for i := 0; routing.Bucket(ann) > 40; i++ { // its bucket is one of the first that are asked and ended
		ann = fmt.Sprint("ann", i)
	}
	hold := a.claim(ann)
	b.claim("bob").Release()
	there := hold.Backend
	if to, err := b.Preview(there); err != nil || len(to) != 0 {
		t.Fatalf("b has nobody at %s: %v, %v", there, to, err)
	}
	if to, err := a.Preview(there); err != nil || len(to) != 1 {
		t.Fatalf("a has ann at %s: %v, %v", there, to, err)
	}
	for i := range 2 { // the second request replaces the first
		if err := b.Drain(t.Context(), agree.DrainRequest{Backend: there, By: "jane", Within: time.Duration(i) * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
	}
	a.until("the drain", func(s agree.Status) bool {
		return len(s.Drains) == 1 && s.Drains[0].Backend == there && s.Drains[0].By == "jane" && s.Drains[0].Users == 1 && s.Drains[0].Deadline != 0
	})
	a.asked(ann)
	if got := <-ended; got != ann+" "+there {
		t.Fatalf("ended: %s", got)
	}
	hold.Release()
	if h := b.claim(ann); h.Backend == there {
		t.Errorf("ann goes to %s, which is drained", there)
	}

	c := join(t, agent, "c", nil)
	c.Discover(2, true, up)
	for i := range 50 {
		if h := c.claim(fmt.Sprint("user", i)); h.Backend == there {
			t.Errorf("user%d goes to %s by a proxy that has come since", i, there)
		}
	}
	if err := c.Undrain(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	if err := c.Undrain(t.Context(), there); !errors.Is(err, agree.ErrNotDrained) {
		t.Errorf("a second time: %v", err)
	}
	a.until("its end", func(s agree.Status) bool { return len(s.Drains) == 0 })
	later := 0
	a.until("users at the backend after its drain", func(agree.Status) bool { // its state stays for flap_damp
		for range 50 {
			later++
			h := a.claim(fmt.Sprint("later", later))
			h.Release()
			if h.Backend == there {
				return true
			}
		}
		return false
	})
}

// A token that isn't enough is reported, once for each kind of request.
func TestATokenThatIsntEnoughIsTold(t *testing.T) {
	t.Parallel()
	agent := consultest.StartWithACLs(t)
	token := agent.NewToken("without-sessions", `key_prefix "imapproxy/" { policy = "write" }`)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 16)
	p := join(t, agent, "a", func(o *Options) {
		o.Consul.TokenFile = file
		tel := telemetry.Discard()
		tel.Log = slog.New(slog.NewTextHandler(writer(func(line string) {
			if strings.Contains(line, "Consul denies") {
				told <- line
			}
		}), nil))
		o.Telemetry = tel
	})
	p.Discover(1, true, backends(routing.Up))
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatal("the log doesn't say it")
	}
	token.Allow("without-sessions", `key_prefix "imapproxy/" { policy = "write" }
session_prefix "" { policy = "write" }`)
	p.claim("ann").Release()
	if len(told) != 0 {
		t.Errorf("told again: %s", <-told)
	}
}

// writer is an io.Writer of a function.
type writer func(string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// A proxy whose token doesn't let it write any more goes on to renew its session, and can't ack the next fleet. It stops to renew, so the
// others take it for dead, and what the fleet moves is moved; users who aren't moved go on at that proxy. Once it may write it is back.
func TestAProxyThatMayNotWrite(t *testing.T) {
	t.Parallel()
	agent := consultest.StartWithACLs(t)
	const sessions = "session_prefix \"\" { policy = \"write\" }\n"
	write, read := sessions+`key_prefix "imapproxy/" { policy = "write" }`, sessions+`key_prefix "imapproxy/" { policy = "read" }`
	tokens := map[string]*consultest.Token{}
	start := func(id string) *proxy {
		tokens[id] = agent.NewToken(id, write)
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(tokens[id].Secret), 0o600); err != nil {
			t.Fatal(err)
		}
		p := join(t, agent, id, func(o *Options) {
			o.Consul.TokenFile = file
			o.Member.AgreeWithin = 2 * time.Second
		})
		p.Discover(1, true, backends(routing.Up, routing.Up))
		p.until("joined", func(s agree.Status) bool { return s.State == "joined" })
		return p
	}
	a, b := start("a"), start("b")
	b.until("both", func(s agree.Status) bool { return len(s.Proxies) == 2 })
	moved, stays := a.users()
	tokens["a"].Allow("a", read)
	b.Discover(2, true, backends(routing.Down, routing.Up))
	a.until("isolated", func(s agree.Status) bool { return s.State == "isolated" })
	a.claim(stays).Release()
	if h := b.claim(moved); h.Backend != "imap2" {
		t.Errorf("%s goes to %s", moved, h.Backend)
	}
	tokens["a"].Allow("a", write)
	a.until("back", func(s agree.Status) bool { return s.State == "joined" })
	if h := a.claim(moved); h.Backend != "imap2" {
		t.Errorf("%s goes to %s at the proxy that is back", moved, h.Backend)
	}
}
