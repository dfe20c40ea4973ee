package agree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"imapproxy/routing"
)

// stage is a world without chance faults, in which a test says what happens.
type stage struct {
	*world
	t *testing.T
}

// newStage starts three proxies, which join.
func newStage(t *testing.T, without rule, driver driverRule) *stage {
	t.Helper()
	s := &stage{newWorld(30, Hold, without, driver), t}
	s.quiet, s.oneTime, s.endless, s.busy = true, true, make(map[string]bool), make(map[string]bool)
	s.nodes = s.nodes[:3]
	for _, n := range s.nodes {
		n.start()
		n.m.o.AgreeWithin = 3 * time.Second // a turn is longer than the time for which writes are gathered
	}
	s.pass(5 * time.Second)
	for _, n := range s.nodes {
		if n.m.phase != inside {
			t.Fatalf("%s hasn't joined", n.id())
		}
	}
	return s
}

func (s *stage) pass(d time.Duration) { s.until(s.now + d) }

// state has discovery call a backend something, at all proxies.
func (s *stage) state(id string, state routing.State) {
	i := slices.IndexFunc(s.backends, func(b routing.Backend) bool { return b.ID == id })
	s.backends[i].State = state
	s.discovery++
	for _, n := range s.nodes {
		n.later(0, n.discover)
	}
}

// login makes a connection that lasts until the proxy lets go of the user. It returns where, or "" if the claim
// isn't granted now.
func (s *stage) login(n *node, user string) (at string) {
	if a := n.m.Claim(user, "", n.clock()); a.Verdict == Go {
		at = a.Backend
		c := &conn{node: n, backend: at}
		n.conns[user], s.conns[user] = append(n.conns[user], c), append(s.conns[user], c)
		s.check(user)
	}
	n.flush()
	return at
}

// patient is how long a stage waits for what has to happen: longer than it takes until a proxy is taken for dead, and
// several rounds of moves.
const patient = 2 * time.Minute

// serves waits until a login is served.
func (s *stage) serves(n *node, user string) (at string) {
	s.t.Helper()
	for end := s.now + patient; at == "" && s.now < end && s.err == nil; s.pass(50 * time.Millisecond) {
		at = s.login(n, user)
	}
	return at
}

// leave ends a user's connections at a proxy.
func (s *stage) leave(n *node, user string) {
	for _, c := range slices.Clone(n.conns[user]) {
		n.end(user, c, 0)
	}
	s.pass(50 * time.Millisecond)
}

// bucketmate returns another user of the user's bucket.
func (s *stage) bucketmate(user string) string {
	m := s.nodes[0].m
	for _, other := range s.users {
		if other != user && m.bucket(other) == m.bucket(user) {
			return other
		}
	}
	s.t.Fatalf("nobody shares the bucket of %s", user)
	return ""
}

var (
	errStays = errors.New("the user never moves")
	errWaits = errors.New("the login waits for ever")
)

// Fleets send a user to x, to y and to x again. A proxy that has the user at x doesn't see the second fleet, and another
// one sees the third only when the first has acked it. (In the product a reading and the switch to its fleet are one
// event.)
func aFleetThatIsTakenBack(s *stage) error {
	user, slow, late := s.users[0], s.nodes[1], s.nodes[0]
	was := s.serves(slow, user)
	slow.cut = s.now + time.Hour
	s.state(was, routing.Draining)
	s.pass(3 * time.Second)
	late.cut = s.now + time.Hour
	s.state(was, routing.Up)
	s.pass(3 * time.Second)
	slow.cut = 0
	s.pass(1500 * time.Millisecond)
	late.cut = 0
	if slow.m.own.Acked != late.m.own.Acked+1 {
		return fmt.Errorf("the fleets acked are %d and %d", slow.m.own.Acked, late.m.own.Acked)
	}
	if s.serves(late, user) == "" {
		return errWaits
	}
	return nil
}

// A proxy starts, and its first write reaches Consul when two further fleets have been made.
func aLateJoin(s *stage) error {
	n := s.nodes[0]
	n.crash(40 * time.Second) // by then the others have removed its key
	s.pass(40 * time.Second)
	n.slow = 2300 * time.Millisecond
	for end := s.now + patient; !n.up || !n.m.busy[forJoin]; s.pass(10 * time.Millisecond) {
		if s.now > end {
			return errWaits
		}
	}
	epoch := s.nodes[1].m.fleet.Epoch
	for i, b := range s.backends[:2] {
		s.pass(time.Duration(i) * time.Second)
		s.state(b.ID, routing.Draining)
	}
	s.pass(1100 * time.Millisecond)
	if now := s.nodes[1].m.own.Acked; now != epoch+2 || n.m.phase == inside {
		return fmt.Errorf("the fleet was %d, and is %d", epoch, now)
	}
	s.login(s.nodes[1], s.users[0])
	n.slow = 0
	if s.serves(n, s.users[0]) == "" {
		return errWaits
	}
	return nil
}

// The backend of a user has lost its power: the end of the connection never comes.
func aBackendWithoutPower(s *stage) error {
	user, was := s.users[0], s.serves(s.nodes[0], s.users[0])
	s.endless[was] = true
	s.state(was, routing.Down)
	s.pass(3 * time.Second)
	switch at := s.serves(s.nodes[1], user); at {
	case "":
		return errWaits
	case was:
		return errStays
	}
	return nil
}

// A session with a long FETCH can't be parked, and another user of its bucket comes and goes.
func aBusySession(s *stage) error {
	busy := s.users[0]
	other, was := s.bucketmate(busy), s.serves(s.nodes[0], busy)
	s.busy[busy] = true
	s.state(was, routing.Draining)
	for end := s.now + patient; s.now < end; s.pass(time.Second) {
		if at := s.serves(s.nodes[1], other); at != was {
			return nil
		}
		s.leave(s.nodes[1], other)
	}
	return errStays
}

// A proxy is dead, and the others wait until they may take it for that. Meanwhile a backend is drained: its users are served
// where they are, also those who log out and in again, and leave once the others have agreed.
func aDeadProxy(s *stage) error {
	user, n := s.users[0], s.nodes[0]
	was := s.serves(n, user)
	s.nodes[2].crash(time.Hour)
	s.state(was, routing.Draining)
	s.pass(time.Second)
	waits := time.Duration(0)
	for end, leave := s.now+patient, s.now+5*time.Second; s.now < end; s.pass(100 * time.Millisecond) {
		if len(n.conns[user]) > 0 && s.now > leave {
			s.leave(n, user)
			leave = s.now + 5*time.Second
		}
		at := was
		if len(n.conns[user]) == 0 {
			at = s.login(n, user)
		}
		switch waits += 100 * time.Millisecond; {
		case at == "" && waits > 3*time.Second+3*time.Second/4:
			return errWaits
		case at == was:
			waits = 0
		case at != "":
			return nil
		}
	}
	return errStays
}

// A user has three sessions at each of two proxies, and a session whose connection has ended claims again at once.
func sessionsThatComeBack(s *stage) error {
	user, drained := s.users[0], false
	was := s.serves(s.nodes[0], user)
	for end := s.now + patient; s.now < end; s.pass(10 * time.Millisecond) {
		for _, n := range s.nodes[:2] {
			if len(n.conns[user]) == 3 {
				continue
			}
			if at := s.login(n, user); at != "" && at != was {
				return nil
			}
		}
		if !drained && len(s.conns[user]) == 6 {
			s.state(was, routing.Draining)
			drained = true
		}
	}
	return errStays
}

// A proxy renews its session, and Consul refuses its writes.
func aProxyThatMayNotWrite(s *stage) error {
	user := s.users[0]
	was := s.serves(s.nodes[1], user)
	s.leave(s.nodes[1], user)
	s.nodes[0].readOnly = true
	s.state(was, routing.Draining)
	s.pass(3 * time.Second)
	if s.serves(s.nodes[1], user) == "" {
		return errWaits
	}
	return nil
}

// A proxy that is cut off has a session with a long FETCH, no client sends it a command, and its session in Consul is
// destroyed: the others may move its users a TTL later.
func aProxyWithoutCommands(s *stage) error {
	n, user := s.nodes[0], s.users[0]
	was := s.serves(n, user)
	for renewed := n.m.renewed; renewed.Equal(n.m.renewed); {
		s.pass(50 * time.Millisecond)
	}
	n.cut = s.now + time.Hour
	s.consul.destroy(n.m.session)
	s.state(was, routing.Draining)
	s.pass(3 * time.Second)
	if s.serves(s.nodes[1], user) == "" {
		return errWaits
	}
	return nil
}

// What a stage shows: the invariant is broken, or a user waits or stays for ever.
const (
	twoBackends = "is on b"
	restored    = "takes Consul's state for a restored one"
	nothing     = ""
)

// A client gives up while its proxy follows another proxy's stay: the stay has no connection, and is let go of.
func TestAStayThatNoClientCameForIsLetGo(t *testing.T) {
	s := newStage(t, 0, 0)
	user, n := s.users[0], s.nodes[1]
	was := s.serves(s.nodes[0], user)
	s.serves(n, user)
	s.busy[user] = true
	s.state(was, routing.Draining)
	stays := func() int { return len(n.m.own.Buckets) + len(n.m.own.Users) }
	wait := func(what string, until func() bool) {
		for end := s.now + patient; !until(); s.pass(10 * time.Millisecond) {
			if s.now > end {
				t.Fatalf("%s; its stays are %v, %v", what, n.m.own.Buckets, n.m.own.Users)
			}
		}
	}
	wait("the busy user isn't named", func() bool { return s.nodes[0].m.own.Users[user] != "" && n.m.own.Users[user] != "" })
	epoch := n.m.own.Acked
	s.state(s.backends[slices.IndexFunc(s.backends, func(b routing.Backend) bool { return b.ID != was })].ID, routing.Draining)
	wait("there is no other fleet", func() bool { return n.m.own.Acked > epoch })
	s.leave(n, user)
	wait("the proxy keeps its stay", func() bool { return stays() == 0 })
	wait("the other proxy's stay isn't followed", func() bool {
		n.m.Claim(user, "", n.clock())
		n.flush()
		return len(n.m.wants) > 0 && stays() > 0
	})
	wait("the stay isn't let go of", func() bool { return stays() == 0 })
}

// A backend has lost its power, and all proxies know it. Then a proxy dies, and a fleet is made that moves other users: those of the lost backend
// don't wait until the dead proxy is taken for that.
func TestAFleetThatMovesOthersDelaysNoUser(t *testing.T) {
	s := newStage(t, 0, 0)
	user, n := s.users[0], s.nodes[0]
	was := s.serves(n, user)
	s.endless[was] = true
	s.state(was, routing.Down)
	s.pass(time.Second)
	choice := n.m.places.ids[n.m.tables[len(n.m.tables)-1].choice[n.m.bucket(user)]]
	s.nodes[2].crash(time.Hour)
	epoch := n.m.fleet.Epoch
	s.state(s.backends[slices.IndexFunc(s.backends, func(b routing.Backend) bool { return b.ID != was && b.ID != choice })].ID, routing.Draining)
	at := ""
	for end := s.now + simTTL; at == "" && s.now < end && s.err == nil; s.pass(50 * time.Millisecond) { // a dead proxy counts for longer
		at = s.login(s.nodes[1], user)
	}
	if s.err != nil || at != choice || n.m.fleet.Epoch == epoch || n.m.view.proxy(s.nodes[2].id()) == nil {
		t.Errorf("the user is at %q, not %q; fleet %d after %d; %v", at, choice, n.m.fleet.Epoch, epoch, s.err)
	}
}

// Rules that chance rarely needs, or without which a user waits or stays for ever: each stage ends well with
// all rules, and not without its rule. B alone isn't needed for the invariant, since A covers it: without B a proxy that
// joins with an old fleet gives its users up, and joins again.
func TestStagesMissTheirRules(t *testing.T) {
	for _, c := range []struct {
		name    string
		play    func(*stage) error
		without rule
		driver  driverRule
		shows   string
	}{
		{"A good readings", aFleetThatIsTakenBack, 0, driverGood, twoBackends},
		{"B joins with the newest fleet", aLateJoin, ruleJoin, 0, restored},
		{"A, where B matters", aLateJoin, 0, driverGood, nothing},
		{"A and B", aLateJoin, ruleJoin, driverGood, twoBackends},
		{"F an abort counts as the end", aBackendWithoutPower, ruleAbort, 0, errWaits.Error()},
		{"G few users are named", aBusySession, ruleFew, 0, errStays.Error()},
		{"G claims wait in a turn", sessionsThatComeBack, ruleTurn, 0, errStays.Error()},
		{"G no turn before all agree", aDeadProxy, ruleTogether, 0, errWaits.Error()},
		{"H no renewals without acks", aProxyThatMayNotWrite, ruleStuck, 0, errWaits.Error()},
		{"J a timer closes all", aProxyWithoutCommands, 0, driverTimer, twoBackends},
		{"J all are closed", aProxyWithoutCommands, ruleClose, 0, twoBackends},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, 0, 0)
			if err := s.ends(c.play); err != nil {
				t.Fatalf("with all rules: %v", err)
			}
			switch err := newStage(t, c.without, c.driver).ends(c.play); {
			case c.shows == nothing && err == nil:
			case err == nil || c.shows == nothing || !strings.Contains(err.Error(), c.shows):
				t.Fatalf("%v; not: %q", err, c.shows)
			default:
				t.Log(err)
			}
		})
	}
}

// ends returns what a stage has shown.
func (s *stage) ends(play func(*stage) error) error {
	err := play(s)
	if s.err != nil {
		return s.err
	}
	return err
}
