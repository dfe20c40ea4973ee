package park

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// drain takes what waits, in order.
func drain(t testing.TB, q *HintQueue) []Hint {
	t.Helper()
	var hints []Hint
	for q.Stats().Waiting > 0 {
		h, err := q.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		hints = append(hints, h)
	}
	return hints
}

func sameHints(t testing.TB, got []Hint, want ...Hint) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestHintsOfABurstAreOne(t *testing.T) {
	q := NewHintQueue(HintQueueOptions{})
	for range 100 {
		q.Add(Hint{"a", "INBOX", HintPush})
		q.Add(Hint{"b", "INBOX", HintPush})
		q.Add(Hint{"a", "Sent", HintCommand})
	}
	sameHints(t, drain(t, q), Hint{"a", "INBOX", HintPush}, Hint{"a", "Sent", HintCommand}, Hint{"b", "INBOX", HintPush})
	if s := q.Stats(); s.Added != 300 || s.Merged != 297 || s.Widened != 0 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	// What was taken is news again.
	q.Add(Hint{"a", "INBOX", HintPush})
	sameHints(t, drain(t, q), Hint{"a", "INBOX", HintPush})
}

func TestAHintForAllMailboxesStandsForEach(t *testing.T) {
	q := NewHintQueue(HintQueueOptions{})
	q.Add(Hint{"a", "INBOX", HintPush})
	q.Add(Hint{"a", "Sent", HintPush})
	q.Add(Hint{"a", "", HintSweep})
	q.Add(Hint{"a", "Drafts", HintPush})
	sameHints(t, drain(t, q), Hint{"a", "", HintSweep})
}

func TestAUserWithManyMailboxesIsAskedToLookAtAll(t *testing.T) {
	q := NewHintQueue(HintQueueOptions{MaxMailboxesPerUser: 3})
	for i := range 4 {
		q.Add(Hint{"a", fmt.Sprint("box", i), HintPush})
	}
	q.Add(Hint{"b", "INBOX", HintPush})
	sameHints(t, drain(t, q), Hint{"a", "", HintPush}, Hint{"b", "INBOX", HintPush})
	if s := q.Stats(); s.Widened != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAFullQueueForgetsMailboxesBeforeUsers(t *testing.T) {
	q := NewHintQueue(HintQueueOptions{MaxHints: 2})
	for _, u := range []string{"a", "b", "c", "d", "e"} {
		q.Add(Hint{u, "INBOX", HintPush})
	}
	q.Add(Hint{"a", "Sent", HintPush})
	sameHints(t, drain(t, q), Hint{"a", "", HintPush}, Hint{"b", "INBOX", HintPush}, Hint{"c", "", HintPush}, Hint{"d", "", HintPush})
	if s := q.Stats(); s.Widened != 3 || s.Lost != 1 {
		t.Errorf("%+v", s)
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	q := NewHintQueue(HintQueueOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := q.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestEveryWaiterIsWoken would hang if a token were lost between several
// takers.
func TestEveryWaiterIsWoken(t *testing.T) {
	const takers, each = 8, 500
	q := NewHintQueue(HintQueueOptions{})
	got := make(chan Hint, takers*each)
	var wg sync.WaitGroup
	for range takers {
		wg.Go(func() {
			for range each {
				h, err := q.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				got <- h
			}
		})
	}
	for i := range takers * each {
		q.Add(Hint{fmt.Sprint("u", i), "INBOX", HintPush})
	}
	wg.Wait()
	close(got)
	seen := map[string]bool{}
	for h := range got {
		if seen[h.User] {
			t.Fatalf("%v came twice", h)
		}
		seen[h.User] = true
	}
	if len(seen) != takers*each {
		t.Errorf("%d users were told of, not %d", len(seen), takers*each)
	}
}

// TestHintsAgainstAModel: whatever was added and not lost is told, by its name or
// by a hint for all, and the bounds hold.
func TestHintsAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := HintQueueOptions{MaxHints: rapid.IntRange(1, 6).Draw(t, "max"), MaxMailboxesPerUser: rapid.IntRange(1, 4).Draw(t, "mailboxes")}
		q := NewHintQueue(o)
		owed := map[Hint]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "add") {
				h := Hint{User: rapid.StringMatching(`[a-p]`).Draw(t, "user"), Mailbox: rapid.StringMatching(`[1-6]?`).Draw(t, "mailbox")}
				lost := q.Stats().Lost
				if q.Add(h); q.Stats().Lost == lost {
					owed[h] = true
				}
			} else if h, ok := q.pop(); ok {
				paid := false
				for o := range owed {
					if o.User == h.User && (h.Mailbox == "" || o.Mailbox == h.Mailbox) {
						delete(owed, o)
						paid = true
					}
				}
				if !paid {
					t.Fatalf("%v was told and nobody had said it", h)
				}
			}
			if (q.Stats().Waiting == 0) != (len(owed) == 0) {
				t.Fatalf("%d wait, %v are owed", q.Stats().Waiting, owed)
			}
			// MaxHints by their names at most, and behind them one for each further user.
			if n := q.Stats().Waiting; n >= 3*o.MaxHints {
				t.Fatalf("%d wait, with a bound of %d", n, o.MaxHints)
			}
		}
		for h, ok := q.pop(); ok; h, ok = q.pop() {
			for o := range owed {
				if o.User == h.User && (h.Mailbox == "" || o.Mailbox == h.Mailbox) {
					delete(owed, o)
				}
			}
		}
		if len(owed) > 0 {
			t.Fatalf("never told: %v", owed)
		}
		if q.order != nil || len(q.users) != 0 {
			t.Fatalf("an empty queue holds memory: %d users, %d in order", len(q.users), len(q.order))
		}
	})
}

func BenchmarkHintQueue(b *testing.B) {
	q := NewHintQueue(HintQueueOptions{})
	users := make([]string, 1000)
	for i := range users {
		users[i] = fmt.Sprint("user", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Add(Hint{users[i%1000], "INBOX", HintPush})
		if i%4 == 3 {
			q.pop()
		}
	}
}
