package park

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// standing is a clock that only the test moves.
type standing struct {
	base  time.Time
	ahead atomic.Int64
}

func (s *standing) Now() time.Time { return s.base.Add(time.Duration(s.ahead.Load())) }

// unreachable makes an account whose backend can't be reached while gone is set. tried counts attempts.
func unreachable(b *fake, user string, gone *atomic.Bool) (a Account, tried *atomic.Int64) {
	tried = new(atomic.Int64)
	a = b.account()
	a.User, a.Give = user, nil
	login := a.Login
	a.Login = func(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, error) {
		defer tried.Add(1)
		if gone.Load() {
			return nil, errors.New("connection refused")
		}
		return login(ctx, steps)
	}
	return a, tried
}

// pauseOf returns how long the user's watch pauses from now on; 0: it doesn't.
func pauseOf(h *Hub, user string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.users[user].mailboxes[0].pausing; p != nil && p.place != 0 {
		return p.timer.at.Sub(h.moment())
	}
	return 0
}

// While a backend is away, its watches make pauses that have grown to seconds. A session that waits for hints cuts its
// watch's pause short, and a watch that reaches the backend cuts those of all others.
func TestAPauseIsCutShort(t *testing.T) {
	for _, kind := range []string{"idle", "notify"} {
		t.Run(kind, func(t *testing.T) {
			caps := modernCaps
			if kind == "notify" {
				caps += " NOTIFY"
			}
			b := newFake(t, caps)
			clock := &standing{base: time.Now()}
			h, c := newHub(t, HubOptions{Watch: kind, Now: clock.Now})
			pass := func(d time.Duration) { clock.ahead.Add(int64(d)); c.hub.timers.recheck() }
			var gone atomic.Bool
			first, firstTried := unreachable(b, "first", &gone)
			second, secondTried := unreachable(b, "second", &gone)
			s, _ := parked(t, h, b, first, "INBOX", view.Plain)
			parked(t, h, b, second, "INBOX", view.Plain)
			gone.Store(true)
			h.LetGo("")
			const long = 2 * time.Second
			eventually(t, "long pauses", func() bool {
				one, two := pauseOf(h, "first"), pauseOf(h, "second")
				if one > 0 && two > 0 && min(one, two) <= long {
					pass(min(one, two))
				}
				return min(one, two) > long
			})

			// One of the two is waited for: it tries again soon, the other doesn't.
			back := make(chan error, 1)
			go func() { back <- s.Again(within(t)) }() // ends with the receive below
			eventually(t, "the session waits", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				return h.users["first"].mailboxes[0].waiting == 1
			})
			before, other := firstTried.Load(), secondTried.Load()
			pass(2 * leastPause)
			eventually(t, "another attempt", func() bool { return firstTried.Load() > before && pauseOf(h, "first") > 0 })
			if n := secondTried.Load(); n != other {
				t.Errorf("a watch for which no session waits made %d attempts meanwhile", n-other)
			}

			// The backend is there again.
			gone.Store(false)
			pass(2 * leastPause)
			if err := <-back; err != nil {
				t.Fatal(err)
			}
			eventually(t, "the other watch", func() bool { return secondTried.Load() > other })
			eventually(t, "no pause is left", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				m := h.users["first"].mailboxes[0]
				return len(h.sites["b1"].pauses) == 0 && m.pausing == nil && m.waiting == 0
			})
		})
	}
}

// A watch that the backend refuses isn't asked for again because others succeed there.
func TestARefusedWatchIsntTriedAgainForOthers(t *testing.T) {
	b := newFake(t, modernCaps)
	clock := &standing{base: time.Now()}
	h, _ := newHub(t, HubOptions{Watch: "idle", Now: clock.Now})
	var refused atomic.Bool
	limited, tried := unreachable(b, "limited", &refused)
	login := limited.Login
	limited.Login = func(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, error) {
		c, err := login(ctx, steps)
		if err != nil {
			err = &upstream.Unavailable{Backend: "b1", Code: "LIMIT", Text: "too many connections"}
		}
		return c, err
	}
	parked(t, h, b, limited, "INBOX", view.Plain)
	refused.Store(true)
	h.LetGo("")
	eventually(t, "an attempt", func() bool { return tried.Load() > 1 })
	before := tried.Load()
	var gone atomic.Bool
	other, _ := unreachable(b, "other", &gone)
	parked(t, h, b, other, "INBOX", view.Plain)
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.sites["b1"].pauses); n != 0 {
		t.Errorf("%d pauses can be cut short", n)
	}
	if n := tried.Load() - before; n > 1 {
		t.Errorf("%d further attempts", n)
	}
}

// A parked client that asks what is new waits for its mailbox's watch no longer than a session that is being parked does.
func TestALookCutsAPauseShort(t *testing.T) {
	for _, kind := range []string{"idle", "notify"} {
		t.Run(kind, func(t *testing.T) {
			b := newFake(t, modernCaps+" NOTIFY")
			clock := &standing{base: time.Now()}
			h, c := newHub(t, HubOptions{Watch: kind, Now: clock.Now})
			pass := func(d time.Duration) { clock.ahead.Add(int64(d)); c.hub.timers.recheck() }
			var gone atomic.Bool
			a, _ := unreachable(b, "u", &gone)
			s, m := parked(t, h, b, a, "INBOX", view.Plain)
			gone.Store(true)
			h.LetGo("")
			const long = 2 * time.Second
			eventually(t, "a long pause", func() bool {
				p := pauseOf(h, "u")
				if p > 0 && p <= long {
					pass(p)
				}
				return p > long
			})
			gone.Store(false)
			b.deliver("INBOX")
			looked := make(chan error, 1)
			go func() { looked <- s.Poll(within(t)) }() // ends with the receive below
			eventually(t, "the session waits", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				return len(s.m.waiters) == 1
			})
			pass(2 * leastPause)
			if err := <-looked; err != nil {
				t.Fatal(err)
			}
			m.counts(4)
			eventually(t, "no session waits", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				return s.m.waiting == 0
			})
		})
	}
}

// A look fails, and its session is resumed. Nothing is tried until a session is parked there again, hours later, and then one look fails, too: that isn't
// a backend that has been away for all that time, nor a mailbox that is refused again.
func TestWhatFailedBeforeASessionCameSaysNothingOfNow(t *testing.T) {
	for _, k := range kinds {
		if k.watch == "idle" {
			continue // its watch tries again at once
		}
		for _, answer := range []string{"NO [UNAVAILABLE] not now", "NO not now"} {
			t.Run(k.name+", "+answer, func(t *testing.T) {
				b := newFake(t, k.caps)
				h, c := newHub(t, k.o)
				s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
				fails := func(meanwhile func()) { // one look, of a mailbox that is refused
					looks, failed, held := b.asked("EXAMINE"), h.Stats().Failed, make(chan struct{})
					b.change(func() { b.hold["EXAMINE"], b.refuse["EXAMINE"] = held, answer })
					h.Hint(Hint{User: "u", Mailbox: "INBOX", Source: HintPush})
					eventually(t, "a look", func() bool { return b.asked("EXAMINE") > looks })
					next := make(chan struct{})
					b.change(func() { b.hold["EXAMINE"] = next })
					meanwhile()
					close(held)
					eventually(t, "its failure", func() bool { return h.Stats().Failed > failed })
					b.change(func() { delete(b.refuse, "EXAMINE") })
					close(next)
				}
				fails(func() {
					s.Leave()
					m.leave()
				})
				c.pass(time.Hour)
				if err := s.Again(within(t)); err != nil {
					t.Fatal(err)
				}
				m = newMember(t, b, s, "INBOX", view.Plain)
				s.Join(m)
				b.deliver("INBOX")
				fails(func() {})
				m.until("told, lost or gone", func() bool { return m.client.Count() == 4 || m.lost > 0 || m.gone != nil })
				m.mu.Lock()
				defer m.mu.Unlock()
				if m.lost > 0 || m.gone != nil {
					t.Errorf("lost %d times, gone: %v", m.lost, m.gone)
				}
			})
		}
	}
}
