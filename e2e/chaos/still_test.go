package chaos

import (
	"sync"
	"testing"
	"time"
)

// A machine that runs tests may be held for seconds, with all that runs on it: Consul then has no leader, and proxies that can't know for
// how long they were held give their connections up, as they have to. What clients see of that is no fault of the proxies'.

// heldFrom is the shortest time that counts: it is that of an election in Consul.
const heldFrom = 2 * time.Second

// watchStill notes when the machine was held, as faults at these proxies with this session_ttl, until stop is called.
func watchStill(proxies []string, ttl time.Duration, last time.Time, tick <-chan time.Time) (stop func() []fault) {
	done := make(chan struct{})
	var g sync.WaitGroup
	var found []fault
	g.Go(func() {
		for {
			select {
			case <-done:
				return
			case t := <-tick:
				if t.Sub(last) >= heldFrom {
					found = append(found, fault{name: "the machine stood still", from: last, to: t.Add(ttl), proxies: proxies, waits: true})
				}
				last = t
			}
		}
	})
	return func() []fault { close(done); g.Wait(); return found }
}

func TestAMachineThatStandsStillIsNoticed(t *testing.T) {
	at := time.Unix(100, 0)
	tick := make(chan time.Time)
	stop := watchStill([]string{"p1"}, shortTTL, at, tick)
	for _, d := range []time.Duration{0, 100 * time.Millisecond, time.Second, 7 * time.Second, 100 * time.Millisecond} {
		at = at.Add(d)
		tick <- at
	}
	found := stop()
	if len(found) != 1 || found[0].from != time.Unix(101, 1e8) || found[0].to != time.Unix(108, 1e8).Add(shortTTL) {
		t.Errorf("%v", found)
	}
}
