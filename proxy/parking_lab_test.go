package proxy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// A parkLab is a lab that parks idle sessions, before an IMAP server that is right, with a tap in
// between. The server's changes are hints, so that nothing is watched: all its connections are
// sessions' or a resync's.
type parkLab struct {
	*lab
	*imaptest.Tap
	server *imaptest.ModelServer
	hub    *park.Hub
	pool   *upstream.Pool
	users  atomic.Int32
}

// parks makes a pool, and runs it and the hub until after the server's end.
func (l *parkLab) parks(t *testing.T) {
	l.pool = upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.hub.Run(ctx) })
	running.Go(func() { l.pool.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
}

func newParkLab(t *testing.T, o session.ParkOptions, change func(*Options)) *parkLab {
	t.Helper()
	l := &parkLab{}
	l.hub = park.NewHub(park.HubOptions{Watch: "push", Push: true, SweepEvery: time.Hour})
	l.parks(t)
	l.server = imaptest.NewModelServer(t, imaptest.ModelServerOptions{QResync: true, Changed: func(user, mailbox string) {
		l.hub.Hint(park.Hint{User: user, Mailbox: mailbox, Source: park.HintPush})
	}})
	l.Tap = imaptest.NewTap(t, l.server.Addr)
	o.Hub, o.Pool, o.Linger = l.hub, l.pool, time.Nanosecond
	l.lab = newLab(t, labOptions{
		handlers: []imaptest.Handler{}, rows: []routing.Backend{{ID: "b1", Address: l.Tap.Addr, Weight: 100}},
		change: func(all *Options) {
			all.Park = o
			if change != nil {
				change(all)
			}
		},
	})
	return l
}

// user makes a user with an INBOX of n messages, and the client that changes it
// directly at the server.
func (l *parkLab) user(n int) (name string, d *imaptest.ModelWriter) {
	l.t.Helper()
	name = fmt.Sprintf("user%d", l.users.Add(1))
	c := imaptest.Dial(l.t, l.server.Addr)
	c.Login(name, password)
	c.MustOK("CREATE INBOX")
	return name, imaptest.NewModelWriter(c, "INBOX", n)
}

// watch is a client of the proxy's that has INBOX selected.
func (l *parkLab) watch(user string, truth *imaptest.ModelMailbox) *imaptest.ModelWatcher {
	l.t.Helper()
	w := imaptest.NewModelWatcher(l.login(user), imaptest.ModelPlain, truth)
	w.MustOK("SELECT INBOX")
	return w
}

// of is a client's session, nil when it is gone.
func (l *parkLab) of(c *imaptest.ModelWatcher) (found *session.Session) {
	me := c.LocalAddr().String()
	l.srv.reg.Each(func(s *session.Session) {
		if s.Client().String() == me {
			found = s
		}
	})
	return found
}

// sweepUntil lets the sweep work until a session is attached, parked … It says
// false when the session has ended instead.
func (l *parkLab) sweepUntil(w *imaptest.ModelWatcher, want session.Attachment) bool {
	l.t.Helper()
	ended := false
	eventually(l.t, "the session to be "+want.String(), func() bool {
		l.srv.Sweep()
		s := l.of(w)
		if s == nil || s.Reason() != "" {
			ended = true
			return true
		}
		return s.Attachment() == want
	})
	return !ended
}

// parked waits until it is.
func (l *parkLab) parked(w *imaptest.ModelWatcher) *session.Session {
	l.t.Helper()
	if !l.sweepUntil(w, session.Parked) {
		l.t.Fatal("the session has ended")
	}
	return l.of(w)
}

// gone waits until a client's session is.
func (l *parkLab) gone(w *imaptest.ModelWatcher) {
	l.t.Helper()
	eventually(l.t, "the session's end", func() bool { return l.of(w) == nil })
}

// happens waits for an event.
func (l *parkLab) happens(event <-chan struct{}, what string) {
	l.t.Helper()
	select {
	case <-event:
	case <-time.After(imaptest.DefaultTimeout):
		l.t.Fatalf("waited for %s", what)
	}
}

// moment is when something is to happen: before the nth line that goes by from now on,
// either way. Those of a login, and of connections that are in IDLE, count as any.
type moment struct {
	n       int
	do      func(c *imaptest.Tapped)
	passing func(line string)
	ready   chan struct{} // closed when the test itself is done with its clients

	mu   sync.Mutex // guards what follows; held while it happens
	seen int
	line string // before which it happened
	over bool
}

// at has something happen before the nth line from now on; no line goes by before
// ready is closed. passing, which may be nil, is shown each line before.
func (l *parkLab) at(n int, passing func(line string), do func(c *imaptest.Tapped)) *moment {
	m := &moment{n: n, do: do, passing: passing, ready: make(chan struct{})}
	before := func(way string) imaptest.TapFunc {
		return func(c *imaptest.Tapped, line string) bool {
			<-m.ready
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.passing != nil {
				m.passing(line)
			}
			if m.seen++; m.seen == m.n && !m.over {
				if strings.Contains(line, "AUTHENTICATE") {
					line = "AUTHENTICATE"
				}
				m.line = way + line
				m.do(c)
			}
			return true
		}
	}
	l.OnUp(before("C: "))
	l.OnDown(before("S: "))
	return m
}

// happened says before which line it did, "" when it hasn't.
func (m *moment) happened() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.line
}

// stop says so for good: if it hasn't happened, it won't.
func (m *moment) stop() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	return m.line
}

// parkHint says that something happened in a user's mailboxes.
func parkHint(user string) park.Hint { return park.Hint{User: user, Source: park.HintPush} }
