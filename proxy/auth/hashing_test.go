package auth

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"testing"
)

// slowHashes is a Hashing of one at a time, whose hashes end when the test says so.
type slowHashes struct {
	*Hashing
	t     *testing.T
	hash  chan struct{} // each receive lets one hash end
	order chan netip.Addr
}

func newSlowHashes(t *testing.T) *slowHashes {
	return &slowHashes{Hashing: NewHashing(1), t: t, hash: make(chan struct{}), order: make(chan netip.Addr, 1000)}
}

func (h *slowHashes) start(from netip.Addr, known bool) {
	go func() {
		_, err := h.do(context.Background(), from, known, nil, func() bool {
			h.order <- from
			<-h.hash
			return false
		})
		if err != nil {
			h.t.Error(err)
		}
	}()
}

// waits returns when so many wait.
func (h *slowHashes) waits(n int) {
	for {
		if _, waiting := h.queue.Stats(); waiting == n {
			return
		}
		runtime.Gosched()
	}
}

// One network's guesses that wait don't stand before another network's login.
func TestAGuessersQueueDelaysOtherNetworksByOneHash(t *testing.T) {
	const guesses = 150
	h := newSlowHashes(t)
	guesser, customer := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.9")
	h.start(guesser, false)
	<-h.order // it is being hashed
	for range guesses {
		h.start(guesser, false)
	}
	h.waits(guesses)
	h.start(customer, false)
	h.waits(guesses + 1)
	h.hash <- struct{}{}
	first := <-h.order // the guesser's turn was before
	h.hash <- struct{}{}
	if second := <-h.order; first != guesser || second != customer {
		t.Fatalf("hashed for %s and %s: the customer waits behind the guesses", first, second)
	}
	close(h.hash)
	for range guesses - 1 {
		<-h.order
	}
}

// However many networks guess, one from which a user has logged in waits for one hash. Two of those
// don't have the others wait for all of theirs.
func TestKnownNetworksAndOthersTakeTurnsAtHashing(t *testing.T) {
	const guessers = 100
	h := newSlowHashes(t)
	customer := netip.MustParseAddr("203.0.113.9")
	for i := range guessers {
		h.start(netip.AddrFrom4([4]byte{198, 18, byte(i), 7}), false)
		h.waits(i)
	}
	<-h.order
	for range 3 {
		h.start(customer, true)
	}
	h.waits(guessers - 1 + 3)
	var served []bool
	for range 6 {
		h.hash <- struct{}{}
		served = append(served, <-h.order == customer)
	}
	if want := []bool{true, false, true, false, true, false}; !slices.Equal(served, want) {
		t.Errorf("hashed for the customer: %v", served)
	}
	close(h.hash)
	for range guessers - 4 {
		<-h.order
	}
}
