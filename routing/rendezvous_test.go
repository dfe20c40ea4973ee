package routing

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// best is the whole choice of a new user, by a second hand.
func best(user string, weights map[string]int) string {
	id, top := "", -1.0
	for b, w := range weights {
		if s := score(keyHash(user), keyHash(b), w); w > 0 && (s > top || s == top && b < id) {
			id, top = b, s
		}
	}
	return id
}

func TestTheChoiceIsTheSameInEveryVersion(t *testing.T) {
	fleet := map[string]int{"imap1": 100, "imap2": 100, "imap3": 50, "imap4": 1}
	for user, want := range map[string]string{
		"alice": "imap1", "bob": "imap1", "carol@example.org": "imap1", "dora": "imap2", "érik": "imap1", "f": "imap2",
		"user2": "imap3", "user11": "imap3", "user151": "imap4", "user182": "imap4",
	} {
		if got := best(user, fleet); got != want {
			t.Errorf("%s is on %s and was on %s: an upgrade would move users", user, got, want)
		}
	}
}

func TestUsersSpreadByWeight(t *testing.T) {
	fleet := map[string]int{"a": 100, "b": 200, "c": 300, "d": 1, "e": 0}
	const users = 100_000
	got := make(map[string]int)
	for i := range users {
		got[best("user"+strconv.Itoa(i)+"@example.org", fleet)]++
	}
	for id, w := range fleet {
		p := float64(w) / 601
		if off := math.Abs(float64(got[id]) - users*p); off > 5*math.Sqrt(users*p*(1-p)) {
			t.Errorf("%s has %d users, its share is %.0f", id, got[id], users*p)
		}
	}
}

func TestSimilarNamesSpreadAsWell(t *testing.T) {
	fleet := make(map[string]int)
	for i := range 16 {
		fleet["imap-"+strconv.Itoa(i)] = 1
	}
	got := make(map[string]int)
	for i := range 16_000 {
		got[best(strconv.Itoa(i), fleet)]++
	}
	for id := range fleet {
		if got[id] < 840 || got[id] > 1160 { // 1000 ± 5 standard deviations
			t.Errorf("%s has %d of 16000", id, got[id])
		}
	}
}

// No user moves that need not: whatever changes about one backend, only users
// whom it had or now has change.
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
