package park

import (
	"runtime"
	"strings"
	"testing"

	"imapproxy/proxy/park/view"
)

// watching says whether a watch has a goroutine.
func watching() bool {
	buf := make([]byte, 8<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	return strings.Contains(stacks, "park.(*mailbox).watchIdle") || strings.Contains(stacks, "park.(*notifyWatch).run") ||
		strings.Contains(stacks, "park.(*idleWatch).") || strings.Contains(stacks, "park.(*notifyConn).")
}

// onHeldWatches runs f with a mailbox whose watch has a connection of its own, and waits until the watch has no goroutine.
func onHeldWatches(t *testing.T, f func(t *testing.T, h *Hub, c *clock, b *fake, a Account, s *Subscription, m *member)) {
	for _, kind := range []string{"idle", "notify"} {
		t.Run(kind, func(t *testing.T) {
			b := newFake(t, modernCaps+" NOTIFY")
			h, c := newHub(t, HubOptions{Watch: kind})
			a := b.account()
			s, m := parked(t, h, b, a, "INBOX", view.Plain)
			eventually(t, "no goroutine of a watch", func() bool { return !watching() })
			f(t, h, c, b, a, s, m)
		})
	}
}

func TestASilentWatchHasNoGoroutine(t *testing.T) {
	onHeldWatches(t, func(t *testing.T, h *Hub, _ *clock, b *fake, _ Account, s *Subscription, m *member) {
		hold := make(chan struct{})
		b.change(func() { b.hold["EXAMINE"] = hold })
		before := b.asked("EXAMINE")
		b.deliver("INBOX")
		eventually(t, "a resync", func() bool { return b.asked("EXAMINE") > before })
		if s.Watch() == "idle" && !watching() {
			t.Error("a watch that works has no goroutine: this test looks for wrong names")
		}
		close(hold)
		m.counts(4)
		eventually(t, "no goroutine again", func() bool { return !watching() })
		m.converged(b.truth("INBOX"))
	})
}

// What may end a watch, or have it do something, reaches it although it has no goroutine.
func TestASilentWatchIsReached(t *testing.T) {
	onHeldWatches(t, func(t *testing.T, h *Hub, _ *clock, b *fake, _ Account, s *Subscription, m *member) {
		if err := s.Poll(within(t)); err != nil {
			t.Errorf("a look: %v", err)
		}
		eventually(t, "no goroutine again", func() bool { return !watching() })

		accepted := b.Accepted()
		h.LetGo("u")
		eventually(t, "another connection", func() bool { return b.Accepted() > accepted && h.Stats().Renewed == 1 })
		eventually(t, "no goroutine again", func() bool { return !watching() })

		b.change(func() { b.mute = true })
		b.CloseConns()
		b.change(func() { b.mute = false; b.boxes["INBOX"].Append() })
		m.counts(4)
		eventually(t, "no goroutine again", func() bool { return !watching() })

		s.Close()
		eventually(t, "no connection", func() bool { return h.Stats().Connections == 0 && b.Open() == int(b.warm.Load()) })
	})
}

// The hub's end takes the watches with it that have no goroutine: Run returns after they have closed their connections.
func TestSilentWatchesEndWithTheHub(t *testing.T) {
	var hubs []*Hub
	t.Run("hubs", func(t *testing.T) {
		onHeldWatches(t, func(t *testing.T, h *Hub, _ *clock, _ *fake, _ Account, _ *Subscription, _ *member) {
			hubs = append(hubs, h)
		})
	})
	for _, h := range hubs {
		if n := h.Stats().Connections; n != 0 {
			t.Errorf("%d connections", n)
		}
	}
	if len(hubs) != 2 || watching() {
		t.Errorf("%d hubs; a watch has a goroutine: %v", len(hubs), watching())
	}
}
