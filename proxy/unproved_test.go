package proxy

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
)

// guesses is a backend that is slow to refuse wrong passwords: each is told on asked, and refused
// once answer is closed.
func guesses(n int) (d imaptest.Dialogue, asked, answer chan struct{}) {
	asked, answer = make(chan struct{}, n), make(chan struct{})
	d = polite()
	check := d.Check
	d.Check = func(c *imaptest.BackendConn, login imaptest.Login) string {
		if login.Password != password {
			asked <- struct{}{}
			<-answer
		}
		return check(c, login)
	}
	return d, asked, answer
}

// Guesses that a backend is slow to refuse leave it places for logins of other networks, and
// for those whose password needs no proof.
func TestGuessersDontTakeAllOfABackendsLogins(t *testing.T) {
	const places, guessers = 8, 40
	var now, most atomic.Int64
	d, asked, answer := guesses(guessers)
	check := d.Check
	d.Check = func(c *imaptest.BackendConn, login imaptest.Login) string {
		if login.Password != password {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
		}
		return check(c, login)
	}
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, limits: Limits{UnprovedLogins: places}})
	var all []*imaptest.Conn
	for i := range guessers {
		c, err := proxied(t, l, fmt.Sprintf("PROXY TCP4 192.0.2.%d 198.51.100.1 4711 143\r\n", i+1))
		must(t, err)
		must(t, c.Send("g LOGIN alice guess"))
		all = append(all, c)
	}
	for range places / unprovedPerNetwork {
		<-asked // as many of the network's as may be at the backend are there
	}
	l.login("alice").MustOK("NOOP") // from another network
	l.login("bob").MustOK("NOOP")
	close(answer)
	for range guessers - places/unprovedPerNetwork {
		<-asked
	}
	for _, c := range all {
		if r, err := c.Next(); err != nil || r.Code() != "AUTHENTICATIONFAILED" {
			t.Fatal(r, err)
		}
	}
	if n := most.Load(); n > places/unprovedPerNetwork {
		t.Errorf("%d guesses of one network were at the backend at a time", n)
	}
}

// Guessers of many networks don't have a client wait whose network is known.
func TestAKnownNetworkDoesntWaitForGuessersOfManyNetworks(t *testing.T) {
	const places, guessers = 2, 20
	d, asked, answer := guesses(guessers)
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, limits: Limits{UnprovedLogins: places}, change: func(o *Options) {
		o.Listeners[3].CleartextFrom = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	}})
	l.login("alice").MustOK("NOOP") // from here on the network is known
	for i := range guessers {
		c, err := proxied(t, l, fmt.Sprintf("PROXY TCP4 192.0.%d.2 198.51.100.1 4711 143\r\n", i))
		must(t, err)
		must(t, c.Send("g LOGIN alice guess"))
	}
	for range places {
		<-asked
	}
	l.login("bob").MustOK("NOOP")
	close(answer)
}
