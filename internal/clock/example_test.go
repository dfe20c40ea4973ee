package clock_test

import (
	"fmt"
	"sync/atomic"
	"time"

	"imapproxy/internal/clock"
)

// A session keeps the instant at which its client was last heard from, without a lock.
func Example() {
	var lastHeard atomic.Int64
	now := time.Now()
	lastHeard.Store(clock.Of(now))

	later := now.Add(3 * time.Second)
	fmt.Println("silent for", later.Sub(clock.At(lastHeard.Load())))
	// Output: silent for 3s
}
