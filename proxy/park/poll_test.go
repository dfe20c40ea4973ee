package park

import (
	"testing"

	"imapproxy/proxy/park/view"
)

// Polls that are asked for while a round runs, whose EXAMINE may have been answered, wait for
// the next one, and all for the same.
func TestOneRoundAnswersAllPollsThatWereAskedForBeforeIt(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true})
	a := b.account()
	var subs []*Subscription
	var members []*member
	for range 6 {
		s, m := parked(t, h, b, a, "INBOX", view.Plain)
		subs, members = append(subs, s), append(members, m)
	}
	hold := make(chan struct{})
	before := b.asked("EXAMINE")
	b.change(func() { b.hold["EXAMINE"] = hold })
	answers := make(chan error, len(subs))
	poll := func(s *Subscription) { go func() { answers <- s.Poll(within(t)) }() }
	poll(subs[0])
	eventually(t, "the first look", func() bool { return b.asked("EXAMINE") == before+1 })
	b.deliver("INBOX") // no hint comes
	for _, s := range subs[1:] {
		poll(s)
	}
	eventually(t, "all to wait", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(subs[0].m.waiters) == len(subs)
	})
	close(hold)
	for range subs {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if n := b.asked("EXAMINE") - before; n != 2 {
		t.Errorf("%d looks", n)
	}
	for _, m := range members {
		m.mu.Lock()
		if n := m.client.Count(); n != 4 {
			t.Errorf("a client counts %d messages", n)
		}
		m.mu.Unlock()
	}
}

// A poll looks though nothing was heard of, in every way of watching.
func TestAPollSeesWhatNoHintToldOf(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, _ *clock, b *fake) {
		s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
		for n := 4; n < 7; n++ {
			b.change(func() {
				b.mute = true
				b.boxes["INBOX"].Append()
			})
			if err := s.Poll(within(t)); err != nil {
				t.Fatal(err)
			}
			m.mu.Lock()
			if got := m.client.Count(); got != n {
				t.Errorf("the client counts %d messages, %d are there", got, n)
			}
			m.mu.Unlock()
		}
	})
}

// A poll that waits for a round which was put off gets it, also where the time comes just as the watch
// goes back to IDLE: whichever of the two is first, the round begins.
func TestARoundThatWasPutOffBeginsThoughItsTimeComesUnnoticed(t *testing.T) {
	c := &clock{}
	h := NewHub(HubOptions{Watch: "idle", Now: c.Now}) // it doesn't run: the test fires the timers
	c.hub = h
	t.Cleanup(func() {
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		h.stop()
		h.wakeAll()
		h.wg.Wait()
	})
	b := newFake(t, modernCaps)
	s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
	examine, idle := make(chan struct{}), make(chan struct{})
	examined, idled := b.asked("EXAMINE"), b.asked("IDLE")
	b.change(func() { b.hold["EXAMINE"], b.hold["IDLE"] = examine, idle })
	answers := make(chan error, 2)
	poll := func() { go func() { answers <- s.Poll(within(t)) }() }
	poll()
	eventually(t, "the first look", func() bool { return b.asked("EXAMINE") == examined+1 })
	b.deliver("INBOX")
	poll() // while it is under way: the next round, burstGap after this one
	eventually(t, "both to wait", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(s.m.waiters) == 2
	})
	close(examine)
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	eventually(t, "IDLE", func() bool { return b.asked("IDLE") == idled+1 })
	c.ahead.Add(int64(burstGap))
	close(idle)
	eventually(t, "the watch to idle", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return !s.m.reIdleAt.IsZero()
	})
	h.fireTimers()
	if err := <-answers; err != nil {
		t.Fatal(err)
	}
	m.counts(4)
}
