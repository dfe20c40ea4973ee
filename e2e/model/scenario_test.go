package model

import (
	"fmt"
	"math/rand/v2"
	"time"

	"imapproxy/internal/imaptest"
)

// op is one operation. What it means depends on what is there when it runs, so that a list
// of them without some is still one.
type op struct {
	kind    string
	client  int
	a, b, c int
}

func (o op) String() string { return fmt.Sprintf("%s(%d,%d,%d,%d)", o.kind, o.client, o.a, o.b, o.c) }

// kinds of operations, and how often they come.
var kinds = []struct {
	name   string
	weight int
}{
	{"append", 10}, {"store", 12}, {"uidstore", 8}, {"delete", 9}, {"expunge", 6}, {"uidexpunge", 4},
	{"copy", 3}, {"move", 4}, {"search", 6}, {"uidsearch", 3}, {"sort", 2}, {"thread", 2},
	{"fetch", 9}, {"uidfetch", 7}, {"learn", 5},
	{"idle", 16}, {"done", 3}, {"noop", 8}, {"check", 1}, {"pause", 6}, {"park", 16}, {"outside", 9},
	{"pipeline", 5}, {"both", 8}, {"settle", 2}, {"cut", 1},
	{"poll", 4}, {"silent", 4}, {"marks", 3}, {"leave", 4}, {"packet", 5},
	{"move to the other", 12},
}

// scenario is a case: how many clients, what they speak, and what they do.
type scenario struct {
	seed     uint64
	dialects []imaptest.ModelDialect
	ops      []op
	until    time.Time // when no more of them are done; zero: never
}

func newScenario(seed uint64, plain bool) scenario {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := scenario{seed: seed}
	for range 2 + rng.IntN(2) {
		d := imaptest.ModelDialect(rng.IntN(4) % 3) // half of them plain, at the least
		if plain {
			d = imaptest.ModelPlain
		}
		s.dialects = append(s.dialects, d)
	}
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	for range 60 + rng.IntN(80) {
		n := rng.IntN(total)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				s.ops = append(s.ops, op{kind: k.name, client: rng.IntN(len(s.dialects)), a: rng.IntN(1 << 20), b: rng.IntN(1 << 20), c: rng.IntN(1 << 20)})
				break
			}
		}
	}
	return s
}

// stats count what was done, to see that something was.
type stats struct {
	ops, parked, asked, settled, cuts int
	reborn, unheard                   int // see there
	kinds                             map[string]int
	losses                            int            // operations that the loss of a connection has ended
	byes                              map[string]int // last lines of connections that were lost
}

func newStats() *stats { return &stats{kinds: map[string]int{}, byes: map[string]int{}} }

func (a *stats) add(b *stats) {
	a.ops, a.parked, a.asked, a.settled, a.cuts = a.ops+b.ops, a.parked+b.parked, a.asked+b.asked, a.settled+b.settled, a.cuts+b.cuts
	a.reborn, a.unheard, a.losses = a.reborn+b.reborn, a.unheard+b.unheard, a.losses+b.losses
	for k, n := range b.byes {
		a.byes[k] += n
	}
	for k, n := range b.kinds {
		a.kinds[k] += n
	}
}
