package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/routing"
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
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, limits: session.Limits{UnprovedLogins: places}})
	var all []*imaptest.Conn
	for i := range guessers {
		c, err := proxied(t, l, fmt.Sprintf("PROXY TCP4 192.0.2.%d 198.51.100.1 4711 143\r\n", i+1))
		must(t, err)
		must(t, c.Send("g LOGIN alice guess"))
		all = append(all, c)
	}
	for range places / networkShare {
		<-asked // as many of the network's as may be at the backend are there
	}
	l.login("alice").MustOK("NOOP") // from another network
	l.login("bob").MustOK("NOOP")
	close(answer)
	for range guessers - places/networkShare {
		<-asked
	}
	for _, c := range all {
		if r, err := c.Next(); err != nil || r.Code() != "AUTHENTICATIONFAILED" {
			t.Fatal(r, err)
		}
	}
	if n := most.Load(); n > places/networkShare {
		t.Errorf("%d guesses of one network were at the backend at a time", n)
	}
}

// Guessers of many networks don't have a client wait whose network is known.
func TestAKnownNetworkDoesntWaitForGuessersOfManyNetworks(t *testing.T) {
	const places, guessers = 2, 20
	d, asked, answer := guesses(guessers)
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, limits: session.Limits{UnprovedLogins: places}, change: func(o *Options) {
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

// Where Consul says whose mail is where it is asked for each guess, too. Those of one network have
// a user of another wait for one answer.
func TestGuessersDontTakeAllQuestionsForPlacements(t *testing.T) {
	t.Parallel()
	const guessers = mostPlacements + 8
	asked, answer := make(chan string), make(chan struct{})
	l := newLab(t, labOptions{storage: routing.Separate, change: func(o *Options) {
		o.Placement = func(ctx context.Context, user string) (string, bool, error) {
			select {
			case asked <- user:
				<-answer
			case <-ctx.Done():
			}
			return "b1", true, nil
		}
	}})
	for i := range guessers {
		c, err := proxied(t, l, fmt.Sprintf("PROXY TCP4 192.0.2.%d 198.51.100.1 4711 143\r\n", i+1))
		must(t, err)
		must(t, c.Send("g LOGIN mallory guess"))
	}
	for range mostPlacements {
		<-asked
	}
	waiting := func(n int) {
		t.Helper()
		eventually(t, "those that wait", func() bool { _, w := l.srv.env.Places.Placing.Stats(); return w == n })
	}
	waiting(guessers - mostPlacements)
	c := l.dial(plain)
	c.Write("a1 LOGIN alice " + password)
	waiting(guessers - mostPlacements + 1)
	answer <- struct{}{}
	answer <- struct{}{}
	if first, second := <-asked, <-asked; first != "alice" && second != "alice" {
		t.Error("a user of another network waits for more than one of them")
	}
	close(answer)
	c.Expect("a1 OK{*}")
	for range guessers - mostPlacements - 1 {
		<-asked
	}
}

// A user's backend can't be reached for a moment, and an attacker guesses their password: the guess is
// tried elsewhere, and the user's parked session stays. The user's own login moves them.
func TestAGuessEndsNoParkedSession(t *testing.T) {
	t.Parallel()
	p := newScripted(t, scriptedCaps, 3)
	parked := p.idle("SELECT INBOX")
	other := imaptest.NewBackend(t, polite().Serve)
	p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{
		{ID: "b1", Address: p.backends[0].Addr, Weight: 100}, {ID: "b2", Address: other.Addr, Weight: 100},
	}})
	p.backends[0].StopListening()
	for range 3 {
		c := p.dial(plain)
		c.Write("a1 LOGIN alice guess")
		c.Expect("a1 NO [AUTHENTICATIONFAILED]{*}")
		must(t, c.Conn.Close())
		p.srv.Sweep()
	}
	if n := other.Accepted(); n < 3 {
		t.Fatalf("%d guesses came to the other backend", n)
	}
	if pins := p.router.Pins("alice"); len(pins) != 1 || pins[0].Backend != "b1" {
		t.Errorf("a guess has moved the user: %+v", pins)
	}
	done(parked) // it still is
	c := p.login("alice")
	parked.Write("x UID FETCH 1:* (FLAGS)") // there, where it would have to go on, the backend can do less
	parked.Expect("* BYE [UNAVAILABLE] The mail server can do less{*}")
	parked.ExpectEOF()
	c.MustOK("NOOP")
}
