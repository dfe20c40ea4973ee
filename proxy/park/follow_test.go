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

// movable makes an account whose user can be at another backend, or be on the way.
func movable(b *fake) (a Account, at *atomic.Pointer[string], tries *atomic.Int64) {
	at, tries = new(atomic.Pointer[string]), new(atomic.Int64)
	first := "b1"
	at.Store(&first)
	a = b.account()
	login := a.Login
	a.Login = func(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, error) {
		where := *at.Load()
		tries.Add(1)
		if where == "" {
			return nil, &upstream.Elsewhere{User: "u"}
		}
		c, err := login(ctx, steps)
		if err == nil {
			c.Target.ID = where
		}
		return c, err
	}
	return a, at, tries
}

// sitesOf are the backends that the hub has mailboxes at.
func sitesOf(h *Hub) (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.sites {
		ids = append(ids, id)
	}
	return ids
}

// A watch whose user is let go of ends its connection, and follows the user to another backend. While the user is on the way nothing is given up,
// however long that takes, and what happens meanwhile is told.
func TestAWatchFollowsItsUser(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, c *clock, b *fake) {
		a, at, tries := movable(b)
		s, m := parked(t, h, b, a, "INBOX", view.Plain)
		nowhere, there := "", "b2"
		at.Store(&nowhere)
		h.LetGo("somebody else")
		if !s.Settled() {
			t.Error("another user's watch was ended")
		}
		h.LetGo("u")
		if kind := s.Watch(); kind == "idle" || kind == "notify" {
			eventually(t, "the end of the watch's connection", func() bool { return h.Stats().Connections == 0 })
		}
		b.change(func() { b.boxes["INBOX"].Append() })
		h.Hint(Hint{User: "u", Source: HintPush})
		for passed := time.Duration(0); passed < 2*lostAfter; passed += lastBackoff {
			before := tries.Load()
			eventually(t, "another try", func() bool {
				c.pass(time.Second)
				return tries.Load() > before
			})
		}
		at.Store(&there)
		eventually(t, "told", func() bool {
			c.pass(time.Second)
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.client.Count() == 4
		})
		eventually(t, "settled", s.Settled)
		if ids := sitesOf(h); len(ids) != 1 || ids[0] != "b2" {
			t.Errorf("it is at %q", ids)
		}
		if m.lost != 0 {
			t.Error("it was given up")
		}
		b.deliver("INBOX")
		if s.Watch() == "push" {
			h.Hint(Hint{User: "u", Source: HintPush})
		}
		eventually(t, "told again", func() bool {
			c.pass(time.Second)
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.client.Count() == 5
		})
		s.Close()
		if ids := sitesOf(h); len(ids) != 0 {
			t.Errorf("left behind: %q", ids)
		}
	})
}

// A session that is parked before its mailbox is watched is told of what has happened since its view.
func TestASubscriptionThatBeginsLater(t *testing.T) {
	b := newFake(t, modernCaps)
	h, c := newHub(t, HubOptions{Watch: "idle"})
	a, at, _ := movable(b)
	nowhere, there := "", "b1"
	at.Store(&nowhere)
	if _, err := h.Subscribe(within(t), a, "INBOX"); err == nil {
		t.Fatal("a subscription without a watch")
	}
	s, err := h.SubscribeLater(a, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	m := newMember(t, b, s, "INBOX", view.Plain)
	b.change(func() { b.boxes["INBOX"].Append() })
	s.Join(m)
	if s.Settled() {
		t.Error("settled, and nothing watches")
	}
	c.pass(lastBackoff)
	at.Store(&there)
	eventually(t, "told", func() bool {
		c.pass(time.Second)
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.client.Count() == 4
	})
	eventually(t, "settled", s.Settled)
	later, err := h.SubscribeLater(a, "Other")
	if err != nil {
		t.Fatal(err)
	}
	b.box("Other", 1)
	if err := later.Again(within(t)); err != nil {
		t.Errorf("a session that has stayed attached meanwhile: %v", err)
	}
	later.Close()
	s.Leave()
	if err := s.Later(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := s.Later(); !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}
