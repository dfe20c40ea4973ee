package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// What a backend takes is learnt from refusals for want of room alone: who makes a backend
// close by what they send as a login has a few waiting connections closed, no more.
func TestOnlyARefusalForWantOfRoomTeaches(t *testing.T) {
	now := time.Now()
	r, waiting := waitingRoom(RoomOptions{Now: func() time.Time { return now }}, 40)
	if !r.Refused("b1", false) || r.Status("b1").Learnt != 0 || *waiting != 35 {
		t.Errorf("uncertain: %+v, %d wait", r.Status("b1"), *waiting)
	}
	if !r.Refused("b1", true) || r.Status("b1").Learnt != 35 || r.Status("b1").Bound >= 35 {
		t.Errorf("certain: %+v", r.Status("b1"))
	}
	bound := r.Status("b1").Bound
	now = now.Add(roomRaiseEvery)
	if b := r.Status("b1"); r.Status("b1").Bound <= bound {
		t.Errorf("it doesn't rise: %+v", b)
	}
	now = now.Add(100 * roomRaiseEvery)
	if b := r.Status("b1"); b.Learnt != 0 || b.Bound != 0 {
		t.Errorf("it isn't forgotten: %+v", b)
	}
	*waiting = 0
	if r.Refused("b1", true) || r.Status("b1").Learnt != 0 {
		t.Error("it learns from a backend that nothing of the proxy's fills")
	}
}

// When the process's last descriptors are kept for others, a login takes that of a connection that
// waits; without one it is refused, for which the backend isn't blamed. Probes are made.
func TestTheLastDescriptorsAreKept(t *testing.T) {
	target := Target{ID: "b1", Address: answersAll(t).addr}
	d, room, pool := oneThatWaits(t, target)
	room.Keeps(func(connections int) bool { return connections > 1 })
	c, err := d.Login(t.Context(), target, alice, Client{})
	if err != nil || pool.Len() != 0 {
		t.Fatalf("with a connection that waits: %v; %d wait still", err, pool.Len())
	}
	_, err = d.Login(t.Context(), target, Auth{User: "carol", Password: "secret"}, Client{})
	var own *Unavailable
	if !errors.As(err, &own) || own.Fault() != FaultOwn || own.BackendDown() {
		t.Errorf("without one: %v", err)
	}
	if _, err := d.Probe(t.Context(), target); err != nil {
		t.Errorf("a probe: %v", err)
	}
	_ = c.Close()
	c, err = d.Login(t.Context(), target, alice, Client{})
	if err != nil {
		t.Fatalf("after a connection was closed: %v", err)
	}
	_ = c.Close()
}

// answersAll is a backend that answers every command with OK.
func answersAll(t *testing.T) *fakeBackend {
	t.Helper()
	return serve(t, func(c net.Conn) error {
		fmt.Fprint(c, "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			tag, _, _ := strings.Cut(lines.Text(), " ")
			fmt.Fprintf(c, "%s OK [CAPABILITY IMAP4rev1] done\r\n", tag)
		}
		return nil
	})
}

// oneThatWaits is a Dialer with a Room, and a pool that holds one connection of bob's.
func oneThatWaits(t *testing.T, target Target) (*Dialer, *Room, *Pool) {
	t.Helper()
	room := NewRoom(RoomOptions{})
	pool := NewPool(PoolOptions{WarmFor: time.Hour, Room: room})
	t.Cleanup(pool.Close)
	d := newDialer(t, Options{Room: room})
	bob := Auth{User: "bob", Password: "secret"}
	waits, err := d.Login(t.Context(), target, bob, Client{})
	if err != nil || !pool.Give(pool.Key("bob", target, bob, UseSession, ""), waits, Condition{}) {
		t.Fatal("the pool has none:", err)
	}
	return d, room, pool
}
