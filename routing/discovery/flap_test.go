package discovery

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest/consultest"
	"imapproxy/routing"
)

// A backend whose check comes and goes is used again once it has been well for a while.
func TestACheckThatFlapsIsDamped(t *testing.T) {
	a := consultest.Start(t)
	for _, id := range []string{"b1", "b2", "b3"} {
		a.Register(instance(id))
	}
	tel, log := logged(t)
	var late atomic.Int64 // how far the router's clock is ahead
	router, err := routing.New(routing.Options{Storage: routing.Shared, FlapDamp: time.Hour, Telemetry: tel,
		Now: func() time.Time { return time.Now().Add(time.Duration(late.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewConsul(ConsulOptions{Address: a.Address(), Service: "imap"}, tel)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	background(t, func(ctx context.Context) error {
		return c.Run(ctx, func(s routing.Snapshot) { router.Apply(s); r.apply(s) })
	})
	r.waitFleet(t, "b1 b2 b3")
	for _, want := range []string{"b1 b2 b3", "b1 b2=draining b3", "b1 b2=draining b3"} {
		a.TTL("service:b2", "critical")
		r.waitFleet(t, "b1 b2=down b3")
		a.TTL("service:b2", "passing")
		r.waitFleet(t, "b1 b2 b3")
		if got := fleetOf(router); got != want {
			t.Errorf("the fleet is %q, want %q", got, want)
		}
	}
	log.wait(t, "backend flaps, and gets no new users")
	if b := router.Backends()[1]; !b.Damped || b.Flaps != 3 {
		t.Errorf("it is shown as %+v", b)
	}
	late.Store(int64(time.Hour))
	router.Settle()
	if got := fleetOf(router); got != "b1 b2 b3" {
		t.Errorf("after an hour the fleet is %q", got)
	}
}
