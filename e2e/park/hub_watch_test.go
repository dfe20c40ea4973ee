package park

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// A sleeper is a parked session.
type sleeper struct {
	t *testing.T

	mu      sync.Mutex // guards what follows
	f       *follower
	states  int
	lost    bool
	gone    error
	changed chan struct{} // closed and replaced at each change
}

func (s *sleeper) View() *view.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.f.view
}

func (s *sleeper) Apply(st *view.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states++
	if d, err := view.Compare(s.f.view, st); err != nil {
		s.t.Errorf("compare: %v", err)
	} else {
		for uid := range d.Vanished.All() {
			delete(s.f.flags, uid)
		}
		for _, c := range d.Changed {
			s.f.flags[c.UID] = c.Flags
		}
		s.f.view = s.f.view.After(d)
	}
	s.changedLocked()
}

func (s *sleeper) Gone(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = err
	s.changedLocked()
}

func (s *sleeper) Lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
	s.changedLocked()
}

func (s *sleeper) changedLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sleeper) until(what string, ok func() bool) {
	s.t.Helper()
	for late := time.After(patience); ; {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-late:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("%s: not after %v (%d states, lost %v, gone %v, %v)", what, patience, s.states, s.lost, s.gone, s.f.view.UIDs)
		}
	}
}

// learns waits until it knows which messages there are, and what was told of their
// flags is true. Of messages that are new a client isn't told the flags.
func (s *sleeper) learns(rows []row) {
	s.t.Helper()
	want := map[uint32]view.Flags{}
	for _, r := range rows {
		want[r.uid] = r.flags
	}
	s.until("the mailbox as it is", func() bool {
		if !s.f.view.UIDs.Equal(uidsOf(rows)) {
			return false
		}
		for uid, told := range s.f.flags {
			if !told.Equal(want[uid]) {
				return false
			}
		}
		return true
	})
}

func runHub(t *testing.T, o park.HubOptions) *park.Hub {
	t.Helper()
	h := park.NewHub(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with cancel below
		defer close(done)
		h.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return h
}

// account acts for a user, with the pool of the proxy's.
func (l *lab) account(t *testing.T, user string) park.Account {
	t.Helper()
	d, err := upstream.New(upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool := upstream.NewPool(upstream.PoolOptions{WarmFor: time.Minute})
	t.Cleanup(pool.Close)
	key := pool.Key(user, l.target(), auth(user), upstream.UseWatch, "")
	return park.Account{
		User: user, Backend: "b1", Caps: l.login(t, user).Caps,
		Login: func(ctx context.Context, _ *telemetry.Steps) (*upstream.Conn, error) {
			if c := pool.Take(key, upstream.Verified, netip.Addr{}); c != nil {
				return c, nil
			}
			return d.Login(ctx, l.target(), auth(user), upstream.Client{})
		},
		Give: func(c *upstream.Conn, _ []string) { pool.Give(key, c, upstream.Condition{}) },
	}
}

// park parks a session that knows the mailbox as it is.
func (l *lab) park(t *testing.T, h *park.Hub, a park.Account, mailbox string, rows []row) (*park.Subscription, *sleeper) {
	t.Helper()
	sub, err := h.Subscribe(within(t), a, mailbox)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	state, err := sub.Resync(within(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &sleeper{t: t, f: start(mailbox, state, rows), changed: make(chan struct{})}
	sub.Join(s)
	return sub, s
}

// watches are those that tell on this server. Courier's IDLE does after a minute.
func (l *lab) watches() []string {
	switch l.Kind {
	case "dovecot":
		return []string{"idle", "notify", "push"}
	case "courier":
		return []string{"push"}
	}
	return []string{"idle", "push"}
}

func TestParkedSessionsLearnWhatHappens(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		for _, mode := range l.watches() {
			t.Run(mode, func(t *testing.T) {
				user := l.user()
				a := l.account(t, user)
				name, wire := "Entwürfe", `"Entw&APw-rfe"`
				if l.modern {
					l.dial(t, user).MustOK("CREATE %s", wire)
				} else {
					name, wire = "INBOX", "INBOX"
				}
				h := runHub(t, park.HubOptions{Watch: mode, Push: mode == "push"})
				w := l.writer(t, user, wire)
				w.append(5)
				// Its own mailboxes are personal on all of these, NAMESPACE or not.
				a.Shared = func(string) bool { return false }
				sub, s1 := l.park(t, h, a, name, w.rows())
				_, s2 := l.park(t, h, a, name, w.rows())
				if sub.Watch() != mode {
					t.Fatalf("watched by %s", sub.Watch())
				}
				for range 25 {
					w.change()
					if mode == "push" {
						h.Hint(park.Hint{User: user, Mailbox: name, Source: park.HintCommand})
						if err := sub.Look(within(t)); err != nil {
							t.Fatal(err)
						}
					}
					rows := w.rows()
					s1.learns(rows)
					s2.learns(rows)
				}
				t.Logf("%d states for 25 changes; %+v", s1.states, h.Stats())
			})
		}
	})
}

// A Dovecot's NOTIFY is silent for ever once a log has rotated (340 appends): setting
// it anew shows what it didn't tell.
func TestNotifyOutlivesTheRotationOfALog(t *testing.T) {
	servers.Real(t)
	l := &lab{Server: servers.StartDovecot(t, servers.DovecotOptions{}), modern: true}
	user := l.user()
	a := l.account(t, user)
	h := runHub(t, park.HubOptions{Watch: "notify", NotifyRenewEvery: time.Second})
	w := l.writer(t, user, "INBOX")
	_, s := l.park(t, h, a, "INBOX", w.rows())
	for range 8 {
		w.append(50)
		s.learns(w.rows())
	}
	w.append(1)
	s.learns(w.rows())
	t.Logf("%+v", h.Stats())
}

// A Dovecot whose NOTIFY is replaced by another setting hears of nothing any more, but when it looks
// by itself every mailbox_idle_check_interval: here, never.
func TestNotifyHearsOnceItWasSetAnew(t *testing.T) {
	servers.Real(t)
	server := *servers.StartDovecot(t, servers.DovecotOptions{Extra: "mailbox_idle_check_interval = 1 hour\n"})
	l := &lab{Server: &server, modern: true}
	user := l.user()
	w := l.writer(t, user, "INBOX")
	overheard := overhear(t, server.Addr, "NOTIFY SET")
	server.Addr = overheard.addr
	h := runHub(t, park.HubOptions{Watch: "notify", NotifyRenewEvery: time.Hour})
	_, s := l.park(t, h, l.account(t, user), "INBOX", w.rows())
	for n := range 4 {
		overheard.until(n + 1)
		w.append(1)
		s.learns(w.rows())
	}
}

// What a real server does to a watch, and what the members hear of it.
func TestAMailboxThatIsDeletedUnderItsWatch(t *testing.T) {
	onRealServers(t, func(t *testing.T, l *lab) {
		for _, mode := range l.watches() {
			t.Run(mode, func(t *testing.T) {
				user := l.user()
				a := l.account(t, user)
				name := "N1"
				if !l.modern {
					name = "INBOX.N1"
				}
				w := l.dial(t, user)
				w.MustOK("CREATE %s", name)
				h := runHub(t, park.HubOptions{Watch: mode, Push: mode == "push", NotifyRenewEvery: time.Second})
				a.Shared = func(string) bool { return false }
				_, s := l.park(t, h, a, name, nil)
				w.MustOK("DELETE %s", name)
				if mode == "push" {
					h.Hint(park.Hint{User: user, Mailbox: name, Source: park.HintPush})
				}
				s.until("gone", func() bool { return s.gone != nil })
				if s.lost {
					t.Error("lost, too")
				}
			})
		}
	})
}

// Cut off and back again, nothing is missed.
func TestWatchesThatTheServerCuts(t *testing.T) {
	servers.Real(t)
	l := &lab{Server: servers.StartDovecot(t, servers.DovecotOptions{}), modern: true}
	user := l.user()
	w := l.writer(t, user, "INBOX")
	w.append(3)
	var all []*sleeper
	for _, mode := range []string{"idle", "notify"} {
		a := l.account(t, user)
		dial := a.Login
		var mu sync.Mutex
		conns := map[*upstream.Conn]bool{}
		a.Login = func(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, error) {
			c, err := dial(ctx, steps)
			if err == nil {
				mu.Lock()
				conns[c] = true
				mu.Unlock()
			}
			return c, err
		}
		h := runHub(t, park.HubOptions{Watch: mode, NotifyRenewEvery: time.Hour})
		_, s := l.park(t, h, a, "INBOX", w.rows())
		all = append(all, s)
		mu.Lock()
		open := slices.Collect(maps.Keys(conns))
		mu.Unlock()
		for _, c := range open {
			if c.Conn != nil {
				_ = c.Conn.CloseWrite() // the server ends it
			}
		}
		w.append(1)
		s.learns(w.rows())
		// It told before it stood again.
		tick := time.NewTicker(5 * time.Millisecond)
		for late := time.After(patience); h.Stats().Renewed != 1; {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("%s: %+v", mode, h.Stats())
			}
		}
		tick.Stop()
	}
	w.append(1)
	for _, s := range all {
		s.learns(w.rows())
	}
}
