package proxy

import (
	"testing"
	"time"

	"imapproxy/proxy/session"
	"imapproxy/routing"
)

// The user's other session is at a backend that isn't listed any more, so that this one can't follow: it waits as long as any resume does, and ends.
func TestASessionThatCantFollowEnds(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.ResumeWithin = 300 * time.Millisecond })
	b1 := routing.Backend{ID: "b1", Address: p.backends[0].Addr, Weight: 100}
	b2 := routing.Backend{ID: "b2", Address: p.backends[0].Addr, Weight: 100}
	c := p.away("alice", "INBOX")
	p.srv.sweeping.Lock() // the server's own sweep would have the session follow before b2 is gone
	defer p.srv.sweeping.Unlock()
	p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{b1, b2}})
	other, err := p.router.Pick("alice", "", "b1")
	must(t, err)
	if !other.Confirm() {
		t.Fatal("the user isn't moved")
	}
	defer other.Release()
	p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{b1}})
	c.Write("DONE", "u UID FETCH 1 (UID)")
	_ = everything(c)
	must(t, c.Conn.Close())
	p.ended(session.ReasonBackendLost)
}
