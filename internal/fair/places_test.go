package fair

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestTheBusiestNetworkGivesUpItsOldestPlace(t *testing.T) {
	p := NewPlaces()
	var gone []string
	held := map[string]*Place{}
	take := func(name, addr string) {
		own, _ := p.Take(netip.MustParseAddr(addr), false, 4, func() { gone = append(gone, name) })
		held[name] = own
	}
	take("customer", "203.0.113.9")
	take("silent1", "198.51.100.1")
	take("silent2", "198.51.100.2")
	take("other", "192.0.2.1")
	take("silent3", "198.51.100.3")
	take("silent4", "198.51.100.4")
	if got := strings.Join(gone, " "); got != "silent1 silent2" {
		t.Fatalf("gone: %s", got)
	}
	p.Leave(held["silent3"])
	p.Leave(held["silent3"])
	p.Leave(held["silent1"]) // evicted before
	take("late", "192.0.2.200")
	take("later", "203.0.113.200")
	// Now the networks have one, two and two: of the two busiest, the one whose oldest came first.
	if got := strings.Join(gone, " "); got != "silent1 silent2 customer" {
		t.Fatalf("gone: %s", got)
	}
	for _, own := range held {
		p.Leave(own)
	}
	if p.Count() != 0 || len(p.networks) != 0 || len(p.others.busiest)+len(p.known.busiest) != 0 {
		t.Fatalf("%d places, %d networks, %d in the heap are left", p.Count(), len(p.networks), len(p.others.busiest)+len(p.known.busiest))
	}
}

// Clients of many unknown networks take no place of known networks while these have at most half of the
// places, and known networks take no more than that from the others.
func TestKnownNetworksAndOthersLeaveEachOtherHalfOfThePlaces(t *testing.T) {
	p := NewPlaces()
	var gone []string
	take := func(name, addr string, known bool) *Place {
		own, _ := p.Take(netip.MustParseAddr(addr), known, 4, func() { gone = append(gone, name) })
		return own
	}
	first := take("user1", "192.0.2.1", true)
	last := take("user2", "192.0.2.2", true)
	take("s1", "198.51.100.1", false)
	take("s2", "198.51.101.1", false)
	take("s3", "198.51.102.1", false)
	take("s4", "198.51.103.1", false)
	take("user3", "192.0.2.3", true)
	take("other user", "203.0.113.9", true)
	if got := strings.Join(gone, " "); got != "s1 s2 user1 user2" {
		t.Errorf("gone: %s", got)
	}
	p.Leave(first)
	p.Leave(last)
	take("s4 after a login", "198.51.103.2", true) // the network is known from here on
	if got := strings.Join(gone, " "); got != "s1 s2 user1 user2 s4" {
		t.Errorf("gone: %s", got)
	}
	if n := p.Count(); n != 4 || p.known.taken != 3 || p.others.taken != 1 {
		t.Errorf("%d places, %d of known networks, %d of others", n, p.known.taken, p.others.taken)
	}
}

// A client whose password is being checked is evicted after the silent ones of its network.
func TestAClientAtWorkGoesLast(t *testing.T) {
	p := NewPlaces()
	var gone []string
	take := func(name string) *Place {
		own, _ := p.Take(netip.MustParseAddr("192.0.2.1"), false, 3, func() { gone = append(gone, name) })
		return own
	}
	a, b := take("a"), take("b")
	p.Works(b, true)
	p.Works(a, true)
	for _, name := range []string{"c", "d", "e"} {
		take(name)
	}
	p.Works(take("f"), true)
	p.Works(b, false)
	take("g") // only b isn't at work, of those that have been there before
	take("h")
	if got := strings.Join(gone, " "); got != "c d e b g" {
		t.Errorf("gone: %s", got)
	}
	p.Works(b, true) // it has gone
	if n := p.Count(); n != 3 {
		t.Errorf("%d places", n)
	}
	p.Works(take("i"), true)
	take("j") // all others are at work
	if got := strings.Join(gone, " "); got != "c d e b g h a" {
		t.Errorf("gone: %s", got)
	}
}

func TestPlacesKeepTheirBoundsWhateverComesAndGoes(t *testing.T) {
	const limit = 16
	r := rand.New(rand.NewPCG(1, 2))
	p := NewPlaces()
	type client struct {
		network int
		at      int
		own     *Place
	}
	here := map[int]*client{}
	for at := range 20000 {
		if r.IntN(3) == 0 && len(here) > 0 {
			for k, c := range here {
				p.Leave(c.own)
				delete(here, k)
				break
			}
			continue
		}
		network := r.IntN(1 + r.IntN(10))
		c := &client{network: network, at: at}
		here[at] = c
		addr := netip.AddrFrom4([4]byte{10, 0, byte(network), byte(r.IntN(256))})
		c.own, _ = p.Take(addr, false, limit, func() {})
		// The model: exactly the evicted one has no element any more.
		for k, o := range here {
			if o.own != nil && o.own.element == nil {
				counts := map[int]int{}
				for _, x := range here {
					counts[x.network]++
				}
				for n, count := range counts {
					if count > counts[o.network] {
						t.Fatalf("network %d with %d clients gave one up, though %d has %d", o.network, counts[o.network], n, count)
					}
				}
				for _, x := range here {
					if x.network == o.network && x.at < o.at {
						t.Fatal("an older client of the network stayed")
					}
				}
				delete(here, k)
			}
		}
		if p.Count() != len(here) || p.Count() > limit {
			t.Fatalf("%d places are taken, %d clients are here, %d is the limit", p.Count(), len(here), limit)
		}
	}
}
