package session

import (
	"net/netip"
	"testing"

	"imapproxy/telemetry"
)

// among counts how often a sweep of n Shards finds each session.
func among(r *Registry, first, n int) map[*Session]int {
	found := map[*Session]int{}
	r.Some(func(shard int) bool { return (shard-first+Shards)%Shards < n }, func(s *Session) { found[s]++ })
	return found
}

func TestASweepLooksAtTheParkedInTurnAndAtTheOthersAlways(t *testing.T) {
	r := NewRegistry()
	env := &Env{Registry: r, Telemetry: telemetry.Discard()}
	var parked, busy []*Session
	for i := range 400 {
		s := &Session{id: newID(), env: env}
		r.add(s)
		s.show(Attached)
		if busy = append(busy, s); i%2 == 0 {
			s.show(Parking)
			s.show(Parked)
			parked, busy = append(parked, s), busy[:len(busy)-1]
		}
	}
	seen := map[*Session]int{}
	for first := 0; first < Shards; first += 16 {
		found := among(r, first, 16)
		for _, s := range busy {
			if found[s] != 1 {
				t.Fatalf("a busy session was found %d times", found[s])
			}
		}
		for _, s := range parked {
			seen[s] += found[s]
		}
	}
	for _, s := range parked {
		if seen[s] != 1 {
			t.Fatalf("a parked session was found %d times in a round", seen[s])
		}
	}
	for _, s := range parked {
		s.show(Resuming)
	}
	if found := among(r, 0, 0); len(found) != 400 {
		t.Errorf("%d of 400 that aren't parked any more are found", len(found))
	}
}

func TestASessionThatEndsWhileItIsBeingParkedIsBusy(t *testing.T) {
	r := NewRegistry()
	s := &Session{id: newID(), env: &Env{Registry: r, Telemetry: telemetry.Discard()}}
	r.add(s)
	s.show(Parking)
	s.attachment.Store(uint32(Parked)) // one goroutine is about to report Parked
	s.show(Ended)                      // another one ends the session
	r.moved(s, Parking, Parked)        // and the first one reports
	if found := among(r, 0, 0); found[s] != 1 {
		t.Error("it isn't looked at")
	}
	r.remove(s)
	r.moved(s, Parked, Ended)
	if found := among(r, 0, Shards); len(found) != 0 {
		t.Error("it came back")
	}
}

// One goroutine ends a session and another removes it: the attachment before the end is known as soon as the
// session has ended.
func TestWhoSeesThatASessionHasEndedKnowsAsWhat(t *testing.T) {
	env := &Env{Registry: NewRegistry(), Telemetry: telemetry.Discard()}
	for range 20_000 {
		s := &Session{id: newID(), env: env}
		s.show(Attached)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.show(Ended)
		}()
		for s.Attachment() != Ended {
		}
		if was := Attachment(s.endedAs.Load()); was != Attached {
			t.Fatalf("an attached session has ended as %s", was)
		}
		<-done
	}
}

func TestWhatCountsAsOneAddress(t *testing.T) {
	for a, b := range map[string]string{
		"192.0.2.1":    "::ffff:192.0.2.1",
		"2001:db8::1":  "2001:db8::ffff:2",
		"fe80::1%eth0": "fe80::2%eth1",
	} {
		if limitKey(netip.MustParseAddr(a)) != limitKey(netip.MustParseAddr(b)) {
			t.Errorf("%s and %s are two", a, b)
		}
	}
	for a, b := range map[string]string{"192.0.2.1": "192.0.2.2", "2001:db8:0:1::1": "2001:db8:0:2::1", "::1": "127.0.0.1"} {
		if limitKey(netip.MustParseAddr(a)) == limitKey(netip.MustParseAddr(b)) {
			t.Errorf("%s and %s are one", a, b)
		}
	}
}
