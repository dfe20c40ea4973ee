package guessing

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestANetworkHasSoManyHandshakesWithoutALogin(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	rules := HandshakeRules{PerMinute: 60, Trusted: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
	var h Handshakes
	n := 0
	// let counts how many of so many handshakes are let in, each from another address of a network.
	let := func(pattern string, known bool, many int) (in int, told int) {
		for range many {
			n++
			_, ok, said := h.Begin(now, rules, netip.MustParseAddr(fmt.Sprintf(pattern, n%200+1)), known)
			if ok {
				in++
			}
			if said {
				told++
			}
		}
		return in, told
	}
	expect := func(what string, in, told, wantIn, wantTold int) {
		t.Helper()
		if in != wantIn || told != wantTold {
			t.Errorf("%s: %d are let in and %d told of, not %d and %d", what, in, told, wantIn, wantTold)
		}
	}
	in, told := let("192.0.2.%d", false, 100)
	expect("a network", in, told, 60, 1)
	in, told = let("::ffff:192.0.2.%d", false, 10)
	expect("the same by way of IPv6", in, told, 0, 0)
	in, told = let("203.0.113.%d", false, 60)
	expect("another network", in, told, 60, 0)
	in, told = let("2001:db8:1:2::%d", false, 70)
	expect("an IPv6 network", in, told, 60, 1)
	in, told = let("2001:db8:1:3::%d", false, 1)
	expect("the same /48", in, told, 0, 0)
	in, told = let("198.51.100.%d", false, 1000)
	expect("a trusted network", in, told, 1000, 0)
	in, told = let("192.0.3.%d", true, 700)
	expect("a known network", in, told, 600, 1)
	now = now.Add(10 * time.Second)
	in, told = let("192.0.2.%d", false, 20)
	expect("10 s later", in, told, 10, 0)
	now = now.Add(time.Minute)
	in, told = let("192.0.2.%d", false, 100)
	expect("a minute later", in, told, 60, 1)
	rules.PerMinute = 0
	in, told = let("192.0.2.%d", false, 100)
	expect("without a bound", in, told, 100, 0)
}

// A login takes its handshake back, so that the users of a network never have too many.
func TestAHandshakeThatALoginFollowsDoesNotCount(t *testing.T) {
	now, rules, client := time.Unix(1_700_000_000, 0), HandshakeRules{PerMinute: 10}, netip.MustParseAddr("192.0.2.7")
	var h Handshakes
	for i := range 1000 {
		one, ok, _ := h.Begin(now, rules, client, false)
		if !ok {
			t.Fatalf("the handshake of login %d is refused", i)
		}
		one.LoggedIn()
	}
	(*Handshake)(nil).LoggedIn() // one that wasn't counted
	one, _, _ := h.Begin(now, rules, client, false)
	for n := range maxBuckets + 10 {
		h.Begin(now, rules, netip.AddrFrom4([4]byte{byte(n>>16) + 11, byte(n >> 8), byte(n), 1}), false)
	}
	if n := h.of.Len(); n != maxBuckets {
		t.Errorf("%d networks are remembered", n)
	}
	one.LoggedIn() // of a network that is forgotten
}
