package agree

import (
	"testing"
	"time"

	"imapproxy/routing"
)

// A reading that was asked for early, and comes after the watch has had a later one, isn't taken for one of a
// restored state: the proxy would be isolated, close its connections, and wait for a TTL.
func TestAReadingThatComesLate(t *testing.T) {
	a := newAlone(t, Options{Isolated: Hold})
	a.fleet(1, routing.Up, routing.Up)
	a.pass(time.Minute)
	sent := a.now
	early := a.consul.do(Op{Kind: Read})
	early.Sent = sent
	if !a.m.send(forReading, Op{Kind: Read}) {
		t.Fatal("another one is under way")
	}
	ops, _ := a.m.Take()
	if len(ops) != 1 || ops[0].Kind != Read {
		t.Fatalf("%+v", ops)
	}
	a.later(1)
	a.fleet(2, routing.Up, routing.Draining) // the proxy acks it, too
	if a.m.latest.Index <= early.Reading.Index || a.m.own.Acked != a.m.fleet.Epoch {
		t.Fatal("nothing has changed meanwhile")
	}
	a.m.Done(ops[0].ID, early, a.now)
	a.settle()
	if s := a.m.Status(a.now); s.State != "joined" {
		t.Errorf("it is %s", s.State)
	}
	if closed := a.take(CloseAll); len(closed) > 0 {
		t.Error("all connections are closed")
	}
}

// The watch has the reading with this proxy's key before the join's answer comes, the first reading after the join is lost, and
// nothing changes in Consul: the reading is asked for again. Otherwise each login would wait until something changes.
func TestTheReadingAfterAJoinIsLost(t *testing.T) {
	a := newAlone(t, Options{Isolated: Hold})
	lost := 0
	a.answer = func(op Op) Result {
		if op.Kind == Read && a.m.phase == inside {
			lost++
			return Result{Err: errLost}
		}
		r := a.consul.do(op)
		if op.Kind == Write {
			a.m.Read(a.consul.read(false, 0), a.now)
		}
		return r
	}
	a.fleet(1, routing.Up, routing.Up)
	a.later(time.Second)
	if a.m.phase != inside || a.m.view != nil || lost < 2 {
		t.Fatalf("phase %d, a view: %v; %d readings were lost", a.m.phase, a.m.view != nil, lost)
	}
	a.answer = nil
	a.later(time.Second)
	if got := a.m.Claim("user", "", a.now); got.Verdict != Go {
		t.Errorf("a login waits: %s", got.Why)
	}
}
