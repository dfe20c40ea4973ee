package auth

import (
	"context"
	"net/netip"
	"runtime"
	"testing"
)

// One network's guesses that wait don't stand before another network's login.
func TestAGuessersQueueDelaysOtherNetworksByOneHash(t *testing.T) {
	const guesses = 150
	h := NewHashing(1)
	guesser, customer := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.9")
	hash := make(chan struct{}) // each receive lets one hash end
	order := make(chan netip.Addr, guesses+1)
	start := func(from netip.Addr) {
		go func() {
			_, err := h.do(context.Background(), from, func() bool {
				order <- from
				<-hash
				return false
			})
			if err != nil {
				t.Error(err)
			}
		}()
	}
	waits := func(n int) {
		for {
			if _, waiting := h.queue.Stats(); waiting == n {
				return
			}
			runtime.Gosched()
		}
	}
	start(guesser)
	<-order // it is being hashed
	for range guesses {
		start(guesser)
	}
	waits(guesses)
	start(customer)
	waits(guesses + 1)
	hash <- struct{}{}
	first := <-order // the guesser's turn was before
	hash <- struct{}{}
	if second := <-order; first != guesser || second != customer {
		t.Fatalf("hashed for %s and %s: the customer waits behind the guesses", first, second)
	}
	close(hash)
	for range guesses - 1 {
		<-order
	}
}
