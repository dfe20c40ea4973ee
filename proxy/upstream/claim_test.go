package upstream

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"imapproxy/proxy/conn"
)

// claims is a Claims of a test.
type claims struct {
	mu       sync.Mutex
	asked    []string
	refuse   error
	released chan struct{} // one for each
	cut      func()
}

func (c *claims) Claim(_ context.Context, user, backend string, _ Use) (Claim, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, user+"@"+backend)
	if c.refuse != nil {
		return nil, c.refuse
	}
	return c, nil
}

func (c *claims) Release() { c.released <- struct{}{} }

func (c *claims) Ends(cut func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

// serveUntil serves a backend that answers a login of alice's, and keeps its side of the connection until held is closed.
func serveUntil(t *testing.T, held <-chan struct{}, answer string) *fakeBackend {
	t.Helper()
	return serve(t, func(c net.Conn) error {
		err := playScript(c, "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\n"+
			"C: p1 AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==\n"+
			"S: p1 "+answer, nil)
		<-held
		return err
	})
}

// A connection counts from before its dial until the backend has closed its side.
func TestAConnectionCountsUntilItsEndIsSeen(t *testing.T) {
	for name, end := range map[string]func(*Conn) error{"Close": (*Conn).Close, "Abort": (*Conn).Abort} {
		t.Run(name, func(t *testing.T) {
			held := make(chan struct{})
			b := serveUntil(t, held, "OK [CAPABILITY IMAP4rev1] Logged in")
			k := &claims{released: make(chan struct{}, 8)}
			d, err := New(Options{Claims: k})
			if err != nil {
				t.Fatal(err)
			}
			c, err := d.Login(t.Context(), Target{ID: "imap1", Address: b.addr, TLS: TLSNone}, alice, Client{})
			if err != nil {
				t.Fatal(err)
			}
			c = c.HandOver(d.tel, "session")
			if err := end(c); err != nil {
				t.Fatal(err)
			}
			_ = c.Close() // again
			select {
			case <-k.released:
				t.Fatal("it doesn't count any more, and the backend still has it")
			default:
			}
			close(held)
			<-k.released
			if len(k.asked) != 1 || k.asked[0] != "alice@imap1" {
				t.Errorf("asked for %q", k.asked)
			}
			if len(k.released) != 0 {
				t.Error("released twice")
			}
		})
	}
}

// Where the user is elsewhere, and where proxies can't agree, nothing is dialled.
func TestWithoutAClaimNothingIsDialled(t *testing.T) {
	b := serve(t, func(net.Conn) error { return nil })
	k := &claims{refuse: &Elsewhere{User: "alice", Backend: "imap2"}}
	d, err := New(Options{Claims: k})
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Login(t.Context(), Target{ID: "imap1", Address: b.addr, TLS: TLSNone}, alice, Client{})
	var elsewhere *Elsewhere
	if !errors.As(err, &elsewhere) || elsewhere.Backend != "imap2" || b.connections() != 0 {
		t.Errorf("%v; %d connections", err, b.connections())
	}
}

// A login that fails counts until the end of its connection is seen; one that was never dialled doesn't count at all.
func TestALoginThatFailsCountsUntilItsEnd(t *testing.T) {
	held := make(chan struct{})
	b := serveUntil(t, held, "NO [AUTHENTICATIONFAILED] no")
	k := &claims{released: make(chan struct{}, 8)}
	d, err := New(Options{Claims: k})
	if err != nil {
		t.Fatal(err)
	}
	var refused *Refused
	if _, err = d.Login(t.Context(), Target{ID: "imap1", Address: b.addr, TLS: TLSNone}, alice, Client{}); !errors.As(err, &refused) {
		t.Fatal(err)
	}
	select {
	case <-k.released:
		t.Fatal("the backend still has the connection")
	default:
	}
	close(held)
	<-k.released
	if _, err = d.Login(t.Context(), Target{ID: "imap1", Address: "127.0.0.1", TLS: TLSNone}, alice, Client{}); err == nil {
		t.Fatal("an address without a port")
	}
	<-k.released
}

// A backend that is known to be lost isn't waited for.
func TestAnEndThatNeverComesIsCut(t *testing.T) {
	held := make(chan struct{})
	b := serveUntil(t, held, "OK [CAPABILITY IMAP4rev1] Logged in")
	defer close(held)
	k := &claims{released: make(chan struct{}, 8)}
	d, err := New(Options{Claims: k})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Login(t.Context(), Target{ID: "imap1", Address: b.addr, TLS: TLSNone}, alice, Client{})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Abort()
	k.mu.Lock()
	cut := k.cut
	k.mu.Unlock()
	cut()
	<-k.released
}

// A proxy that was stopped may have lost its connections: nothing is sent on one until it knows.
func TestNothingIsSentOnAConnectionThatMayBeLost(t *testing.T) {
	held := make(chan struct{})
	b := serveUntil(t, held, "OK [CAPABILITY IMAP4rev1] in")
	var overdue atomic.Bool
	k := &claims{released: make(chan struct{}, 1)}
	d, err := New(Options{Claims: k, Overdue: overdue.Load})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Login(t.Context(), Target{ID: "imap1", Address: b.addr, TLS: TLSNone}, alice, Client{})
	if err != nil {
		t.Fatal(err)
	}
	overdue.Store(true)
	if _, err := c.Write([]byte("x NOOP\r\n")); !errors.Is(err, conn.ErrGuarded) {
		t.Errorf("it is sent: %v", err)
	}
	overdue.Store(false)
	if _, err := c.Write([]byte("x NOOP\r\n")); err != nil {
		t.Error(err)
	}
	c = c.HandOver(d.tel, "session")
	_ = c.Abort()
	close(held)
	<-k.released
}
