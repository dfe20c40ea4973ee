package proxy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/park"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// A warmLab has a pool, and a backend that counts its logins.
type warmLab struct {
	*lab
	pool   *upstream.Pool
	logins atomic.Int32
	right  atomic.Pointer[string] // the password that the backend takes
	hangs  atomic.Bool            // NOOP isn't answered
	conns  atomic.Int32           // that the backend has
	most   atomic.Int32           // of them that it lets in; 0: any number
	full   atomic.Pointer[string] // what it says to the others
}

func newWarmLab(t *testing.T, o upstream.PoolOptions, change func(*Options)) *warmLab {
	t.Helper()
	l := &warmLab{}
	now := password
	l.right.Store(&now)
	hub := park.NewHub(park.HubOptions{Watch: "push", Push: true})
	l.pool = upstream.NewPool(o)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { hub.Run(ctx) })
	running.Go(func() { l.pool.Run(ctx) })
	t.Cleanup(func() { // after the server's end
		stop()
		running.Wait()
	})
	ok := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " OK done")
	}
	backend := imaptest.Dialogue{
		LoginCaps: "IMAP4rev1 IDLE UNSELECT ENABLE CONDSTORE LITERAL+",
		Check: func(_ *imaptest.BackendConn, login imaptest.Login) string {
			if login.Password != *l.right.Load() {
				return "NO [AUTHENTICATIONFAILED] wrong"
			}
			if most := l.most.Load(); most > 0 && l.conns.Load() > most {
				return *l.full.Load()
			}
			l.logins.Add(1)
			return ""
		},
		Commands: map[string]imaptest.CommandFunc{
			"UNSELECT": ok, "XODD": ok, "LIST": ok,
			"ENABLE": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				return c.Send("* ENABLED "+cmd.Args, cmd.Tag()+" OK done")
			},
			"NOOP": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				if l.hangs.Load() {
					return c.StallForever()
				}
				return ok(c, cmd)
			},
		},
	}
	serve := func(c *imaptest.BackendConn) error {
		l.conns.Add(1)
		defer l.conns.Add(-1)
		return backend.Serve(c)
	}
	l.lab = newLab(t, labOptions{handlers: []imaptest.Handler{serve}, change: func(all *Options) {
		all.Park = session.ParkOptions{Hub: hub, Pool: l.pool, Linger: time.Hour}
		if change != nil {
			change(all)
		}
	}})
	return l
}

var trusting = upstream.PoolOptions{WarmFor: time.Minute, AuthCacheFor: time.Minute}

// kept waits until the pool has n connections.
func (l *warmLab) kept(n int) {
	l.t.Helper()
	eventually(l.t, "the pool to have what a session left", func() bool { return l.pool.Len() == n })
}

// said are the names of the commands that the backend has read.
func (l *warmLab) said() string {
	var names []string
	for _, c := range l.backends[0].Commands() {
		names = append(names, c.Name)
	}
	return strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == "ID" || n == "CAPABILITY" }), " ")
}

func TestTheNextLoginFindsTheConnectionOfASessionThatEnded(t *testing.T) {
	for name, end := range map[string]struct {
		client func(c *imaptest.Client)
		said   string
	}{
		"LOGOUT": {func(c *imaptest.Client) {
			c.Write("z LOGOUT")
			c.Expect("* BYE Logging out")
			c.Expect("z OK Logout completed")
			c.ExpectEOF()
		}, "AUTHENTICATE SELECT UNSELECT"},
		"LOGOUT behind CLOSE": {func(c *imaptest.Client) {
			c.MustOK("UNSELECT")
			c.MustOK("LOGOUT")
		}, "AUTHENTICATE SELECT UNSELECT"},
		"close":         {func(c *imaptest.Client) { c.Close() }, "AUTHENTICATE SELECT UNSELECT"},
		"close in IDLE": {func(c *imaptest.Client) { c.Idle(); c.Close() }, "AUTHENTICATE SELECT IDLE  UNSELECT"},
	} {
		t.Run(name, func(t *testing.T) {
			imaptest.VerifyNoLeaks(t)
			l := newWarmLab(t, trusting, nil)
			c := l.login("alice")
			c.MustOK("SELECT INBOX")
			end.client(c)
			l.kept(1)
			if said := l.said(); said != end.said {
				t.Errorf("the backend has read %q", said)
			}
			again := l.login("alice")
			again.MustOK("SELECT INBOX")
			if n := l.logins.Load(); n != 1 {
				t.Errorf("%d logins at the backend", n)
			}
			// The connection is one session's at a time.
			l.login("alice").MustOK("NOOP")
			if n := l.logins.Load(); n != 2 {
				t.Errorf("%d logins at the backend for two sessions at a time", n)
			}
			again.MustOK("LOGOUT")
			l.stop()
		})
	}
}

func TestAWarmConnectionProvesNoPassword(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	l := newWarmLab(t, trusting, nil)
	l.login("alice").MustOK("LOGOUT")
	l.kept(1)
	c := l.dial(plain)
	if a := c.TryLogin("alice", "guessed"); a.OK() || l.pool.Len() != 1 {
		t.Errorf("a wrong password: %s, the pool has %d", a, l.pool.Len())
	}
	l.login("bob").MustOK("LOGOUT")
	l.kept(2)
	if n := l.logins.Load(); n != 2 {
		t.Errorf("%d logins: bob has alice's connection", n)
	}

	// The password is changed, and the old one still in the pool. Once it's refused for
	// whatever reason, the pool forgets it too.
	changed := "another"
	l.right.Store(&changed)
	l.login("alice").MustOK("NOOP")
	if a := l.dial(plain).TryLogin("alice", password); a.OK() {
		t.Errorf("the old password, with no connection in the pool: %s", a)
	}
	if a := l.dial(plain).TryLogin("alice", changed); !a.OK() {
		t.Errorf("the new password: %s", a)
	}
	l.stop()
}

func TestWithoutAuthCacheEveryLoginAsksTheBackend(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	l := newWarmLab(t, upstream.PoolOptions{WarmFor: time.Minute}, nil)
	l.login("alice").MustOK("LOGOUT")
	l.kept(1)
	changed := "another"
	l.right.Store(&changed)
	if a := l.dial(plain).TryLogin("alice", password); a.OK() {
		t.Errorf("a password that was changed: %s", a)
	}
	eventually(t, "the pool to forget what a refused password opened", func() bool { return l.pool.Len() == 0 })
	l.stop()
}

// knows is a source that knows all users' passwords.
type knows struct{}

func (knows) Name() string { return "knows" }
func (knows) Authenticate(_ context.Context, c auth.Credentials) auth.Verdict {
	if c.Password.Reveal() == password {
		return auth.Accepted{}
	}
	return auth.Rejected{Reason: auth.ReasonBadPassword}
}
func (knows) Close() error { return nil }

func TestAPasswordThatASourceKnowsNeedsNoBackend(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	l := newWarmLab(t, upstream.PoolOptions{WarmFor: time.Minute}, func(o *Options) { o.Sources = []auth.Source{knows{}} })
	l.login("alice").MustOK("LOGOUT")
	l.kept(1)
	l.login("alice").MustOK("NOOP")
	if n := l.logins.Load(); n != 1 {
		t.Errorf("%d logins at the backend", n)
	}
	l.stop()
}

func TestWhatASessionMayHaveLeftBehindIsNobodyElses(t *testing.T) {
	for name, leave := range map[string]func(c *imaptest.Client){
		"a command that isn't known": func(c *imaptest.Client) { c.MustOK("XODD") },
		"ENABLE":                     func(c *imaptest.Client) { c.MustOK("ENABLE CONDSTORE") },
		"SELECT (CONDSTORE)":         func(c *imaptest.Client) { c.MustOK("SELECT INBOX (CONDSTORE)") },
		"LIST RETURN (STATUS (HIGHESTMODSEQ))": func(c *imaptest.Client) {
			c.MustOK(`LIST "" * RETURN (STATUS (HIGHESTMODSEQ))`)
		},
		"SELECT (CONDSTORE) by a literal": func(c *imaptest.Client) {
			c.Write("l SELECT {5+}\r\nINBOX (CONDSTORE)")
			for line := ""; !strings.HasPrefix(line, "l OK "); {
				r, err := c.Conn.Next()
				must(t, err)
				line = r.Text
			}
		},
		"LOGOUT with an argument": func(c *imaptest.Client) { c.Cmd("LOGOUT now") },
	} {
		t.Run(name, func(t *testing.T) {
			imaptest.VerifyNoLeaks(t)
			l := newWarmLab(t, trusting, nil)
			c := l.login("alice")
			leave(c)
			c.Close()
			eventually(t, "the session's end", func() bool { return l.srv.reg.Total() == 0 })
			l.login("alice").MustOK("NOOP")
			if n := l.logins.Load(); n != 2 {
				t.Errorf("%d logins at the backend", n)
			}
			l.stop()
		})
	}
}

func TestAConnectionThatDiedInThePoolIsNoLogin(t *testing.T) {
	for name, die := range map[string]func(l *warmLab){
		"closed": func(l *warmLab) { l.backends[0].CloseConns() },
		"hung":   func(l *warmLab) { l.hangs.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			imaptest.VerifyNoLeaks(t)
			l := newWarmLab(t, trusting, nil)
			l.login("alice").MustOK("LOGOUT")
			l.kept(1)
			die(l)
			l.login("alice").MustOK("SELECT INBOX")
			if n := l.logins.Load(); n != 2 {
				t.Errorf("%d logins at the backend", n)
			}
			l.stop()
		})
	}
}

// What waits in the pool counts on the backend: it makes room for a login that can't use it.
func TestAWarmConnectionMakesRoomAtTheLimit(t *testing.T) {
	for version, no := range map[string]string{ // of Debian's Dovecot 2.3.19
		"deb12u7": "NO [LIMIT] Maximum number of connections from user+IP exceeded",
		"deb12u6": "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=1)",
	} {
		t.Run(version, func(t *testing.T) {
			imaptest.VerifyNoLeaks(t)
			l := newWarmLab(t, trusting, nil)
			l.full.Store(&no)
			l.most.Store(1)
			c := l.login("alice")
			c.MustOK("SELECT INBOX (CONDSTORE)")
			c.MustOK("LOGOUT")
			l.kept(1)
			again := l.login("alice")
			if a := l.dial(plain).TryLogin("alice", password); a.OK() {
				t.Errorf("a second session, where one is allowed: %s", a)
			}
			again.MustOK("LOGOUT")
			l.stop()
		})
	}
}
