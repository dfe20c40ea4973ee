package park

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
)

// kinds are hubs whose one mailbox INBOX is watched in each way.
var kinds = []struct {
	name, caps string
	o          HubOptions
	watch      string
}{
	{"idle", modernCaps, HubOptions{}, "idle"},
	{"idle, comparison", plainCaps, HubOptions{}, "idle"},
	{"push", modernCaps, HubOptions{Push: true}, "push"},
	{"push, comparison", plainCaps, HubOptions{Push: true}, "push"},
	{"notify", modernCaps + " NOTIFY", HubOptions{Watch: "notify"}, "notify"},
	{"poll", modernCaps, HubOptions{Watch: "poll"}, "poll"},
}

func onAllKinds(t *testing.T, f func(t *testing.T, h *Hub, c *clock, b *fake)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			b := newFake(t, k.caps)
			h, c := newHub(t, k.o)
			f(t, h, c, b)
		})
	}
}

func TestWhoIsParkedIsToldWhatHappens(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, c *clock, b *fake) {
		a := b.account()
		s1, m1 := parked(t, h, b, a, "INBOX", view.Plain)
		_, m2 := parked(t, h, b, a, "INBOX", view.Plain)
		if !s1.Settled() {
			t.Error("not settled, though nothing happened")
		}
		b.change(func() {
			box := b.boxes["INBOX"]
			box.Append("$B")
			box.Store(2, `\Seen`)
			box.Expunge(1)
		})
		switch s1.Watch() {
		case "push":
			before := b.asked("EXAMINE")
			h.Hint(Hint{User: "u", Mailbox: "INBOX", Source: HintPush})
			if s1.Settled() && b.asked("EXAMINE") == before {
				t.Error("settled, with a hint outstanding that nobody has looked at")
			}
		case "poll":
			c.pass(2 * DefaultPollEvery)
		}
		for _, m := range []*member{m1, m2} {
			m.until("told", func() bool { return m.states > 0 && m.client.Count() == 3 })
			m.converged(b.truth("INBOX"))
		}
		eventually(t, "settled", s1.Settled)
	})
}

func TestOneResyncForAllAndForABurst(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true})
	a := b.account()
	hold := make(chan struct{})
	var members []*member
	for range 5 {
		_, m := parked(t, h, b, a, "INBOX", view.QResync)
		members = append(members, m)
	}
	before := b.asked("EXAMINE")
	b.change(func() { b.hold["EXAMINE"] = hold })
	for range 100 {
		b.deliver("INBOX")
		h.Hint(Hint{User: "u", Mailbox: "INBOX", Source: HintPush})
		eventually(t, "the first resync", func() bool { return b.asked("EXAMINE") == before+1 })
	}
	close(hold)
	for _, m := range members {
		m.counts(103)
	}
	// Those that came during the first are one more, a moment later.
	for _, m := range members {
		m.until("two states", func() bool { return m.states == 2 })
	}
	if n := b.asked("EXAMINE") - before; n != 2 {
		t.Errorf("%d resyncs for 100 hints and 5 members", n)
	}
	if n := b.Open(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if st := h.Stats(); st.Members != 5 || st.Mailboxes != 1 || st.Push != 1 || st.Hints[HintPush] != 100 {
		t.Errorf("%+v", st)
	}
}

// Rule: a state applies to views taken before its EXAMINE was sent. Else a message told
// to B at its snapshot is taken away by a state from before it arrived.
func TestAStateIsNotAppliedToWhoJoinedLater(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, _ *clock, b *fake) {
		a := b.account()
		s1, m1 := parked(t, h, b, a, "INBOX", view.Plain)
		s2 := subscribe(t, h, a, "INBOX")

		// The state is taken, and its delivery to the first member is late.
		entered, resume := make(chan struct{}), make(chan struct{})
		late := sync.OnceFunc(func() { close(resume) })
		defer late()
		var once sync.Once
		m1.onApply = func() {
			once.Do(func() {
				close(entered)
				<-resume
			})
		}
		h.Hint(Hint{User: "u"})
		<-entered
		b.change(func() {
			b.mute = true
			b.boxes["INBOX"].Append()
		})
		m2 := newMember(t, b, s2, "INBOX", view.Plain)
		s2.Join(m2)
		if s2.Settled() {
			t.Error("settled, though what happened between may have been swallowed by the running resync")
		}
		late()
		if err := s2.Look(within(t)); err != nil {
			t.Fatal(err)
		}
		m2.mu.Lock()
		if m2.states != 1 || m2.client.Count() != 4 || m2.err != nil {
			t.Errorf("%d states, %d messages, %v", m2.states, m2.client.Count(), m2.err)
		}
		m2.mu.Unlock()
		m1.counts(4)
		eventually(t, "settled", func() bool { return s1.Settled() && s2.Settled() })
	})
}

// The EXAMINE of a resync that others have takes away what IDLE would have told of
// what came after the snapshot.
func TestWhatAnotherResyncSwallowedIsLookedAt(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Watch: "idle"})
	a := b.account()
	_, m1 := parked(t, h, b, a, "INBOX", view.Plain)
	hold := make(chan struct{})
	b.change(func() { b.hold["EXAMINE"] = hold })
	h.Hint(Hint{User: "u"})
	eventually(t, "the resync has begun", func() bool { return b.asked("EXAMINE") == 2 })
	s2 := subscribe(t, h, a, "INBOX")
	m2 := newMember(t, b, s2, "INBOX", view.Plain)
	b.deliver("INBOX")
	s2.Join(m2)
	close(hold)
	m1.counts(4)
	m2.counts(4)
}

// What is heard between Subscribe and Join isn't in the view, perhaps.
func TestWhatIsHeardBeforeJoinIsLookedAtAfterIt(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, _ *clock, b *fake) {
		a := b.account()
		s := subscribe(t, h, a, "INBOX")
		m := newMember(t, b, s, "INBOX", view.Plain)
		b.deliver("INBOX")
		h.Hint(Hint{User: "u", Mailbox: "INBOX", Source: HintCommand})
		if n := b.asked("EXAMINE"); n > 1 && s.Strategy() == "qresync" {
			t.Errorf("%d EXAMINEs for nobody", n)
		}
		s.Join(m)
		m.counts(4)
		m.converged(b.truth("INBOX"))
	})
}

// What happened before Subscribe isn't in a view that was taken outside IDLE.
func TestADoubtfulViewIsLookedAt(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, _ *clock, b *fake) {
		s := subscribe(t, h, b.account(), "INBOX")
		m := newMember(t, b, s, "INBOX", view.Plain)
		b.change(func() {
			b.mute = true
			b.boxes["INBOX"].Append()
		})
		s.Doubt()
		s.Join(m)
		m.counts(4) // nothing else would tell: the backend is mute
	})
}

func TestLookWaitsForAStateThatCoversTheHint(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, _ *clock, b *fake) {
		s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
		if err := s.Look(within(t)); err != nil || m.states != 0 {
			t.Errorf("settled, and yet %d states; %v", m.states, err)
		}
		for i := range 10 {
			b.change(func() {
				b.mute = true
				b.boxes["INBOX"].Append()
			})
			h.Hint(Hint{User: "u", Mailbox: "INBOX", Source: HintCommand})
			if err := s.Look(within(t)); err != nil {
				t.Fatal(err)
			}
			m.mu.Lock()
			if n := m.client.Count(); n != 4+i {
				t.Errorf("%d messages after Look, not %d", n, 4+i)
			}
			m.mu.Unlock()
		}
	})
}

func TestLookDoesntWaitForAnotherMailbox(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true})
	a := b.account()
	a.Shared = func(string) bool { return false }
	b.box("slow", 1)
	_, slow := parked(t, h, b, a, "slow", view.Plain)
	s, m := parked(t, h, b, a, "INBOX", view.Plain)
	hold := make(chan struct{})
	b.change(func() { b.hold["EXAMINE"] = hold })
	before := b.asked("EXAMINE")
	h.Hint(Hint{User: "u", Mailbox: "slow", Source: HintPush})
	eventually(t, "the slow one is under way", func() bool { return b.asked("EXAMINE") == before+1 })
	b.change(func() { delete(b.hold, "EXAMINE") })
	b.deliver("INBOX")
	h.Hint(Hint{User: "u", Mailbox: "INBOX", Source: HintPush}) // no Look waits for it yet
	if err := s.Look(within(t)); err != nil {
		t.Fatal(err)
	}
	m.counts(4)
	close(hold)
	slow.until("told", func() bool { return slow.states == 1 })
}

func TestLookIsEndedByItsContextAndByClose(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true})
	s, _ := parked(t, h, b, b.account(), "INBOX", view.Plain)
	hold := make(chan struct{})
	b.change(func() { b.hold["EXAMINE"] = hold })
	defer close(hold)
	h.Hint(Hint{User: "u"})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the client has gone")
	cancel(why)
	if err := s.Look(ctx); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	done := make(chan error)
	go func() { done <- s.Look(context.Background()) }() // ends with Close below
	eventually(t, "it waits", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(s.m.waiters) == 2
	})
	s.Close()
	if err := <-done; !errors.Is(err, ErrLost) {
		t.Errorf("%v", err)
	}
	if err := s.Look(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("after Close: %v", err)
	}
}

// A member that was skipped isn't settled until it has got a state.
func TestAMemberWithoutAViewIsSkippedAndOwed(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true})
	a := b.account()
	s1, m1 := parked(t, h, b, a, "INBOX", view.Plain)
	_, m2 := parked(t, h, b, a, "INBOX", view.Plain)
	view := m1.View()
	m1.leave()
	b.deliver("INBOX")
	h.Hint(Hint{User: "u", Mailbox: "INBOX"})
	m2.counts(4)
	if m1.states != 0 || s1.Settled() {
		t.Errorf("%d states, settled %v", m1.states, s1.Settled())
	}
	m1.mu.Lock()
	m1.view = view // its resume came to nothing
	m1.mu.Unlock()
	if err := s1.Look(within(t)); err != nil {
		t.Fatal(err)
	}
	m1.counts(4)
}

func TestASubscriptionThatStaysWhileItsSessionIsAttached(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, _ *clock, b *fake) {
		a := b.account()
		s, m := parked(t, h, b, a, "INBOX", view.Plain)
		s.Leave()
		m.leave()
		b.deliver("INBOX")
		h.Hint(Hint{User: "u"})
		if err := s.Look(t.Context()); !errors.Is(err, ErrNotJoined) {
			t.Errorf("%v", err)
		}
		eventually(t, "heard", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			want := uint64(1)
			if s.m.kind == WatchIdle || s.m.kind == WatchNotify {
				want = 2
			}
			return s.m.heard >= want
		})
		if err := s.Again(within(t)); err != nil {
			t.Fatal(err)
		}
		m = newMember(t, b, s, "INBOX", view.Plain)
		s.Join(m)
		if !s.Settled() {
			t.Error("what was heard before is in the view")
		}
		b.deliver("INBOX")
		h.Hint(Hint{User: "u"})
		m.counts(5)
	})
}

func TestResyncForOneView(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, _ *clock, b *fake) {
		a := b.account()
		s1, m1 := parked(t, h, b, a, "INBOX", view.CondStore)
		_, m2 := parked(t, h, b, a, "INBOX", view.Plain)
		v := m1.View()
		m1.leave()
		b.change(func() {
			b.mute = true // the other one isn't told by IDLE
			b.boxes["INBOX"].Store(3, `\Flagged`)
		})
		state, err := s1.Resync(within(t), v)
		if err != nil {
			t.Fatal(err)
		}
		d, err := view.Compare(v, state)
		if err != nil || len(d.Changed) != 1 || d.Changed[0].UID != 3 {
			t.Errorf("%+v, %v", d.Changed, err)
		}
		if s1.Watch() == "idle" {
			// Its EXAMINE took away what IDLE would have told: the other has its state.
			m2.until("told", func() bool { return m2.states == 1 })
			m2.converged(b.truth("INBOX"))
		}
	})
}

// What a Table's own EXAMINE has heard of is in the snapshot that follows it.
func TestTableIsTakenBeforeTheSnapshot(t *testing.T) {
	b := newFake(t, plainCaps)
	h, _ := newHub(t, HubOptions{})
	a := b.account()
	s1, m1 := parked(t, h, b, a, "INBOX", view.Plain)
	b.change(func() {
		b.mute = true
		b.boxes["INBOX"].Store(2, `\Seen`)
	})
	s2 := subscribe(t, h, a, "INBOX")
	table, err := s2.Table(within(t))
	if err != nil || table.Of(2) != `\Seen` || table.Of(1) != "" {
		t.Fatalf("%v, %v", table, err)
	}
	s2.Join(newMember(t, b, s2, "INBOX", view.Plain))
	if !s2.Settled() || !s1.Settled() {
		t.Error("not settled")
	}
	m1.converged(b.truth("INBOX"))
	b.change(func() { delete(b.boxes, "INBOX") })
	if _, err := s2.Table(within(t)); err == nil {
		t.Error("a table of nothing")
	}
}

// Rule: flags that changed while the resync ran are told by the connection, and
// never again; they are left to the next one.
func TestChangesBeyondTheBoundAreFetchedAgain(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Watch: "idle"})
	_, m := parked(t, h, b, b.account(), "INBOX", view.QResync)
	hold := make(chan struct{})
	b.change(func() { b.hold["UID FETCH"] = hold })
	b.deliver("INBOX")
	eventually(t, "new messages are asked for", func() bool { return b.asked("UID FETCH") == 1 })
	b.change(func() { b.boxes["INBOX"].Store(1, `\Seen`) })
	close(hold)
	m.until("a state", func() bool { return m.states == 1 })
	m.converged(b.truth("INBOX"))
}

func TestAMailboxThatIsGone(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, _ *clock, b *fake) {
		a := b.account()
		s, m := parked(t, h, b, a, "INBOX", view.Plain)
		b.change(func() { delete(b.boxes, "INBOX") })
		h.Hint(Hint{User: "u"})
		m.until("told", func() bool { return m.gone != nil })
		if r, ok := errors.AsType[*imapclient.Refusal](m.gone); !ok || r.Code != "NONEXISTENT" || m.lost != 0 {
			t.Errorf("%v, lost %d", m.gone, m.lost)
		}
		if s.Settled() {
			t.Error("settled")
		}
		if err := s.Look(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
		if st := h.Stats(); st.Mailboxes != 0 || st.Gone != 1 || h.Wanted("u") {
			t.Errorf("%+v", st)
		}
		// A subscription from now on sets up a new watch.
		if _, err := h.Subscribe(within(t), a, "INBOX"); err == nil && s.Watch() == "idle" {
			t.Error("subscribed to nothing")
		}
		b.box("INBOX", 2)
		parked(t, h, b, a, "INBOX", view.Plain)
	})
}

// Rule: a watch that dies is set up again, and a hint is outstanding meanwhile.
func TestAWatchThatDiesIsRenewed(t *testing.T) {
	for _, k := range kinds {
		if k.watch != "idle" && k.watch != "notify" {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			b := newFake(t, k.caps)
			h, c := newHub(t, k.o)
			s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
			b.change(func() { b.noLogin = true })
			b.CloseConns()
			eventually(t, "not settled", func() bool { return !s.Settled() })
			b.change(func() {
				b.boxes["INBOX"].Append()
				b.noLogin = false
			})
			// What came while there was no watch is found, without another hint.
			eventually(t, "told", func() bool {
				c.pass(10 * time.Millisecond)
				m.mu.Lock()
				defer m.mu.Unlock()
				return m.client.Count() == 4
			})
			eventually(t, "settled", s.Settled)
			if m.lost != 0 || h.Stats().Renewed != 1 {
				t.Errorf("lost %d, renewed %d", m.lost, h.Stats().Renewed)
			}
			b.deliver("INBOX")
			m.counts(5)
		})
	}
}

func TestABackendThatStaysAwayLosesItsMembers(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, c *clock, b *fake) {
		s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
		b.change(func() { b.noLogin = true })
		b.CloseConns()
		h.Hint(Hint{User: "u"})
		looked := s.Look(within(t))
		if looked == nil {
			t.Error("Look has an answer from nowhere")
		}
		eventually(t, "lost", func() bool {
			c.pass(time.Second)
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.lost > 0
		})
		if m.lost != 1 || m.gone != nil {
			t.Errorf("lost %d times, gone %v", m.lost, m.gone)
		}
		s.Close()
		if st := h.Stats(); st.Mailboxes != 0 || st.Lost != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestSubscribeSaysWhyItCannotBe(t *testing.T) {
	for _, c := range []struct {
		name, caps string
		o          HubOptions
		prepare    func(b *fake)
		want       error
	}{
		{name: "no such mailbox", caps: modernCaps, prepare: func(b *fake) { delete(b.boxes, "INBOX") }, want: &imapclient.Refusal{}},
		{name: "too large to be compared", caps: plainCaps, o: HubOptions{MaxDiffMessages: 2}, want: resync.ErrTooMany},
		{name: "IDLE refused", caps: modernCaps, prepare: func(b *fake) { b.refuse["IDLE"] = "BAD no" }, want: &imapclient.Refusal{}},
		{name: "NOTIFY refused: IDLE it is", caps: modernCaps + " NOTIFY", o: HubOptions{Watch: "notify"},
			prepare: func(b *fake) { b.refuse["NOTIFY"] = "NO [BADEVENT] no" }},
		{name: "backend away", caps: modernCaps, prepare: func(b *fake) { b.noLogin = true }, want: &upstream.Unavailable{}},
		{name: "backend away, push", caps: modernCaps, o: HubOptions{Push: true}, prepare: func(b *fake) { b.noLogin = true }, want: &upstream.Unavailable{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newFake(t, c.caps)
			h, _ := newHub(t, c.o)
			if c.prepare != nil {
				b.change(func() { c.prepare(b) })
			}
			s, err := h.Subscribe(within(t), b.account(), "INBOX")
			switch want := c.want.(type) {
			case nil:
				if err != nil || s.Watch() != "idle" {
					t.Fatalf("%v", err)
				}
				s.Close()
			case *imapclient.Refusal:
				if _, ok := errors.AsType[*imapclient.Refusal](err); !ok {
					t.Errorf("%v", err)
				}
			case *upstream.Unavailable:
				if _, ok := errors.AsType[*upstream.Unavailable](err); !ok {
					t.Errorf("%v", err)
				}
			default:
				if !errors.Is(err, want) {
					t.Errorf("%v", err)
				}
			}
			if st := h.Stats(); st.Mailboxes != 0 || h.Wanted("u") {
				t.Errorf("something is left: %+v", st)
			}
			b.WaitOpen(int(b.warm.Load())) // all others are closed
		})
	}
}

func TestTheLastCloseEndsTheWatch(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{})
	a := b.account()
	a.Give = nil
	s1, _ := parked(t, h, b, a, "INBOX", view.Plain)
	s2, _ := parked(t, h, b, a, "INBOX", view.Plain)
	b.WaitOpen(1)
	s1.Close()
	s1.Close()
	if s1.Settled() || !s2.Settled() {
		t.Error("the wrong one was closed")
	}
	b.WaitOpen(1)
	s2.Close()
	b.WaitOpen(0)
	if st := h.Stats(); st.Mailboxes != 0 || len(h.sites) != 0 {
		t.Errorf("%+v", st)
	}
}

// With events, a bound that the session has itself, and INBOX, nothing is asked.
func TestPushNeedsNoConnection(t *testing.T) {
	b := newFake(t, modernCaps)
	queue := NewHintQueue(HintQueueOptions{})
	h, _ := newHub(t, HubOptions{Push: true, Queue: queue})
	a := b.account()
	a.ModSeq = b.truth("INBOX").ModSeq
	_, m := parked(t, h, b, a, "INBOX", view.Plain)
	if n := b.Accepted(); n != 0 {
		t.Errorf("%d connections", n)
	}
	b.deliver("INBOX")
	queue.Add(Hint{User: "somebody else", Source: HintPush})
	queue.Add(Hint{User: "u", Mailbox: "INBOX", Source: HintPush})
	m.counts(4)
	// One that doesn't know a bound gets one.
	a.ModSeq = 0
	if s := subscribe(t, h, a, "INBOX"); s.ModSeq() == 0 {
		t.Error("no bound")
	}
}

func TestTheSweepFindsWhatWasLost(t *testing.T) {
	onAllKinds(t, func(t *testing.T, h *Hub, c *clock, b *fake) {
		_, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
		b.change(func() {
			b.mute = true
			b.boxes["INBOX"].Append()
		})
		c.pass(2 * DefaultSweepEvery)
		m.counts(4)
	})
}

func TestIdleIsSaidAgainBeforeServersLogItOut(t *testing.T) {
	b := newFake(t, modernCaps)
	h, c := newHub(t, HubOptions{SweepEvery: 100 * time.Hour})
	s, _ := parked(t, h, b, b.account(), "INBOX", view.Plain)
	for n := 2; n < 5; n++ {
		c.pass(idleFor)
		eventually(t, "IDLE again", func() bool { return b.asked("IDLE") == n })
		eventually(t, "armed", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return !s.m.reIdleAt.IsZero()
		})
	}
	if n := b.asked("EXAMINE"); n != 1 {
		t.Errorf("%d EXAMINEs", n)
	}
	if !s.Settled() {
		t.Error("not settled")
	}
}

func TestNotMoreAtATimeThanAllowed(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true, MaxResyncs: 3})
	var members []*member
	var users []string
	for i := range 20 {
		a := b.account()
		a.User = string(rune('a' + i))
		a.ModSeq = 1
		users = append(users, a.User)
		_, m := parked(t, h, b, a, "INBOX", view.Plain)
		members = append(members, m)
	}
	hold := make(chan struct{})
	b.change(func() { b.hold["EXAMINE"] = hold })
	for _, u := range users {
		h.Hint(Hint{User: u})
	}
	eventually(t, "they begin", func() bool { return b.asked("EXAMINE") == 3 })
	if st := h.Stats(); st.Waiting != 17 || b.Open() != 3 {
		t.Errorf("%+v, %d connections", st, b.Open())
	}
	close(hold)
	for _, m := range members {
		m.until("all had their turn", func() bool { return m.states == 1 })
	}
}

// What is hinted at for all of a user's mailboxes, or to be swept, is looked at on one connection.
func TestAUsersMailboxesAreLookedAtOnOneConnection(t *testing.T) {
	b := newFake(t, modernCaps)
	h, c := newHub(t, HubOptions{Push: true})
	a := b.account()
	a.Shared = func(string) bool { return false }
	a.ModSeq = 1
	var members []*member
	for i := range 20 {
		name := string(rune('a' + i))
		b.box(name, 1)
		_, m := parked(t, h, b, a, name, view.Plain)
		members = append(members, m)
	}
	for round, look := range []func(){
		func() { h.Hint(Hint{User: "u"}) },
		func() { c.pass(DefaultSweepEvery * 5 / 4) }, // the first is due, and takes the others with it
	} {
		look()
		for _, m := range members {
			m.until("all had their turn", func() bool { return m.states == round+1 })
		}
		if n := b.Accepted(); n != 1 {
			t.Fatalf("%d connections", n)
		}
	}
}

func TestALookPutsTheSweepOff(t *testing.T) {
	b := newFake(t, modernCaps)
	h, c := newHub(t, HubOptions{Push: true})
	s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
	due := func() moment {
		h.mu.Lock()
		defer h.mu.Unlock()
		return s.m.sweepAt
	}
	first := due()
	c.pass(first.Sub(h.moment()) - time.Second)
	h.Hint(Hint{User: "u"})
	m.until("told", func() bool { return m.states == 1 })
	eventually(t, "the sweep put off", func() bool { return due().After(first) })
}

func TestAHubThatHasEndedTakesNobody(t *testing.T) {
	b := newFake(t, modernCaps)
	h := NewHub(HubOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with cancel
		defer close(done)
		h.Run(ctx)
	}()
	s, _ := parked(t, h, b, b.account(), "INBOX", view.Plain)
	cancel()
	<-done
	if _, err := h.Subscribe(t.Context(), b.account(), "INBOX"); !errors.Is(err, ErrHubClosed) {
		t.Errorf("%v", err)
	}
	if err := s.Again(t.Context()); !errors.Is(err, ErrHubClosed) {
		t.Errorf("%v", err)
	}
	if err := s.Look(t.Context()); !errors.Is(err, ErrHubClosed) {
		t.Errorf("%v", err)
	}
	h.Hint(Hint{User: "u"})
	s.Close()
}

// A session that was resumed keeps its subscription, in case it is parked again soon. Its
// watch is a connection, which isn't kept for longer than that.
func TestAWatchThatNobodyIsParkedForEnds(t *testing.T) {
	b := newFake(t, modernCaps)
	h, c := newHub(t, HubOptions{})
	s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
	sweep := func(n int) {
		for range n {
			h.mu.Lock()
			at := s.m.sweepAt
			h.mu.Unlock()
			c.pass(2 * DefaultSweepEvery)
			eventually(t, "the sweep", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				return s.m.phase == dead || s.m.sweepAt.After(at)
			})
		}
	}
	sweep(3)
	m.leave()
	s.Leave()
	sweep(1)
	if err := s.Again(within(t)); err != nil {
		t.Fatalf("soon after: %v", err)
	}
	sweep(2)
	eventually(t, "the watch's end", func() bool { return h.Stats().Connections == 0 && h.Stats().Mailboxes == 0 })
	if err := s.Again(within(t)); err == nil {
		t.Error("it is there again")
	}
	parked(t, h, b, b.account(), "INBOX", view.Plain)
}
