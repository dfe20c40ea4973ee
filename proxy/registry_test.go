package proxy

import (
	"testing"
)

// among counts how often a sweep of n shards finds each session.
func among(r *registry, first, n int) map[*Session]int {
	found := map[*Session]int{}
	r.some(func(shard int) bool { return (shard-first+shards)%shards < n }, func(s *Session) { found[s]++ })
	return found
}

func TestASweepLooksAtTheParkedInTurnAndAtTheOthersAlways(t *testing.T) {
	r := newRegistry()
	srv := &Server{reg: r}
	var parked, busy []*Session
	for i := range 400 {
		s := &Session{id: newID(), srv: srv}
		r.add(s)
		s.show(Attached)
		if busy = append(busy, s); i%2 == 0 {
			s.show(Parking)
			s.show(Parked)
			parked, busy = append(parked, s), busy[:len(busy)-1]
		}
	}
	seen := map[*Session]int{}
	for first := 0; first < shards; first += 16 {
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
	r := newRegistry()
	s := &Session{id: newID(), srv: &Server{reg: r}}
	r.add(s)
	s.show(Parking)
	s.attachment.Store(uint32(Parked)) // one is about to tell of Parked
	s.show(Ended)                      // another ends it
	r.moved(s, Parking, Parked)        // and the first tells
	if found := among(r, 0, 0); found[s] != 1 {
		t.Error("it isn't looked at")
	}
	r.remove(s)
	r.moved(s, Parked, Ended)
	if found := among(r, 0, shards); len(found) != 0 {
		t.Error("it came back")
	}
}

// A session is ended by one goroutine and gone by another: what it was before is known as soon as it
// has ended.
func TestWhoSeesThatASessionHasEndedKnowsAsWhat(t *testing.T) {
	srv := &Server{reg: newRegistry()}
	for range 20_000 {
		s := &Session{id: newID(), srv: srv}
		s.show(Attached)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.show(Ended)
		}()
		for Attachment(s.attachment.Load()) != Ended {
		}
		if was := Attachment(s.endedAs.Load()); was != Attached {
			t.Fatalf("an attached session has ended as %s", was)
		}
		<-done
	}
}
