package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest/consultest"
	"imapproxy/routing"
)

// registering runs Register for the proxy "p1" against an agent.
func registering(t *testing.T, a *consultest.Agent, change func(*RegisterOptions)) (log *logBuffer, stop func()) {
	t.Helper()
	tel, log := logged(t)
	o := RegisterOptions{Consul: ConsulOptions{Address: a.Address(), Slack: 2 * time.Second}, ID: "p1",
		Address: "192.0.2.9", Port: 993, Tags: []string{"front"}, Interval: 100 * time.Millisecond, Telemetry: tel}
	if change != nil {
		change(&o)
	}
	return log, background(t, func(ctx context.Context) error { return Register(ctx, o) })
}

// proxies watches the registered proxies.
func proxies(t *testing.T, a *consultest.Agent) *recorder {
	r, _ := watching(t, a, func(o *ConsulOptions) { o.Service = "imapproxy" })
	return r
}

func TestTheProxyStaysRegisteredOverARestartOfItsAgent(t *testing.T) {
	a := consultest.Start(t)
	r := proxies(t, a)
	log, stop := registering(t, a, nil)
	b := r.waitFleet(t, "p1").Backends[0]
	if b.Address != "192.0.2.9:993" || len(b.Tags) != 1 || b.Tags[0] != "front" {
		t.Errorf("the registration is %+v", b)
	}
	log.wait(t, "registered in consul")

	a.Restart()
	log.wait(t, "registered in consul again")
	if _, ok := a.Get("/v1/agent/service/p1"); !ok {
		t.Error("the restarted agent doesn't know the proxy")
	}
	r.waitFleet(t, "p1")

	// another client of Consul removes or changes it
	a.Deregister("p1")
	log.waitTimes(t, "registered in consul again", 2) // a watch may see it before and after only
	r.waitFleet(t, "p1")
	a.Register(consultest.Service{Name: "imapproxy", ID: "p1", Address: "192.0.2.66", Port: 1})
	r.wait(t, "the right address again", func(s routing.Snapshot) bool {
		return len(s.Backends) == 1 && s.Backends[0].Address == "192.0.2.9:993" && s.Backends[0].State == routing.Up
	})

	stop()
	r.waitFleet(t, "")
}

func TestTheAgentAsksTheProxysHealth(t *testing.T) {
	a := consultest.Start(t)
	var healthy sync.Map
	health := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, bad := healthy.Load("no"); bad {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer health.Close()
	r := proxies(t, a)
	registering(t, a, func(o *RegisterOptions) { o.CheckHTTP, o.Interval = health.URL+"/healthz", time.Second })
	r.waitFleet(t, "p1")
	healthy.Store("no", true)
	r.waitFleet(t, "p1=down")
}

func TestOtherProxiesAreWarnedOfOnce(t *testing.T) {
	a := consultest.Start(t)
	proxy := map[string]string{"kind": "imapproxy"}
	a.Register(consultest.Service{Name: "imapproxy", ID: "another-program", Address: "192.0.2.7", Port: 993})
	a.Register(consultest.Service{Name: "imapproxy", ID: "p0", Address: "192.0.2.8", Port: 993, Meta: proxy})
	log, _ := registering(t, a, nil)
	log.wait(t, "p0 on dev1")
	a.Register(consultest.Service{Name: "imapproxy", ID: "p2", Address: "192.0.2.10", Port: 993, Meta: proxy})
	log.wait(t, "p0 on dev1, p2 on dev1")
	if n := strings.Count(log.String(), "another proxy"); n != 2 {
		t.Errorf("%d warnings of two sets of proxies:\n%s", n, log)
	}
}

// A proxy that will stop soon gets no more clients by Consul, and still counts as one that lives: other proxies' requests reach it, and none starts that doesn't
// agree with it. It has its entry until it ends.
func TestAProxyThatWillStopSoonIsCriticalAndLives(t *testing.T) {
	a := consultest.Start(t)
	r, stopping := proxies(t, a), make(chan struct{})
	_, stop := registering(t, a, func(o *RegisterOptions) { o.Stopping, o.Interval = stopping, time.Hour })
	r.waitFleet(t, "p1")
	close(stopping)
	r.waitFleet(t, "p1=down") // at once: the next look is in an hour
	o := ConsulOptions{Address: a.Address(), Service: "imapproxy"}
	if all, err := Living(t.Context(), o, "p2"); err != nil || len(all) != 1 {
		t.Errorf("%v lives: %v", all, err)
	}
	others, err := Alone(t.Context(), RegisterOptions{Consul: o, ID: "p2", Address: "192.0.2.10", Port: 993})
	if err != nil || len(others) != 1 {
		t.Errorf("%v is alive: %v", others, err)
	}
	a.TTL("service:p1", "passing")
	r.waitFleet(t, "p1")
	a.TTL("service:p1", "critical") // by Consul, since the process was killed
	r.waitFleet(t, "p1=down")
	if all, err := Living(t.Context(), o, "p2"); err != nil || len(all) != 0 {
		t.Errorf("%v lives: %v", all, err)
	}
	stop()
	r.waitFleet(t, "")
}

// entryOf is what the agent has under the id "p1".
func entryOf(t *testing.T, a *consultest.Agent) (e struct {
	Meta    map[string]string
	Address string
}) {
	t.Helper()
	text, ok := a.Get("/v1/agent/service/p1")
	if !ok {
		t.Fatalf("the agent has no entry: %s", text)
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// What is left of a process that was killed isn't a second proxy: the next one has its place.
func TestTheEntryOfAProxyThatWasKilledIsReplaced(t *testing.T) {
	a := consultest.Start(t)
	r := proxies(t, a)
	killed := exec.Command(os.Args[0])
	killed.Env = append(os.Environ(), registerAt+"="+a.Address())
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = killed.Wait() }() // it was killed
	r.waitFleet(t, "p1")
	before := entryOf(t, a)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if m := before.Meta; m["pid"] != strconv.Itoa(killed.Process.Pid) || m["admin"] != "192.0.2.9:8143" || m["version"] != "1" || m["instance"] == "" || m["kind"] != "imapproxy" {
		t.Errorf("its entry says %v", m)
	}

	log, stop := registering(t, a, func(o *RegisterOptions) {
		o.Meta, o.Version = map[string]string{MetaAdmin: ":8143"}, "2"
	})
	log.wait(t, "in place of an earlier process")
	after := entryOf(t, a)
	if m := after.Meta; m["pid"] != strconv.Itoa(os.Getpid()) || m["admin"] != ":8143" || m["version"] != "2" || m["instance"] == before.Meta["instance"] {
		t.Errorf("the entry says %v", m)
	}
	r.waitFleet(t, "p1")
	checks, _ := a.Get("/v1/health/checks/imapproxy")
	if strings.Count(checks, `"CheckID"`) != 1 || !strings.Contains(checks, `"passing"`) {
		t.Errorf("its checks are %s", checks)
	}
	if strings.Contains(log.String(), "another p") {
		t.Errorf("it takes its earlier self for another:\n%s", log)
	}
	stop()
	r.waitFleet(t, "")
}

// While a new process takes over, both have the same id: the entry is the later one's, and
// stays when the earlier one ends.
func TestTheEntryOfASuccessorIsLeftAlone(t *testing.T) {
	a := consultest.Start(t)
	begun := time.Now()
	var passed atomic.Bool
	from := func(instance string, after time.Duration) func(*RegisterOptions) {
		return func(o *RegisterOptions) {
			o.Instance, o.Started = instance, begun.Add(after)
			if instance == "first" {
				o.HandedOver = passed.Load
			}
		}
	}
	log1, stop1 := registering(t, a, from("first", 0))
	log1.wait(t, "registered in consul")
	passed.Store(true)
	log2, stop2 := registering(t, a, from("second", time.Second))
	log2.wait(t, "registered in consul")
	log1.wait(t, "taken for its successor")

	passed.Store(false)
	stop2()
	log1.wait(t, "registered in consul again") // the successor has gone, this one serves on
	passed.Store(true)
	log3, _ := registering(t, a, from("third", 2*time.Second))
	log3.wait(t, "registered in consul")
	log1.waitTimes(t, "taken for its successor", 2)
	stop1()
	if got := entryOf(t, a).Meta["instance"]; got != "third" {
		t.Errorf("after the first one's end the entry is %q's", got)
	}
	if n := strings.Count(log3.String(), "registered in consul"); n != 1 {
		t.Errorf("they registered in turn:\n%s", log3)
	}
}

// A new process that has taken over has another port, so its entry has another id. The old process's entry goes, since no more clients are served at
// its address, and comes back where it has to serve again.
func TestAnEntryGoesOnceASuccessorHasAnother(t *testing.T) {
	a := consultest.Start(t)
	r := proxies(t, a)
	var passed atomic.Bool
	log, _ := registering(t, a, func(o *RegisterOptions) { o.HandedOver = passed.Load })
	r.waitFleet(t, "p1")
	passed.Store(true)
	registering(t, a, func(o *RegisterOptions) { o.ID, o.Port, o.Instance = "p2", 994, "new" })
	r.waitFleet(t, "p2")
	passed.Store(false)
	log.wait(t, "registered in consul again")
	r.waitFleet(t, "p1 p2")
}

// Proxies on several addresses of one machine have one port, and an entry each.
func TestProxiesOnSeveralAddressesHaveAnEntryEach(t *testing.T) {
	a := consultest.Start(t)
	addresses := []string{"127.0.7.11", "127.0.7.12", "::1", "mail.example.org", ""}
	var logs []*logBuffer
	for i, address := range addresses {
		log, _ := registering(t, a, func(o *RegisterOptions) { o.ID, o.Address, o.Instance = "", address, fmt.Sprint(i) })
		log.wait(t, "registered in consul")
		logs = append(logs, log)
	}
	text, _ := a.Get("/v1/agent/services")
	var all map[string]struct{ Address string }
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		id, err := RegistrationID("imapproxy", address, 993)
		if entry, ok := all[id]; err != nil || !ok || entry.Address != address {
			t.Errorf("%s isn't the entry of %q: %s, %v", id, address, text, err)
		}
	}
	for i, log := range logs {
		if strings.Contains(log.String(), "another process") {
			t.Errorf("%q takes another one for a process of its own:\n%s", addresses[i], log)
		}
	}
}

// A proxy that has handed nothing over warns that another one has taken its entry.
func TestALaterProxyWithTheSameIDIsWarnedOf(t *testing.T) {
	a := consultest.Start(t)
	begun := time.Now()
	log1, _ := registering(t, a, func(o *RegisterOptions) { o.Instance, o.Started = "first", begun })
	log1.wait(t, "registered in consul")
	registering(t, a, func(o *RegisterOptions) { o.Instance, o.Started = "second", begun.Add(time.Second) })
	log1.wait(t, "this one isn't listed any more")
	if strings.Contains(log1.String(), "taken for its successor") {
		t.Errorf("it takes the other one for its successor:\n%s", log1)
	}
}

// An entry at another address isn't that of an earlier process: it stays for as long as it is alive.
func TestAnEntryAtAnotherAddressIsntReplacedWhileItLives(t *testing.T) {
	a := consultest.Start(t)
	a.Register(consultest.Service{Name: "imapproxy", ID: "p1", Address: "192.0.2.66", Port: 993, Meta: proxyMeta("other"), Check: &consultest.Check{TTL: "1h", Status: "passing"}})
	o := RegisterOptions{Consul: ConsulOptions{Address: a.Address()}, ID: "p1", Address: "192.0.2.9", Port: 993}
	if others, err := Alone(t.Context(), o); err != nil || fmt.Sprint(others) != "[p1 at 192.0.2.66:993]" {
		t.Errorf("beside it another one finds %q, %v", others, err)
	}
	log, _ := registering(t, a, nil)
	log.wait(t, "a proxy at another address has this proxy's id")
	if is := entryOf(t, a); is.Address != "192.0.2.66" || is.Meta["instance"] != "other" {
		t.Errorf("the entry is %+v", is)
	}
	a.TTL("service:p1", "critical")
	log.wait(t, "in place of an earlier process")
	if is := entryOf(t, a); is.Address != "192.0.2.9" {
		t.Errorf("the entry is %+v", is)
	}
}

// Earlier releases made IDs without the address: such an entry at the same address is that of an earlier process of
// this proxy, one at another address is another proxy.
func TestTheIDOfEarlierReleases(t *testing.T) {
	a := consultest.Start(t)
	earlier, err := RegistrationID("imapproxy", "", 993)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"192.0.2.9": "", "192.0.2.66": earlier + " on dev1"} {
		a.Register(consultest.Service{Name: "imapproxy", ID: earlier, Address: address, Port: 993, Meta: proxyMeta("before"), Check: &consultest.Check{TTL: "1h", Status: "passing"}})
		o := RegisterOptions{Consul: ConsulOptions{Address: a.Address()}, Address: "192.0.2.9", Port: 993}
		others, err := Alone(t.Context(), o)
		if got := strings.Join(others, ", "); err != nil || got != want {
			t.Errorf("beside an entry of an earlier release at %s: %q, %v, want %q", address, got, err, want)
		}
	}
}

func TestARefusedRegistrationIsAWarning(t *testing.T) {
	consul := newFakeConsul(t)
	consul.answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Permission denied", http.StatusForbidden) })
	tel, log := logged(t)
	stop := background(t, func(ctx context.Context) error {
		return Register(ctx, RegisterOptions{Consul: consul.options(), ID: "p1", Port: 993, Interval: 10 * time.Millisecond, Telemetry: tel})
	})
	log.wait(t, "Permission denied")
	consul.waitRequests(t, 10)
	if n := strings.Count(log.String(), "the proxy serves clients and tries again"); n != 1 {
		t.Errorf("%d warnings of one refusal:\n%s", n, log)
	}
	stop()
}

// Consul doesn't show for how long it keeps the entry of a proxy that is gone.
func TestConsulIsToldWhenToForgetAProxyThatIsGone(t *testing.T) {
	consul := newFakeConsul(t)
	asked := make(chan string, 10)
	consul.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/service/register") {
			body, _ := io.ReadAll(r.Body)
			asked <- string(body)
			return
		}
		http.Error(w, "unknown service ID", http.StatusNotFound)
	})
	for after, want := range map[time.Duration]string{0: "1h0m0s", 90 * time.Minute: "1h30m0s"} {
		stop := background(t, func(ctx context.Context) error {
			return Register(ctx, RegisterOptions{Consul: consul.options(), ID: "p1", Port: 993, Interval: time.Minute, DeregisterAfter: after})
		})
		select {
		case body := <-asked:
			if !strings.Contains(body, `"DeregisterCriticalServiceAfter":"`+want+`"`) {
				t.Errorf("it is told %s", body)
			}
		case <-time.After(patience):
			t.Fatal("no registration")
		}
		stop()
		for len(asked) > 0 {
			<-asked
		}
	}
}

func TestRegistrationsThatMakeNoSense(t *testing.T) {
	for _, port := range []int{0, -1, 65536} {
		if err := Register(context.Background(), RegisterOptions{ID: "p1", Port: port}); err == nil {
			t.Errorf("port %d is accepted", port)
		}
	}
	if _, err := NewConsul(ConsulOptions{}, nil); err == nil {
		t.Error("a discovery of no service is accepted")
	}
}

// fakeConsul answers what no real agent can be brought to.
type fakeConsul struct {
	server *httptest.Server

	mu       sync.Mutex
	handler  http.HandlerFunc
	requests []*http.Request
	changed  chan struct{}
}

func newFakeConsul(t *testing.T) *fakeConsul {
	f := &fakeConsul{changed: make(chan struct{})}
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r)
		handler := f.handler
		close(f.changed)
		f.changed = make(chan struct{})
		f.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(f.server.Close)
	return f
}

func (f *fakeConsul) options() ConsulOptions {
	return ConsulOptions{Address: f.server.URL, Service: "imap", Slack: 2 * time.Second,
		MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond}
}

func (f *fakeConsul) answer(h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handler = h
}

// waitRequests returns the requests once there are n of them.
func (f *fakeConsul) waitRequests(t *testing.T, n int) []*http.Request {
	t.Helper()
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		requests, changed := f.requests[:len(f.requests):len(f.requests)], f.changed
		f.mu.Unlock()
		if len(requests) >= n {
			return requests
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d requests instead of %d", len(requests), n)
		}
	}
}

// entries answers with passing instances, under an index.
func entries(w http.ResponseWriter, index int, ids ...string) {
	w.Header().Set("X-Consul-Index", strconv.Itoa(index))
	all := []any{}
	for _, id := range ids {
		all = append(all, map[string]any{
			"Node":    map[string]any{"Node": "n1", "Address": "192.0.2.1"},
			"Service": map[string]any{"ID": id, "Service": "imap", "Port": 143},
		})
	}
	_ = json.NewEncoder(w).Encode(all)
}

func query(r *http.Request) url.Values { return r.URL.Query() }

// An agent that was replaced counts from anew, and a server that lags behind counts right: an
// answer with a lower index is taken once a consistent read has said the same.
func TestAnIndexThatGoesBackIsReadAgainConsistently(t *testing.T) {
	f := newFakeConsul(t)
	served := 0
	f.answer(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		served++
		n := served
		f.mu.Unlock()
		entries(w, []int{0, 50, 60, 10, 10, 20}[min(n, 5)], strings.Fields([]string{"", "b1", "b1 b2", "b0 b1 b2", "b1 b2 b3", "b1 b2 b3 b4"}[min(n, 5)])...)
		if n > 5 {
			<-r.Context().Done() // the rest blocks, as Consul does
		}
	})
	r, _ := runFake(t, f)
	requests := f.waitRequests(t, 6)
	for i, want := range []string{"", "50", "60", "", "10"} {
		if got := query(requests[i]).Get("index"); got != want {
			t.Errorf("request %d asks for index %q, want %q", i+1, got, want)
		}
	}
	for i, want := range []string{"stale", "stale", "stale", "consistent", "stale"} {
		if q := query(requests[i]); !q.Has(want) || q.Has("passing") {
			t.Errorf("query %d isn't %s: %v", i+1, want, q)
		}
	}
	r.waitFleet(t, "b1 b2 b3 b4")
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, want := range []string{"b1", "b1 b2", "b1 b2 b3", "b1 b2 b3 b4"} { // b0 is of a server that lags
		if got := describe(r.all[i].Backends); got != want {
			t.Errorf("answer %d that is taken names %q, want %q", i+1, got, want)
		}
	}
}

func TestEveryErrorIsTriedAgainWithoutBlocking(t *testing.T) {
	f := newFakeConsul(t)
	served := 0
	f.answer(func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		served++
		n := served
		f.mu.Unlock()
		switch n % 5 {
		case 1:
			entries(w, 100+n, "b1")
		case 2:
			http.Error(w, "No cluster leader", 500)
		case 3:
			http.Error(w, "rate limit", http.StatusTooManyRequests)
		case 4:
			_, _ = w.Write([]byte(`{"not": "a list"}`))
		case 0:
			hang, _, _ := w.(http.Hijacker).Hijack()
			hang.Close()
		}
	})
	r, log := runFake(t, f)
	requests := f.waitRequests(t, 11)
	for i, want := range []string{"", "101", "", "", "", "", "106", "", "", "", ""} {
		if got := query(requests[i]).Get("index"); got != want {
			t.Errorf("request %d asks for index %q, want %q", i+1, got, want)
		}
	}
	if s, _, _ := r.last(); describe(s.Backends) != "b1" {
		t.Errorf("an error reached routing: %+v", s)
	}
	log.wait(t, "answers again")
}

func TestATokenIsReadAgainWhenItIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old-token\n")
	f := newFakeConsul(t)
	f.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Consul-Token") != "new-token" {
			http.Error(w, "ACL not found", http.StatusForbidden)
			return
		}
		entries(w, 7, "b1")
	})
	tel, log := logged(t)
	o := f.options()
	o.TokenFile = file
	c, err := NewConsul(o, tel)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	background(t, func(ctx context.Context) error { return c.Run(ctx, r.apply) })
	log.wait(t, "ACL not found")
	write("new-token\n")
	r.waitFleet(t, "b1")
	if strings.Contains(log.String(), "-token") {
		t.Errorf("the log holds a token:\n%s", log)
	}
}

// runFake watches a fake Consul until the test ends.
func runFake(t *testing.T, f *fakeConsul) (*recorder, *logBuffer) {
	t.Helper()
	tel, log := logged(t)
	c, err := NewConsul(f.options(), tel)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	background(t, func(ctx context.Context) error { return c.Run(ctx, r.apply) })
	return r, log
}
