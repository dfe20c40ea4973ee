//go:build figures

package cluster

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest/consultest"
	"imapproxy/routing"
	"imapproxy/routing/agree"
)

// A meter is an HTTP proxy between a proxy and its agent; it counts requests.
type meter struct {
	addr string

	mu       sync.Mutex
	requests map[string]int
	octets   int64 // sent by proxies with writes
	answered int64 // octets of answers
}

// counted is an answer whose octets are counted.
type counted struct {
	io.ReadCloser
	m *meter
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.m.mu.Lock()
	c.m.answered += int64(n)
	c.m.mu.Unlock()
	return n, err
}

// answers returns the octets of the answers since the last call.
func (m *meter) answers() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.answered
	m.answered = 0
	return n
}

func startMeter(t *testing.T, agent *consultest.Agent) *meter {
	t.Helper()
	m := &meter{requests: map[string]int{}}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: agent.Address()})
	forward.Transport = &http.Transport{MaxIdleConnsPerHost: 1000, MaxConnsPerHost: 0}
	forward.ModifyResponse = func(r *http.Response) error {
		r.Body = counted{r.Body, m}
		return nil
	}
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) {} // watches that end with the test
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/v1/"), "/", 3)
		name := r.Method + " " + parts[0]
		if parts[0] == "session" {
			name += "/" + parts[1]
		}
		m.mu.Lock()
		m.requests[name]++
		if parts[0] == "txn" {
			m.octets += r.ContentLength
		}
		m.mu.Unlock()
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	m.addr = strings.TrimPrefix(s.URL, "http://")
	return m
}

// since returns the counts and sets them to zero.
func (m *meter) since() (requests map[string]int, octets int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	requests, octets = m.requests, m.octets
	m.requests, m.octets = map[string]int{}, 0
	return requests, octets
}

func number(name string, or int) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(or)))
	if err != nil {
		panic(err)
	}
	return n
}

// What idle proxies ask of Consul: with the default TTL, for a minute.
func TestFigureAtRest(t *testing.T) {
	for _, n := range []int{3, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			agent := consultest.Start(t)
			m := startMeter(t, agent)
			var proxies []*proxy
			begun := time.Now()
			for i := range n {
				p := join(t, agent, fmt.Sprint("proxy-", i+1), func(o *Options) {
					o.Member.TTL = 45 * time.Second
					o.Consul.Address = m.addr
				})
				p.Discover(1, true, backends(routing.Up, routing.Up, routing.Up))
				proxies = append(proxies, p)
			}
			for _, p := range proxies {
				p.until("all have joined", func(s agree.Status) bool { return len(s.Proxies) == n && s.Acked > 0 })
			}
			joins, _ := m.since()
			all := 0
			for _, k := range joins {
				all += k
			}
			t.Logf("%d proxies join: %v, %d requests, %d kB of answers", n, time.Since(begun), all, m.answers()/1000)
			time.Sleep(15 * time.Second)
			m.since()
			m.answers()
			seconds := number("FIGURE_SECONDS", 60)
			time.Sleep(time.Duration(seconds) * time.Second)
			requests, _ := m.since()
			sum := 0
			for _, name := range slices.Sorted(maps.Keys(requests)) {
				t.Logf("%s: %.2f/s", name, float64(requests[name])/float64(seconds))
				sum += requests[name]
			}
			t.Logf("%d proxies at rest: %.2f requests/s, of them %.2f writes/s, %.0f octets/s of answers", n, float64(sum)/float64(seconds), float64(requests["PUT txn"])/float64(seconds), float64(m.answers())/float64(seconds))
		})
	}
}

// A fleet that moves 100,000 connected users: FIGURE_PROXIES proxies have 200,000 users at two backends, one
// of which is drained.
func TestFigureSwitch(t *testing.T) {
	agent := consultest.Start(t)
	m := startMeter(t, agent)
	n, users := number("FIGURE_PROXIES", 3), number("FIGURE_USERS", 200000)
	type held struct {
		mu    sync.Mutex
		holds map[string]*Hold
	}
	var proxies []*proxy
	all := make([]*held, n)
	var moved atomic.Int64
	for i := range n {
		h := &held{holds: map[string]*Hold{}}
		all[i] = h
		var p *proxy
		asked := make(chan string, users)
		p = join(t, agent, fmt.Sprint("proxy-", i+1), func(o *Options) {
			o.Member.TTL = 45 * time.Second
			o.Member.Policy.MoveRate = float64(number("FIGURE_RATE", 10000))
			o.Consul.Address = m.addr
			o.LetGo = func(e agree.Effect) {
				select {
				case asked <- e.User:
				default:
					t.Error("too much is asked for")
				}
			}
		})
		// What sessions do: they let go, and claim anew.
		go func() {
			for {
				select {
				case <-t.Context().Done():
					return
				case user := <-asked:
					h.mu.Lock()
					hold := h.holds[user]
					delete(h.holds, user)
					h.mu.Unlock()
					if hold == nil {
						continue
					}
					was := hold.Backend
					hold.Release()
					go func() {
						again, err := p.Claim(t.Context(), time.Minute, user, "")
						if err != nil {
							return
						}
						h.mu.Lock()
						h.holds[user] = again
						h.mu.Unlock()
						if again.Backend != was {
							moved.Add(1)
						}
					}()
				}
			}
		}()
		p.Discover(1, true, backends(routing.Up, routing.Up))
		proxies = append(proxies, p)
	}
	for _, p := range proxies {
		p.until("all have joined", func(s agree.Status) bool { return len(s.Proxies) == n && s.Acked > 0 })
	}
	before := heap()
	begin := time.Now()
	there := 0
	for i := range users {
		user := fmt.Sprintf("user%06d@example.org", i)
		hold := proxies[i%n].claim(user)
		all[i%n].holds[user] = hold
		if hold.Backend == "imap1" {
			there++
		}
	}
	t.Logf("%d claims in %v (%v each), %d of them at imap1; %d octets of memory each", users, time.Since(begin).Round(time.Millisecond),
		(time.Since(begin) / time.Duration(users)).Round(10*time.Nanosecond), there, (heap()-before)/int64(users))
	time.Sleep(3 * time.Second)
	m.since()

	// Logins meanwhile, of users who aren't moved and of those who are.
	var mu sync.Mutex
	waits := map[bool][]time.Duration{}
	ended := make(chan struct{})
	var logins sync.WaitGroup
	for w := range 4 {
		logins.Go(func() {
			for i := w; ; i += 4 {
				select {
				case <-ended:
					return
				case <-time.After(2 * time.Millisecond):
				}
				user := fmt.Sprintf("user%06d@example.org", i*37%users)
				p := proxies[(i+1)%n]
				all[i*37%users%n].mu.Lock()
				was := all[i*37%users%n].holds[user]
				all[i*37%users%n].mu.Unlock()
				since := time.Now()
				h, err := p.Claim(t.Context(), time.Minute, user, "")
				took := time.Since(since)
				if err != nil {
					return
				}
				h.Release()
				mu.Lock()
				leaves := was == nil || was.Backend == "imap1"
				waits[leaves] = append(waits[leaves], took)
				mu.Unlock()
			}
		})
	}

	drained := backends(routing.Draining, routing.Up)
	begin = time.Now()
	for _, p := range proxies {
		p.Discover(2, true, drained)
	}
	for _, p := range proxies {
		p.until("acked", func(s agree.Status) bool { return s.Acked >= 2 })
	}
	acked := time.Since(begin)
	requests, octets := m.since()
	t.Logf("all %d proxies have acked in %v; %d writes of %d octets in all (%v)", n, acked.Round(time.Millisecond), requests["PUT txn"], octets, requests)
	keys(t, agent)
	var peak int64
	for late := time.Now().Add(10 * time.Minute); moved.Load() < int64(there); {
		if time.Now().After(late) {
			t.Fatalf("%d of %d have moved", moved.Load(), there)
		}
		peak = max(peak, heap())
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(begin)
	requests, octets = m.since()
	close(ended)
	logins.Wait()
	t.Logf("%d users have moved in %v; meanwhile %d writes of %d octets (%v); heap at most %d MB, all proxies of this process together (%d MB before the first claim)",
		there, took.Round(time.Millisecond), requests["PUT txn"], octets, requests, peak>>20, before>>20)
	for leaves, all := range waits {
		slices.Sort(all)
		t.Logf("logins meanwhile, of users who are moved: %v: %d, p50 %v, p99 %v, max %v", leaves, len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
	}
	keys(t, agent)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// keys shows what is in Consul.
func keys(t *testing.T, agent *consultest.Agent) {
	t.Helper()
	text, _ := agent.Get("/v1/kv/imapproxy/imapproxy/?recurse")
	var all []struct{ Key, Value string }
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, k := range all {
		value, _ := base64.StdEncoding.DecodeString(k.Value)
		sum += len(value)
		t.Logf("    %s: %d octets", k.Key, len(value))
	}
	t.Logf("    %d keys, %d octets", len(all), sum)
}
