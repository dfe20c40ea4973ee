package routing

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// best is the choice for a new user, in a second implementation.
func best(user string, weights map[string]int) string {
	id, top := "", -1.0
	for b, w := range weights {
		if s := score(bucketHash(Bucket(user)), keyHash(b), w); w > 0 && (s > top || s == top && b < id) {
			id, top = b, s
		}
	}
	return id
}

func TestTheChoiceIsTheSameInEveryVersion(t *testing.T) {
	fleet := map[string]int{"imap1": 100, "imap2": 100, "imap3": 50, "imap4": 1}
	for user, want := range map[string]string{
		"alice": "imap2", "bob": "imap2", "carol@example.org": "imap2", "dora": "imap2", "érik": "imap3", "f": "imap3",
		"user2": "imap2", "user11": "imap1", "user151": "imap2", "user49": "imap4", "user319": "imap4",
	} {
		if got := best(user, fleet); got != want {
			t.Errorf("%s is on %s and was on %s: an upgrade would move users", user, got, want)
		}
	}
}

func TestBucketsSpreadByWeight(t *testing.T) {
	targets := []Target{NewTarget("a", 100), NewTarget("b", 200), NewTarget("c", 300), NewTarget("d", 1), NewTarget("e", 0)}
	got := make([]int, len(targets))
	for bucket := range Buckets {
		got[Rendezvous(bucket, targets)]++
	}
	for i, target := range targets {
		p := float64(target.weight) / 601
		if off := math.Abs(float64(got[i]) - Buckets*p); off > 4*math.Sqrt(Buckets*p*(1-p)) {
			t.Errorf("target %d has %d buckets, its share is %.0f", i, got[i], Buckets*p)
		}
	}
}

func TestUsersSpreadOverBuckets(t *testing.T) {
	for _, suffix := range []string{"", "@example.org"} {
		got := make([]int, Buckets)
		for i := range 100 * Buckets {
			got[Bucket(strconv.Itoa(i)+suffix)]++
		}
		for bucket, n := range got {
			if n < 50 || n > 150 { // 100 ± 5 standard deviations
				t.Errorf("bucket %d has %d users of %d", bucket, n, 100*Buckets)
			}
		}
	}
}

func TestRendezvousIsTheChoiceOfARouter(t *testing.T) {
	r, _ := newTestRouter(t, Options{Storage: Shared})
	s := Snapshot{Source: "test"}
	var targets []Target
	for i, weight := range []int{100, 50, 0, 7} {
		id := "imap" + strconv.Itoa(i)
		s.Backends = append(s.Backends, Backend{ID: id, Address: "127.0.0.1:143", Weight: weight})
		targets = append(targets, NewTarget(id, weight))
	}
	r.Apply(s)
	for i := range 300 {
		user := "user" + strconv.Itoa(i)
		p, err := r.Pick(user, "")
		if err != nil {
			t.Fatal(err)
		}
		if want := s.Backends[Rendezvous(Bucket(user), targets)].ID; p.Backend.ID != want {
			t.Errorf("a router sends %s to %s, a fleet of proxies to %s", user, p.Backend.ID, want)
		}
		p.Release()
	}
	if Rendezvous(1, nil) != -1 || Rendezvous(1, targets[2:3]) != -1 {
		t.Error("a target without weight is chosen")
	}
}

// When one backend changes, only users move who were at it before or are at it
// now.
func TestNoUserMovesThatNeedNot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.MapOfN(rapid.StringMatching(`[a-z]{1,4}`), rapid.IntRange(0, 200), 1, 12).Draw(t, "fleet")
		changed := rapid.StringMatching(`[a-z]{1,4}`).Draw(t, "changed")
		if rapid.Bool().Draw(t, "known") {
			changed = rapid.SampledFrom(keys(before)).Draw(t, "one of them")
		}
		after := make(map[string]int)
		for id, w := range before {
			after[id] = w
		}
		weight := rapid.IntRange(0, 200).Draw(t, "weight")
		if after[changed] = weight; weight == 0 {
			delete(after, changed)
		}
		more := weight > before[changed]
		for i := range 200 {
			user := fmt.Sprint("user", i)
			was, is := best(user, before), best(user, after)
			switch {
			case was == is:
			case more && is != changed:
				t.Fatalf("%s grew, %s went from %s to %s", changed, user, was, is)
			case !more && was != changed:
				t.Fatalf("%s shrank, %s went from %s to %s", changed, user, was, is)
			}
		}
	})
}

func keys(m map[string]int) []string {
	var all []string
	for i := range m {
		all = append(all, i)
	}
	return sorted(all)
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{10, 50, 200} {
		b.Run(fmt.Sprintf("backends=%d/new", n), func(b *testing.B) {
			r := benchRouter(b, n)
			users := make([]string, 1<<16)
			for i := range users {
				users[i] = fmt.Sprintf("user%d@example.org", i)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				p, err := r.Pick(users[i%len(users)], "")
				if err != nil {
					b.Fatal(err)
				}
				p.Release()
			}
		})
		b.Run(fmt.Sprintf("backends=%d/pinned", n), func(b *testing.B) {
			r := benchRouter(b, n)
			first, err := r.Pick("ann", "")
			if err != nil || !first.Confirm() {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				p, err := r.Pick("ann", "")
				if err != nil || !p.Confirm() {
					b.Fatal(err)
				}
				p.Release()
			}
		})
		b.Run(fmt.Sprintf("backends=%d/rendezvous", n), func(b *testing.B) {
			r := benchRouter(b, n)
			c := choice{user: "ann@example.org", tables: newReadTxn(r.db)}
			b.ReportAllocs()
			for b.Loop() {
				if best, _ := c.rendezvous(); best == nil {
					b.Fatal("nobody")
				}
			}
		})
	}
}

// BenchmarkPickAmongPins is a login and its end where a million users are pinned.
func BenchmarkPickAmongPins(b *testing.B) {
	r := benchRouter(b, 50)
	for i := range 1_000_000 {
		p, err := r.Pick(fmt.Sprintf("user%d@example.org", i), "")
		if err != nil || !p.Confirm() {
			b.Fatal(err)
		}
		p.Release()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		p, err := r.Pick(fmt.Sprintf("user%d@example.org", i%1_000_000), "")
		if err != nil || !p.Confirm() {
			b.Fatal(err)
		}
		p.Release()
	}
}

func benchRouter(b *testing.B, n int) *Router {
	b.Helper()
	r, _ := newTestRouter(b, Options{Storage: Shared})
	s := Snapshot{Source: "bench"}
	for i := range n {
		s.Backends = append(s.Backends, Backend{ID: fmt.Sprintf("imap-%03d", i), Address: "127.0.0.1:143", Weight: 100})
	}
	r.Apply(s)
	return r
}
