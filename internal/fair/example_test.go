package fair_test

import (
	"context"
	"fmt"
	"net/netip"

	"imapproxy/internal/fair"
)

// One of two slots is all that a single network gets.
func ExampleQueue() {
	hashing := fair.NewQueue[netip.Prefix](fair.Options{Slots: 2, PerKey: 1})
	guesser := fair.Network(netip.MustParseAddr("192.0.2.77"))
	user := fair.Network(netip.MustParseAddr("198.51.100.4"))

	fmt.Println("guesser:", hashing.TryAcquire(guesser))
	fmt.Println("guesser again:", hashing.TryAcquire(guesser))
	fmt.Println("user:", hashing.Acquire(context.Background(), user))
	hashing.Release(guesser)
	hashing.Release(user)
	// Output:
	// guesser: true
	// guesser again: false
	// user: <nil>
}
