package session

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"imapproxy/internal/fair"
)

// A queue that is made while the settings change ends up with the new settings.
func TestAQueueThatIsMadeDuringAReloadHasItsSettings(t *testing.T) {
	var network netip.Prefix
	for range 200 {
		q := NewQueues(&Settings{Limits: Limits{UnprovedLogins: 4}, Park: ParkOptions{ResumeConcurrency: 4}})
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				q.unprovedAt(unprovedPlaces{backend: fmt.Sprint(i)})
				q.resumesAt(fmt.Sprint(i))
			})
		}
		q.Set(&Settings{Limits: Limits{UnprovedLogins: 8}, Park: ParkOptions{ResumeConcurrency: 8}})
		all.Wait()
		for at, u := range q.unproved {
			if n := slots(u, network); n != 2 { // a network's quarter of the slots
				t.Fatalf("a network has %d logins at a time at backend %s", n, at.backend)
			}
		}
		for id, r := range q.resumes {
			if n := slots(r.turns, "alice"); n != 2 {
				t.Fatalf("a user has %d resumes at a time at backend %s", n, id)
			}
		}
	}
}

// slots returns how many slots of a queue one key may have.
func slots[K comparable](q *fair.Queue[K], key K) (n int) {
	for q.TryAcquire(key) {
		n++
	}
	return n
}

// A backend that is gone leaves no queues behind, once they are unused.
func TestQueuesOfBackendsThatAreGoneAreForgotten(t *testing.T) {
	q := NewQueues(&Settings{})
	forget := func() { q.Forget(func(backend string) bool { return backend != "b1" }) }
	there := q.unprovedAt(unprovedPlaces{backend: "b1"})
	busy := unprovedPlaces{backend: "gone"}
	if !q.unprovedAt(busy).TryAcquire(netip.Prefix{}) || !q.resumesAt("gone").turns.TryAcquire("bob") {
		t.Fatal("no slot")
	}
	q.resumesAt("gone too")
	forget()
	if q.unprovedAt(unprovedPlaces{backend: "b1"}) != there {
		t.Error("the queue of a backend that is there is forgotten")
	}
	if u, r := len(q.unproved), len(q.resumes); u != 2 || r != 1 {
		t.Errorf("%d and %d queues while two are in use", u, r)
	}
	q.unprovedAt(busy).Release(netip.Prefix{})
	q.resumesAt("gone").turns.Release("bob")
	forget()
	for at := range q.unproved {
		if at.backend != "b1" {
			t.Errorf("logins at %s are remembered", at.backend)
		}
	}
	for id := range q.resumes {
		t.Errorf("resumes at %s are remembered", id)
	}
}
