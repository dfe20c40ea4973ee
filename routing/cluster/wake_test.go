package cluster

import (
	"testing"
	"time"

	"imapproxy/routing"
	"imapproxy/routing/agree"
)

// While many claims wait, each change doesn't make all of them again: logins would wait for the lock. None is
// forgotten.
func TestManyClaimsAreMadeAgainNowAndThen(t *testing.T) {
	c, err := New(Options{Service: "imapproxy", Switched: func(*agree.Fleet) {}, LetGo: func(agree.Effect) {},
		Member: agree.Options{ID: "a", Storage: routing.Shared, Users: "lower"}})
	if err != nil {
		t.Fatal(err)
	}
	change := func() <-chan struct{} {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := c.changed
		c.version++ // so that the Member's is another one
		c.after()
		return was
	}
	closed := func(woken <-chan struct{}) bool {
		select {
		case <-woken:
			return true
		default:
			return false
		}
	}
	for _, few := range []int64{0, wakeFew} {
		c.waiting.Store(few)
		for range 2 {
			if !closed(change()) {
				t.Errorf("%d wait, and aren't woken at once", few)
			}
		}
	}
	c.waiting.Store(10000)
	begin, times := time.Now(), 0
	const changes = 1000
	var last <-chan struct{}
	for range changes {
		if last = change(); closed(last) {
			times++
		}
	}
	if most := 2 + 2*int(time.Since(begin)/wakeEvery); times > min(most, changes-1) {
		t.Errorf("woken %d times in %d changes", times, changes)
	}
	<-last // those who wait for the last change
}
