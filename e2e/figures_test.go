//go:build figures

package e2e

import (
	"cmp"
	"fmt"
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

// A login's median time with the block cluster against without: FIGURE_LOGINS logins at each of two proxies
// before the same Dovecot, in turn.
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
	without, with := start(""), start(fmt.Sprintf("register {\n}\ncluster {\n  token_file = %q\n}\n", token))
	times := map[*runningProxy][]time.Duration{}
	for i := range figure("FIGURE_LOGINS", 2000) {
		for _, p := range []*runningProxy{without, with} {
			c := imaptest.Dial(t, p.Plain)
			begun := time.Now()
			c.Login(servers.User(1+i%servers.Users), servers.Password)
			times[p] = append(times[p], time.Since(begun))
			c.MustOK("LOGOUT")
			_ = c.Conn.Close()
		}
	}
	median := func(p *runningProxy) time.Duration {
		slices.Sort(times[p])
		return times[p][len(times[p])/2]
	}
	off, on := median(without), median(with)
	t.Logf("login p50: %v without the block, %v with it: %.3f ×", off, on, float64(on)/float64(off))
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
	begun := time.Now()
	out := k.must(k.proxies[1], "drain", "d1", "--watch")
	took := time.Since(begun)
	close(stop)
	running.Wait()
	slices.Sort(waits)
	t.Logf("%s", out[max(0, strings.LastIndex(strings.TrimSpace(out), "\n")):])
	t.Logf("drained in %v; %d commands, p99 %v, longest %v; %d failed", took, len(waits), waits[len(waits)*99/100], waits[len(waits)-1], lost)
}
