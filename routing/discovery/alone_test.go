package discovery

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"imapproxy/internal/imaptest/consultest"
)

func proxyMeta(instance string) map[string]string {
	return map[string]string{"kind": "imapproxy", "instance": instance}
}

// Before it serves, a proxy finds out whether another one is alive. An earlier process of its own is none, also where
// that was killed and its entry is there; one under the same ID on another machine is.
func TestAnotherLivingProxyIsFound(t *testing.T) {
	a := consultest.Start(t)
	o := RegisterOptions{Consul: ConsulOptions{Address: a.Address()}, ID: "p1", Port: 993}
	others := func(when, want string) {
		t.Helper()
		all, err := Alone(t.Context(), o)
		if got := strings.Join(all, ", "); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", when, got, err, want)
		}
		_, there := a.Get("/v1/agent/service/p1")
		if there != (want == "") {
			t.Errorf("%s: it has an entry: %v", when, there)
		}
	}
	others("alone", "")
	a.Register(consultest.Service{Name: "imapproxy", ID: "p1", Port: 993, Meta: proxyMeta("killed")})
	others("its own entry", "")
	a.Catalog(consultest.Node{Name: "n2", Address: "192.0.2.2"}, consultest.Service{Name: "imapproxy", ID: "p1", Port: 993, Meta: proxyMeta("another")})
	others("the same id on another machine", "p1 on n2")
	a.Register(consultest.Service{Name: "imapproxy", ID: "p2", Port: 994, Meta: proxyMeta("second"), Check: &consultest.Check{TTL: "30m", Status: "passing"}})
	others("another id", "p1 on n2, p2 on dev1")
	a.TTL("service:p2", "critical")
	a.Uncatalog("n2", "")
	others("its check fails", "")
	a.Kill()
	if _, err := Alone(t.Context(), o); err == nil {
		t.Error("without an agent nobody knows")
	}
}

// Of proxies that start at the same instant one at most serves, also where all have entries of earlier
// processes. One that has given up, or has died, doesn't keep the next one from serving.
func TestOfProxiesThatStartAtOnceOneServes(t *testing.T) {
	a := consultest.Start(t)
	const n = 8
	options := func(i, round int) RegisterOptions {
		return RegisterOptions{
			Consul: ConsulOptions{Address: a.Address()}, ID: fmt.Sprint("p", i), Port: 1000 + i, Instance: fmt.Sprintf("p%d.%d", i, round),
		}
	}
	for round := range 6 {
		var (
			wait   sync.WaitGroup
			mu     sync.Mutex
			serves []int
			begin  = make(chan struct{})
		)
		for i := range n {
			wait.Go(func() {
				<-begin
				others, err := Alone(t.Context(), options(i, round))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil && len(others) == 0 {
					serves = append(serves, i)
				}
			})
		}
		close(begin)
		wait.Wait()
		switch {
		case len(serves) > 1:
			t.Fatalf("round %d: proxies %v serve", round, serves)
		case len(serves) == 0:
			t.Fatalf("round %d: no proxy serves", round)
		}
		first := serves[0]
		if round%2 == 0 {
			Withdraw(t.Context(), options(first, round)) // its listeners' ports are taken
			continue
		}
		log, stop := registering(t, a, func(o *RegisterOptions) {
			mine := options(first, round)
			o.ID, o.Port, o.Instance, o.Interval = mine.ID, mine.Port, mine.Instance, mine.Interval // of some seconds: on a busy machine a short check lapses
		})
		log.wait(t, "registered in consul")
		if others, err := Alone(t.Context(), options((first+1)%n, round+100)); err != nil || len(others) != 1 {
			t.Errorf("beside one that serves, another one finds %q, %v", others, err)
		}
		stop()
		for i := range n { // they were killed, and start again
			a.Register(consultest.Service{Name: "imapproxy", ID: fmt.Sprint("p", i), Port: 1000 + i, Meta: proxyMeta("killed"),
				Check: &consultest.Check{TTL: "30m", Status: "critical"}})
		}
	}
}
