package park

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
)

// Clients of each dialect park, leave and park again on one mailbox that changes at
// random, while hints come, come twice, or are lost. Whatever happens, no client is told
// what isn't allowed, and a client that asks for a look is then told the truth.
func TestClientsConvergeWhateverIsHeard(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PARK_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PARK_SEED=%d", seed)
	onAllKinds(t, func(t *testing.T, h *Hub, c *clock, b *fake) {
		rng := rand.New(rand.NewPCG(seed, 1))
		a := b.account()
		subs := make([]*Subscription, 4)
		members := make([]*member, len(subs))
		dialects := []view.Dialect{view.Plain, view.Plain, view.CondStore, view.QResync}
		if resync.Choose(a.Caps, 0).Name() == "comparison" {
			dialects = []view.Dialect{view.Plain, view.Plain, view.Plain, view.Plain} // it has no mod-sequences to tell
		}
		for step := range 300 {
			i := rng.IntN(len(subs))
			switch op := rng.IntN(10); {
			case subs[i] == nil:
				subs[i], members[i] = parked(t, h, b, a, "INBOX", dialects[i])
			case op == 0:
				subs[i].Close()
				members[i].leave()
				subs[i] = nil
			case op == 1:
				subs[i].Leave()
				members[i].leave()
				if err := subs[i].Again(within(t)); err != nil {
					t.Fatal(err)
				}
				members[i] = newMember(t, b, subs[i], "INBOX", dialects[i])
				subs[i].Join(members[i])
			case op == 2:
				if _, err := subs[i].Resync(within(t), members[i].View()); err != nil {
					t.Fatal(err)
				}
			case op == 3:
				// This may be the only hint of a change.
				h.Hint(Hint{User: "u", Mailbox: "INBOX", Source: HintCommand})
				truth := b.truth("INBOX")
				if err := subs[i].Look(within(t)); err != nil {
					t.Fatal(err)
				}
				members[i].converged(truth)
			default:
				mutate(b, rng, step)
				if rng.IntN(3) == 0 {
					h.Hint(Hint{User: "u", Source: HintPush})
				}
			}
			if rng.IntN(20) == 0 {
				b.change(func() { b.mute = !b.mute })
			}
			if rng.IntN(40) == 0 {
				c.pass(DefaultSweepEvery)
			}
			if t.Failed() {
				t.Fatalf("at step %d", step)
			}
		}
		for i, s := range subs {
			if s == nil {
				continue
			}
			h.Hint(Hint{User: "u"})
			if err := s.Look(within(t)); err != nil {
				t.Fatal(err)
			}
			members[i].converged(b.truth("INBOX"))
		}
		t.Logf("%+v", h.Stats())
	})
}

// mutate changes INBOX.
func mutate(b *fake, rng *rand.Rand, step int) {
	b.change(func() {
		box := b.boxes["INBOX"]
		uids := box.UIDs()
		switch op := rng.IntN(4); {
		case op == 0 || len(uids) < 3:
			box.Append()
		case op == 1:
			box.Skip(uint32(rng.IntN(3)))
			box.Append(`\Seen`)
		case op == 2:
			box.Expunge(uids[rng.IntN(len(uids))])
		default:
			box.Store(uids[rng.IntN(len(uids))], []string{`\Seen`, `\Flagged`, "$A", fmt.Sprintf("kw%d", step%7)}[rng.IntN(4)])
		}
	})
}
