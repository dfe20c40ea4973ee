package guessing_test

import (
	"fmt"
	"net/netip"
	"time"

	"imapproxy/proxy/guessing"
)

// Guesses make later ones wait. The user, at an address of which the password was right before, doesn't.
func ExampleGuard() {
	guard := guessing.New(guessing.Options{})
	rules := guessing.Rules{Delay: time.Second, Longest: 15 * time.Second}
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	home, elsewhere := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")

	guard.Begin(now, rules, home, "alice", "right").Right(now)
	var longest time.Duration
	for i := range 100 {
		guess := guard.Begin(now, rules, elsewhere, "alice", fmt.Sprint("guess ", i))
		longest = max(longest, guess.Wait)
		guess.Wrong(now)
	}
	fmt.Println("a guess waits up to", longest)
	fmt.Println("alice waits", guard.Begin(now, rules, home, "alice", "right").Wait)
	// Output:
	// a guess waits up to 15s
	// alice waits 0s
}
