//go:build figures

package e2e

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
)

func figure(name string, or int) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(or)))
	if err != nil {
		panic(err)
	}
	return n
}

// A login's median time with the block cluster against without: FIGURE_ROUNDS rounds of FIGURE_LOGINS logins each
// at each of two proxies before the same Dovecot, in turn. The ratio is the median of the rounds' ratios, with its 95 % interval by bootstrap.
// Two further proxies without the block are compared in the same rounds: their interval is the noise.
func TestFigureLoginWithTheBlock(t *testing.T) {
	servers.Real(t)
	dove := servers.StartDovecot(t, servers.DovecotOptions{Name: "d1"})
	token := filepath.Join(servers.Folder(t), "cluster.token")
	writeFile(t, token, clusterToken+"\n")
	start := func(further string) *runningProxy {
		consul := consultest.Start(t)
		registerBackend(t, consul, "d1", dove.Addr)
		return startProxy(t, proxyOptions{Consul: consul.Address(), Service: service, AdminToken: token, Further: further})
	}
	proxies := []*runningProxy{start(""), start(""), start(fmt.Sprintf("register {\n}\ncluster {\n  token_file = %q\n}\n", token))}
	var with, same []float64 // ratios to the first, by round
	var off, on []time.Duration
	n := 0
	for range figure("FIGURE_ROUNDS", 40) {
		times := make([][]time.Duration, len(proxies))
		for range figure("FIGURE_LOGINS", 60) {
			n++
			for k := range proxies {
				k = (k + n) % len(proxies)
				c := imaptest.Dial(t, proxies[k].Plain)
				begun := time.Now()
				c.Login(servers.User(1+n%servers.Users), servers.Password)
				times[k] = append(times[k], time.Since(begun))
				c.MustOK("LOGOUT")
				_ = c.Conn.Close()
			}
		}
		for k := range times {
			slices.Sort(times[k])
		}
		median := func(k int) time.Duration { return times[k][len(times[k])/2] }
		off, on = append(off, median(0)), append(on, median(2))
		same, with = append(same, float64(median(1))/float64(median(0))), append(with, float64(median(2))/float64(median(0)))
	}
	slices.Sort(off)
	slices.Sort(on)
	t.Logf("login p50: %v without the block, %v with it: %s ×; two without it: %s ×", off[len(off)/2], on[len(on)/2], interval(with), interval(same))
}

// interval is the median of samples, and its 95 % interval by bootstrap.
func interval(samples []float64) string {
	rng := rand.New(rand.NewPCG(1, 1))
	median := func(all []float64) float64 {
		slices.Sort(all)
		return all[len(all)/2]
	}
	drawn := make([]float64, 2000)
	for i := range drawn {
		again := make([]float64, len(samples))
		for k := range again {
			again[k] = samples[rng.IntN(len(samples))]
		}
		drawn[i] = median(again)
	}
	slices.Sort(drawn)
	return fmt.Sprintf("%.3f [%.3f..%.3f], %d rounds", median(slices.Clone(samples)), drawn[len(drawn)/40], drawn[len(drawn)*39/40], len(samples))
}

// A drain of a backend with FIGURE_PARKED parked and FIGURE_ATTACHED attached sessions, of 200 users, by two
// proxies: the time, the waits of the attached clients' commands, and who is disconnected.
func TestFigureDrain(t *testing.T) {
	k := startAgreeingParked(t, 2, 2, "1s", "  move_rate = 1000\n")
	var users []string
	for i := 1; len(users) < 100 && i <= servers.Users; i++ {
		c := login(t, k.proxies[0], servers.User(i))
		if k.backendOf(servers.User(i)) == "d1" {
			users = append(users, servers.User(i))
		}
		c.MustOK("LOGOUT")
		_ = c.Conn.Close()
	}
	for i := range figure("FIGURE_PARKED", 2000) {
		login(t, k.proxies[i%2], users[i%len(users)]).Idle()
	}
	var (
		stop    = make(chan struct{})
		running sync.WaitGroup
		mu      sync.Mutex
		waits   []time.Duration
		lost    int
	)
	for i := range figure("FIGURE_ATTACHED", 200) {
		c := login(t, k.proxies[i%2], users[i%len(users)])
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(500 * time.Millisecond):
				}
				begun := time.Now()
				a := c.Cmd("NOOP")
				mu.Lock()
				if waits = append(waits, time.Since(begun)); !a.OK() {
					lost++
				}
				mu.Unlock()
			}
		})
	}
	time.Sleep(5 * time.Second)
	before, _ := k.run(k.proxies[0], "backends", "--cluster")
	t.Logf("before:\n%s", before)
	mu.Lock()
	waits = nil
	mu.Unlock()
	logins := k.allConnections()
	begun := time.Now()
	out := k.must(k.proxies[1], "drain", "d1", "--watch")
	took := time.Since(begun)
	logins = k.allConnections() - logins
	close(stop)
	running.Wait()
	slices.Sort(waits)
	t.Logf("%s", out[max(0, strings.LastIndex(strings.TrimSpace(out), "\n")):])
	t.Logf("drained in %v; %.0f logins a second at the other backend; %d commands, p99 %v, longest %v; %d failed", took, float64(logins)/took.Seconds(), len(waits), waits[len(waits)*99/100], waits[len(waits)-1], lost)
}

// allConnections says how many connections all users have been given so far.
func (r *referee) allConnections() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, made := range r.made {
		for _, at := range made {
			n += at
		}
	}
	return n
}
