package park

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
)

// own is an account of a user's on the backend "b1", whose mailboxes are all theirs.
func (f *fake) own(user string) Account {
	a := f.account()
	a.User, a.ModSeq = user, 1
	a.Shared = func(string) bool { return false }
	return a
}

// A user whose mailboxes take long, and whose clients ask for all of them, has a part of the
// workers: another user's client is told meanwhile.
func TestAUserWithManySlowMailboxesKeepsNobodyElseWaiting(t *testing.T) {
	slow, quick := newFake(t, modernCaps), newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true, MaxResyncs: 4})
	var subs []*Subscription
	a := slow.own("many")
	for i := range 12 {
		name := fmt.Sprint("box", i)
		slow.box(name, 1)
		s, _ := parked(t, h, slow, a, name, view.Plain)
		subs = append(subs, s)
	}
	_, other := parked(t, h, quick, quick.own("other"), "INBOX", view.Plain)
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	slow.change(func() { slow.hold["EXAMINE"] = hold })
	h.Hint(Hint{User: "many", Source: HintPush})
	var looking sync.WaitGroup
	ctx := within(t)
	for _, s := range subs {
		looking.Go(func() {
			if err := s.Look(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "clients wait for all of them, and the user has their share", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slow.asked("EXAMINE") >= 2 && !slices.ContainsFunc(subs, func(s *Subscription) bool { return len(s.m.waiters) == 0 })
	})
	quick.deliver("INBOX")
	h.Hint(Hint{User: "other", Source: HintPush})
	other.counts(4)
	if n := slow.asked("EXAMINE"); n != 2 {
		t.Errorf("%d of 4 workers make rounds of one user's", n)
	}
	release()
	looking.Wait()
}

// Users whose mailboxes wait for one worker are served in turn.
func TestUsersAreServedInTurn(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true, MaxResyncs: 1})
	var members []*member
	add := func(user string, boxes ...string) {
		a := b.own(user)
		for _, name := range boxes {
			b.box(name, 1)
			_, m := parked(t, h, b, a, name, view.Plain)
			members = append(members, m)
		}
	}
	add("a", "a1", "a2", "a3")
	add("b", "b1", "b2")
	add("c", "c1")
	hold := make(chan struct{})
	b.change(func() { b.hold["EXAMINE"] = hold })
	h.mu.Lock() // or the worker would begin before all are there
	for _, user := range []string{"a", "b", "c"} {
		for _, m := range h.users[user].mailboxes {
			m.hintLocked(HintPush)
		}
	}
	h.mu.Unlock()
	eventually(t, "all wait", func() bool { return b.asked("EXAMINE") == 1 && h.Stats().Waiting == 5 })
	close(hold)
	for _, m := range members {
		m.until("its turn", func() bool { return m.states == 1 })
	}
	var order []string
	b.mu.Lock()
	for _, c := range b.commands {
		if verb, rest, _ := strings.Cut(c, " "); verb == "EXAMINE" {
			order = append(order, rest[1:3])
		}
	}
	b.mu.Unlock()
	if got := strings.Join(order, " "); got != "a1 b1 c1 a2 b2 a3" {
		t.Errorf("looked at %s", got)
	}
}

// Sessions that resume ask for states of their own: those of one user, whose mailboxes take
// long, leave room for others'.
func TestAUsersResyncsLeaveRoomForOthers(t *testing.T) {
	slow, quick := newFake(t, modernCaps), newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Push: true, MaxResyncs: 4})
	a := slow.own("many")
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	var asking sync.WaitGroup
	ctx := within(t)
	for i := range 6 {
		name := fmt.Sprint("box", i)
		slow.box(name, 1)
		s, m := parked(t, h, slow, a, name, view.Plain)
		v := m.View()
		slow.change(func() { slow.hold["EXAMINE"] = hold })
		asking.Go(func() {
			if _, err := s.Resync(ctx, v); err != nil {
				t.Error(err)
			}
		})
	}
	b := h.sites["b1"]
	eventually(t, "all ask", func() bool { held, waiting := b.slots.Stats(); return held == 2 && waiting == 4 })
	s, m := parked(t, h, quick, quick.own("other"), "INBOX", view.Plain)
	if _, err := s.Resync(ctx, m.View()); err != nil {
		t.Error(err)
	}
	release()
	asking.Wait()
}

// When all watches have something to do at once, that of a user whose client waits for an answer doesn't wait for those of all others.
func TestAClientThatWaitsDoesntWaitForAllWatches(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Watch: "idle", MaxResyncs: 1})
	add := func(user string) (*Subscription, *member) {
		b.box(user, 1)
		return parked(t, h, b, b.own(user), user, view.Plain)
	}
	holder, held := add("holder")
	for _, user := range []string{"a", "b", "c"} {
		add(user)
	}
	last, waits := add("waits")
	slots := h.sites["b1"].slots
	eventually(t, "all watches are in IDLE", func() bool { n, waiting := slots.Stats(); return n == 0 && waiting == 0 && b.asked("IDLE") >= 5 })
	hold := make(chan struct{})
	b.change(func() { b.hold["EXAMINE"] = hold; b.commands = nil })
	ctx := within(t)
	var asking sync.WaitGroup
	ask := func(s *Subscription, m *member) {
		v := m.View()
		asking.Go(func() {
			if _, err := s.Resync(ctx, v); err != nil {
				t.Error(err)
			}
		})
	}
	ask(holder, held)
	eventually(t, "the slot is taken", func() bool { return b.asked("EXAMINE") == 1 })
	for i, user := range []string{"a", "b", "c", "waits"} {
		b.deliver(user)
		eventually(t, "its watch waits", func() bool { _, waiting := slots.Stats(); return waiting == i+1 })
	}
	ask(last, waits)
	eventually(t, "its client waits", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(last.m.jobs) == 1
	})
	close(hold)
	asking.Wait()
	var order []string
	eventually(t, "all were looked at", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		order = nil
		for _, c := range b.commands {
			if verb, rest, _ := strings.Cut(c, " "); verb == "EXAMINE" {
				order = append(order, strings.Trim(strings.Fields(rest)[0], `"`))
			}
		}
		return len(order) == 5
	})
	if got := strings.Join(order, " "); got != "holder waits a b c" {
		t.Errorf("looked at %s", got)
	}
}

// The watch that is to answer a session's request loses its connection. The session doesn't wait until the watch has another one.
func TestARequestDoesntWaitForAWatchThatIsLost(t *testing.T) {
	b := newFake(t, modernCaps)
	h, _ := newHub(t, HubOptions{Watch: "idle"})
	b.box("INBOX", 1)
	s, waits := parked(t, h, b, b.own("alice"), "INBOX", view.Plain)
	hold := make(chan struct{})
	b.change(func() { b.hold["EXAMINE"] = hold })
	b.deliver("INBOX")
	eventually(t, "the watch is at work", func() bool { return b.asked("EXAMINE") > 1 })
	j := &job{view: waits.View(), done: make(chan jobResult, 1)}
	h.mu.Lock()
	s.m.jobs = append(s.m.jobs, j)
	h.mu.Unlock()
	if _, again := s.m.failed(&imapclient.Broken{Err: io.EOF}); !again {
		t.Fatal("the watch is given up")
	}
	select {
	case r := <-j.done:
		if !errors.Is(r.err, ErrLost) {
			t.Error(r.err)
		}
	default:
		t.Error("the request waits for the watch's next connection")
	}
	close(hold)
}
