package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
)

// Silent connections of one address don't keep out a client that logs in, nor one of another
// network that takes its time.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	l := newLab(t, labOptions{limits: session.Limits{Connections: 2, Prelogin: 8}})
	slow, err := proxied(t, l, "PROXY TCP4 192.0.2.7 198.51.100.2 4711 143\r\n")
	must(t, err)
	var silent []net.Conn
	for i := range 40 {
		silent = append(silent, l.raw([]string{plain, startTLS, implicit}[i%3]))
	}
	eventually(t, "the silent ones to have come", func() bool { // 41 clients, 8 places
		return l.metric("imapproxy_connections_refused_total", `reason="prelogin"`) == 33
	})
	alice := l.login("alice")
	if _, r, err := slow.Command("a1", "LOGIN alice "+password); err != nil || r.Status() != "OK" {
		t.Fatal("the slow client of another network:", r, err)
	}
	alice.MustOK("NOOP")
	eventually(t, "the bound", func() bool { return l.srv.env.Places.Count() <= 8 })
	// Who was sent away has heard why, where that could be said.
	said, err := io.ReadAll(silent[0])
	must(t, err)
	if !strings.Contains(string(said), "* BYE [LIMIT]") {
		t.Errorf("the oldest silent connection was told %q", said)
	}
	for _, c := range silent {
		_ = c.Close()
	}
	if n := l.metric("imapproxy_connections_refused_total", `reason="prelogin"`); n < 30 {
		t.Errorf("%v are counted: %s", n, grep(l.metrics(), "refused"))
	}
}

// Silent connections don't end a login of their own network while its password is looked at.
func TestSilentConnectionsEndNoLoginThatIsUnderWay(t *testing.T) {
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	d := polite()
	check := d.Check
	d.Check = func(c *imaptest.BackendConn, login imaptest.Login) string {
		asked <- struct{}{}
		<-answer
		return check(c, login)
	}
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, limits: session.Limits{Prelogin: 4}})
	c := l.dial(plain)
	c.Write("a1 LOGIN alice " + password)
	<-asked
	for range 8 {
		_ = l.raw(plain)
	}
	eventually(t, "the silent ones to have come", func() bool { // 9 clients, 4 places
		return l.metric("imapproxy_connections_refused_total", `reason="prelogin"`) == 5
	})
	close(answer)
	c.Expect("a1 OK{*}")
	c.MustOK("NOOP")
}

// Silent connections of many networks take no place of a client from whose network a user has
// logged in.
func TestSilentConnectionsOfManyNetworksLeaveAKnownNetworkItsPlaces(t *testing.T) {
	l := newLab(t, labOptions{limits: session.Limits{Prelogin: 8}})
	l.login("alice").MustOK("NOOP")
	slow := l.dial(plain) // of the same network, before all others
	for i := range 20 {
		c, err := proxied(t, l, fmt.Sprintf("PROXY TCP4 192.0.%d.2 198.51.100.1 4711 143\r\n", i))
		must(t, err)
		_ = c
	}
	slow.Login("bob", password)
	slow.MustOK("NOOP")
}

// A source is told whether a user has logged in from the client's network.
func TestASourceIsToldWhetherANetworkIsKnown(t *testing.T) {
	told := make(chan bool, 2)
	l := newLab(t, labOptions{change: func(o *Options) { o.Sources = []auth.Source{tellsKnown(told)} }})
	l.login("alice")
	l.login("bob")
	if first, second := <-told, <-told; first || !second {
		t.Errorf("known at the first login: %v, at the second: %v", first, second)
	}
}

// tellsKnown is a source that takes all passwords for right.
type tellsKnown chan bool

func (k tellsKnown) Name() string { return "known" }

func (k tellsKnown) Close() error { return nil }

func (k tellsKnown) Authenticate(_ context.Context, c auth.Credentials) auth.Verdict {
	k <- c.Known
	return auth.Accepted{}
}

// Guesses at a user's password don't use up the user's sessions.
func TestGuessesDontCountAsSessionsOfTheUser(t *testing.T) {
	const perUser = 3
	d, asked, answer := guesses(10)
	l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, limits: session.Limits{PerUser: perUser}})
	for range 2 * perUser {
		c := l.dial(plain)
		c.Write("g LOGIN alice guess")
	}
	for range 2 * perUser {
		<-asked // all of them are being checked at the backend
	}
	for range perUser {
		l.login("alice").MustOK("NOOP")
	}
	if c := l.dial(plain); c.TryLogin("alice", password).Tagged.Code() != "LIMIT" {
		t.Fatal("one session too many is let in")
	}
	close(answer)
}

// A client that finds no place is told so, under TLS too.
func TestWhoFindsNoPlaceIsTold(t *testing.T) {
	l := newLab(t, labOptions{limits: session.Limits{Connections: 1}})
	l.login("alice")
	if over := l.dial(plain); over.Greeting.Code() != "LIMIT" || over.Greeting.Status() != "BYE" {
		t.Fatal(over.Greeting)
	}
	c, err := tls.Dial("tcp", l.addr(implicit), l.cert.Client)
	must(t, err)
	defer c.Close()
	said, err := io.ReadAll(c)
	must(t, err)
	if !strings.HasPrefix(string(said), "* BYE [LIMIT]") {
		t.Fatalf("under TLS it is told %q", said)
	}
}

// Where sessions have taken most of the descriptors, silent connections keep no client out of what
// is left, and are told why they end.
func TestSilentConnectionsLeaveTheLastDescriptors(t *testing.T) {
	l := newLab(t, labOptions{limits: session.Limits{Descriptors: 12, Prelogin: 10}}) // 6 of them for clients and their backends
	l.login("alice").MustOK("NOOP")                                                   // two
	l.login("bob").MustOK("NOOP")                                                     // two more
	silent := []*imaptest.Client{l.dial(plain), l.dial(startTLS)}
	carol := l.login("carol")
	if said := silent[0].ExpectEOF(); len(said) != 1 || said[0].Status() != "BYE" || said[0].Code() != "LIMIT" {
		t.Errorf("the oldest silent connection was told %v", said)
	}
	carol.MustOK("NOOP")
	if c := l.dial(plain); c.Greeting.Code() != "LIMIT" {
		t.Error("there is a place for a seventh:", c.Greeting)
	}
	if n := l.metric("imapproxy_connections_refused_total", `reason="descriptors"`); n != 1 {
		t.Errorf("%v are counted: %s", n, grep(l.metrics(), "refused"))
	}
	// The log says it, with what to do.
	l.logs.wait(t, "short of a resource.* of=descriptors .* 12 files open.*LimitNOFILE=")
}

// A session gets no connection to a backend out of the descriptors that files and the admin address
// need. That is no failure of the backend's.
func TestTheLastDescriptorsAreNotForBackends(t *testing.T) {
	l := newLab(t, labOptions{})
	c, other, third := l.dial(plain), l.dial(plain), l.dial(plain)
	o := l.srv.set.Load().Options
	o.Limits.Descriptors = 3 // as many as there are clients
	must(t, l.srv.Reload(o))
	if r := c.TryLogin("alice", password).Tagged; r.Code() != "UNAVAILABLE" {
		t.Fatal("without a descriptor to spare:", r)
	}
	if b := l.backend("b1"); b.Failures != 0 {
		t.Errorf("the backend is blamed: %+v", b)
	}
	if n := l.backends[0].Accepted(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	must(t, other.Close())
	must(t, third.Close())
	eventually(t, "the others to be gone", func() bool { return l.srv.reg.Total() == 1 })
	if r := c.TryLogin("alice", password).Tagged; r.Status() != "OK" {
		t.Fatal("with one:", r)
	}
}
