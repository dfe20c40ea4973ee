package proxy

import (
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/routing"
)

// A backend that is registered with another address or port is the same one: a session that was
// parked before comes back at the new address, and keeps its backend.
func TestAParkedSessionResumesAtItsBackendsNewAddress(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	c := p.idle("SELECT INBOX")
	elsewhere := imaptest.NewTap(t, p.backends[0].Addr)
	resumed := elsewhere.Once("SELECT", func() {})
	p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{
		{ID: "b1", Name: "renamed", Address: elsewhere.Addr, Weight: 100}}})
	p.opts.Park.Pool.ForgetUser("alice")
	done(c)
	c.MustOK("UID FETCH 1:* (FLAGS)")
	select {
	case <-resumed:
	default:
		t.Error("it has come back at the address of before")
	}
	for _, name := range []string{"b1", "renamed"} {
		if page, _ := p.srv.Sessions(Filter{Backend: name}); len(page) != 1 || page[0].Backend != "renamed" {
			t.Errorf("by %s it is listed as %+v", name, page)
		}
	}
	if page, _ := p.srv.Sessions(Filter{Backend: "b2"}); len(page) != 0 {
		t.Errorf("another backend has %+v", page)
	}
}
