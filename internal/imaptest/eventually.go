package imaptest

import (
	"testing"
	"time"
)

// Eventually waits until ok returns true, which it calls every few milliseconds. After DefaultTimeout the test fails;
// what names the event in the message. Use it only where no event can be waited for.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(DefaultTimeout)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s for %s", DefaultTimeout, what)
		}
	}
}
