package park

import (
	"sync"
	"sync/atomic"
	"testing"

	"imapproxy/proxy/park/view"
)

// A mailbox whose watch becomes another one while a round of it is under way: the next waits
// for that, or the older state would be applied on top of the newer.
func TestRoundsDontOverlapWhenTheWatchChanges(t *testing.T) {
	b := newFake(t, modernCaps+" NOTIFY")
	h, c := newHub(t, HubOptions{Watch: "notify"})
	s, m := parked(t, h, b, b.account(), "INBOX", view.Plain)
	entered, resume := make(chan struct{}), make(chan struct{})
	late := sync.OnceFunc(func() { close(resume) })
	defer late()
	var first atomic.Bool
	m.onApply = func() {
		if first.CompareAndSwap(false, true) {
			close(entered)
			<-resume
		}
	}
	b.deliver("INBOX")
	<-entered // with a state of 4
	b.change(func() {
		b.mute = true
		b.boxes["INBOX"].Append()
		b.refuse["NOTIFY"] = "NO [NOTIFICATIONOVERFLOW] no more"
	})
	c.pass(2 * DefaultNotifyRenewEvery)
	eventually(t, "IDLE", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return s.m.kind == WatchIdle && s.m.phase == working
	})
	late()
	m.until("both", func() bool { return m.states == 2 })
	m.counts(5)
	m.converged(b.truth("INBOX"))
	eventually(t, "settled", s.Settled)
}
