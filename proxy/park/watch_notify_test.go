package park

import (
	"errors"
	"fmt"
	"testing"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
)

// One NOTIFY connection serves all of a user's own mailboxes, and INBOX and what is
// shared have watches of their own.
func TestWatchesAreChosenByMailbox(t *testing.T) {
	for _, c := range []struct {
		name, caps string
		o          HubOptions
		want       map[string]string
	}{
		{"auto", modernCaps + " NOTIFY", HubOptions{},
			map[string]string{"INBOX": "idle", "a": "notify", "Entwürfe": "notify", "Shared/x": "idle", "virtual/all": "idle"}},
		{"auto, events", modernCaps + " NOTIFY", HubOptions{Push: true},
			map[string]string{"INBOX": "push", "a": "push", "Shared/x": "idle", "Other Users/y/z": "idle", "virtual/all": "idle"}},
		{"events without NAMESPACE", "IDLE", HubOptions{Push: true}, map[string]string{"INBOX": "push", "a": "idle"}},
		{"notify", modernCaps + " NOTIFY", HubOptions{Watch: "notify", Push: true}, map[string]string{"INBOX": "notify", "Shared/x": "idle"}},
		{"notify that isn't there", modernCaps, HubOptions{Watch: "notify"}, map[string]string{"INBOX": "idle"}},
		{"push that isn't configured", modernCaps, HubOptions{Watch: "push"}, map[string]string{"INBOX": "idle"}},
		{"idle", modernCaps + " NOTIFY", HubOptions{Watch: "idle", Push: true}, map[string]string{"INBOX": "idle", "a": "idle"}},
		{"no IDLE", "UNSELECT", HubOptions{}, map[string]string{"INBOX": "poll"}},
		{"poll", modernCaps + " NOTIFY", HubOptions{Watch: "poll", Push: true}, map[string]string{"INBOX": "poll"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newFake(t, c.caps)
			h, _ := newHub(t, c.o)
			a := b.account()
			for name, want := range c.want {
				b.box(name, 2)
				if got := subscribe(t, h, a, name).Watch(); got != want {
					t.Errorf("%s is watched by %s, not %s", name, got, want)
				}
			}
			if n := b.asked("NAMESPACE"); n > 1 {
				t.Errorf("NAMESPACE asked %d times", n)
			}
		})
	}
}

func TestOneNotifyConnectionForAUser(t *testing.T) {
	b := newFake(t, modernCaps+" NOTIFY")
	h, c := newHub(t, HubOptions{Watch: "notify"})
	a := b.account()
	members := map[string]*member{}
	subs := map[string]*Subscription{}
	for _, name := range []string{"INBOX", "a", "Entwürfe"} {
		b.box(name, 3)
		subs[name], members[name] = parked(t, h, b, a, name, view.CondStore)
	}
	if st := h.Stats(); st.Connections != 1 || st.Notify != 3 {
		t.Errorf("%+v", st)
	}
	b.deliver("Entwürfe")
	members["Entwürfe"].counts(4)
	if n := members["a"].states + members["INBOX"].states; n != 0 {
		t.Errorf("%d states for others", n)
	}

	// It falls silent; setting it anew shows what it didn't tell.
	b.change(func() {
		b.mute = true
		b.boxes["a"].Store(1, `\Seen`)
	})
	c.pass(2 * DefaultNotifyRenewEvery)
	members["a"].until("told", func() bool { return members["a"].states == 1 })
	members["a"].converged(b.truth("a"))
	if n := members["INBOX"].states; n != 0 {
		t.Errorf("%d states for others", n)
	}
	for _, s := range subs {
		s.Close()
	}
	eventually(t, "the connection is closed", func() bool { return h.Stats().Connections == 0 })
}

// A Dovecot whose log rotates tells of the change that it does so at, and of nothing more: who
// has heard of one soon looks for the next.
func TestNotifyIsSetAnewSoonAfterAnEvent(t *testing.T) {
	b := newFake(t, modernCaps+" NOTIFY")
	h, c := newHub(t, HubOptions{Watch: "notify"})
	_, m := parked(t, h, b, b.account(), "INBOX", view.CondStore)
	b.deliver("INBOX")
	m.counts(4)
	set := b.asked("NOTIFY SET")
	b.change(func() {
		b.mute = true
		b.boxes["INBOX"].Store(1, `\Seen`)
	})
	// due waits until NOTIFY was set so many times, and is to be set again within or after a time.
	due := func(times int, soon bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("NOTIFY to be set %d times, and again soon: %v", times, soon), func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, u := range h.users {
				for _, w := range u.notify {
					in := w.renew.at.Sub(h.moment())
					return b.asked("NOTIFY SET") == set+times && w.renew.place != 0 && (soon && in <= notifyGap || !soon && in > DefaultNotifyRenewEvery/2)
				}
			}
			return false
		})
	}
	due(0, true)
	c.pass(notifyGap)
	m.until("told", func() bool { return m.states == 2 })
	m.converged(b.truth("INBOX"))
	due(1, true) // the setting has told of a change
	c.pass(notifyGap)
	due(2, false) // nothing was told
}

// What goes while NOTIFY isn't set, the next setting says nothing of.
func TestNotifyMissesNoMailboxThatGoes(t *testing.T) {
	b := newFake(t, modernCaps+" NOTIFY")
	h, c := newHub(t, HubOptions{Watch: "notify"})
	b.box("a", 1)
	a := b.account()
	a.Shared = func(string) bool { return false }
	_, stays := parked(t, h, b, a, "INBOX", view.Plain)
	_, goes := parked(t, h, b, a, "a", view.Plain)
	b.change(func() {
		b.mute = true
		delete(b.boxes, "a")
	})
	c.pass(2 * DefaultNotifyRenewEvery)
	goes.until("gone", func() bool { return goes.gone != nil })
	if stays.gone != nil || stays.states != 0 {
		t.Errorf("%v, %d states for the other", stays.gone, stays.states)
	}
}

// A backend that stops doing NOTIFY has its mailboxes watched by IDLE.
func TestNotifyThatIsRefusedLater(t *testing.T) {
	b := newFake(t, modernCaps+" NOTIFY")
	h, c := newHub(t, HubOptions{Watch: "notify"})
	s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
	b.change(func() { b.refuse["NOTIFY"] = "NO [NOTIFICATIONOVERFLOW] no more" })
	c.pass(2 * DefaultNotifyRenewEvery)
	eventually(t, "IDLE", func() bool { return s.Watch() == "idle" && s.Settled() })
	b.deliver("INBOX")
	m.counts(4)
	if m.lost != 0 {
		t.Error("lost")
	}
}

func TestParseStatus(t *testing.T) {
	for _, c := range []struct {
		in, name string
		want     mailboxStatus
		ok       bool
	}{
		{`N1 (MESSAGES 2 UIDNEXT 3 UNSEEN 2 HIGHESTMODSEQ 3)`, "N1", mailboxStatus{messages: 2, next: 3, unseen: 2, modSeq: 3, has: 1 | 2 | 4 | 16}, true},
		{`"Entw&APw-rfe" (messages 2 MAILBOXID (x) )`, "Entwürfe", mailboxStatus{messages: 2, has: 1}, true},
		{"{3}\r\na\"b ()", `a"b`, mailboxStatus{}, true},
		{`inbox (UIDVALIDITY 4294967295)`, "INBOX", mailboxStatus{validity: 1<<32 - 1, has: 8}, true},
		{`N1`, "", mailboxStatus{}, false},
		{`N1 MESSAGES 2`, "", mailboxStatus{}, false},
		{`"&" (MESSAGES 2)`, "", mailboxStatus{}, false},
	} {
		name, got, ok := parseStatus([]byte(c.in), false)
		if ok != c.ok || ok && (name != c.name || got != c.want) {
			t.Errorf("%s: %q %+v %v", c.in, name, got, ok)
		}
	}
}

func TestNamespaces(t *testing.T) {
	list, ok := parseNamespaces([]byte(`(("INBOX." ".")("virt." "." "X-PARAM" ("a" "b"))) NIL (("#shared/&APw-/" "/")("" NIL))`), false)
	if !ok || len(list) != 4 || list[2].prefix != "#shared/ü/" {
		t.Fatalf("%+v, %v", list, ok)
	}
	n := &namespaces{known: true, list: list}
	for name, want := range map[string]bool{
		"INBOX": true, "INBOX.a": true, "inbox.b": true, "virt.a": false, "#shared/ü/a": false, "a": false,
	} {
		if n.personal(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if (&namespaces{}).personal("a") {
		t.Error("of namespaces that nobody knows")
	}
	for _, bad := range []string{"", "NIL", "NIL NIL", `((""`, `(("" "/") NIL NIL`, `("") NIL NIL`, `(()) NIL NIL`} {
		if list, ok := parseNamespaces([]byte(bad), false); ok {
			t.Errorf("%s: %+v", bad, list)
		}
	}
}

func FuzzParseNamespaces(f *testing.F) {
	f.Add([]byte(`(("" "/")("virtual/" "/")) NIL (("Shared/" "/"))`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, ok := parseNamespaces(b, false); ok && len(list) > 100 {
			t.Error("unbounded")
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(`N1 (MESSAGES 2 UIDNEXT 3 UNSEEN 2 HIGHESTMODSEQ 3)`))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, _, ok := parseStatus(b, false)
		if ok && name == "" {
			t.Error("a status of nothing")
		}
	})
}

func TestSeverities(t *testing.T) {
	m := &mailbox{}
	for _, c := range []struct {
		err  error
		want severity
	}{
		{&imapclient.Refusal{Verb: "EXAMINE", Status: "NO", Code: "NONEXISTENT"}, ending},
		{&imapclient.Refusal{Verb: "EXAMINE", Status: "NO", Code: "NOPERM"}, ending},
		{&imapclient.Refusal{Verb: "EXAMINE", Status: "NO", Code: "SERVERBUG"}, passing},
		{&imapclient.Refusal{Verb: "EXAMINE", Status: "NO"}, passing},
		{&imapclient.Refusal{Verb: "EXAMINE", Status: "NO"}, ending}, // the second time
		{&imapclient.Refusal{Verb: "EXAMINE", Status: "BAD"}, losing},
		{&imapclient.Refusal{Verb: "UID SEARCH", Status: "NO"}, passing},
		{resync.ErrTooMany, losing},
		{resync.ErrNoModSeq, losing},
		{resync.ErrUnsettled, passing},
		{&imapclient.Broken{Err: errors.New("x")}, passing},
	} {
		if got := m.severityLocked(c.err); got != c.want {
			t.Errorf("%v: %d, not %d", c.err, got, c.want)
		}
	}
}
