package view

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestWhatAClientCountsIsFoundAfterALoss(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(*Tally)
		seen Seen
		want string
		err  error
	}{
		"nothing has happened": {seen: Seen{UIDs: UIDRange(1, 5)}, want: "1:5"},
		"one has gone that was told": {
			tell: func(y *Tally) { y.Expunged(2) },
			seen: Seen{UIDs: UIDsOf(1, 3, 4, 5)}, want: "1,3:5"},
		"one has gone unheard, and the server says which": {
			seen: Seen{UIDs: UIDsOf(1, 3, 4, 5), Vanished: UIDsOf(2), QResync: true}, want: "1:5"},
		"one has gone unheard behind one that was told": {
			tell: func(y *Tally) { y.Expunged(1) },
			seen: Seen{UIDs: UIDsOf(3, 4, 5), Vanished: UIDsOf(1, 2), QResync: true}, want: "2:5"},
		"one has gone unheard, and nothing says which": {
			seen: Seen{UIDs: UIDsOf(1, 3, 4, 5)}, err: ErrNotExact},
		"the server's memory is cut off": {
			tell: func(y *Tally) { y.Begin(4) }, // 1 had gone before
			seen: Seen{UIDs: UIDsOf(3, 4, 5), Vanished: UIDsOf(1, 2), QResync: true}, err: ErrNotExact},
		"some were added, and one more unheard": {
			tell: func(y *Tally) { y.Exists(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 11, 14, 15), QResync: true}, want: "1:5,11,14"},
		"some were added, and nothing says whether any has gone": {
			tell: func(y *Tally) { y.Exists(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 11, 14, 15)}, err: ErrNotExact},
		"some were added, and there is each UID that they can have": {
			tell: func(y *Tally) { y.Exists(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 11, 12, 15)}, want: "1:5,11:12"},
		"one was added behind the known UID, with the next UID": {
			tell: func(y *Tally) { y.Exists(6); y.Named(6, 14); y.Exists(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 14, 15, 17)}, want: "1:5,14:15"},
		"one that was added went, told; another unheard": {
			tell: func(y *Tally) { y.Exists(8); y.Expunged(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 13), Vanished: UIDsOf(11, 12), QResync: true}, want: "1:5,11,13"},
		"one was added and went between, unheard, before the one whose UID is known": {
			tell: func(y *Tally) { y.Exists(6); y.Named(6, 12) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 12), Vanished: UIDsOf(11), QResync: true}, want: "1:5,12"},
		"others were added and went behind the one whose UID is known": {
			tell: func(y *Tally) { y.Exists(8); y.Named(8, 13); y.Expunged(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 13, 17), Vanished: UIDsOf(11, 12, 14, 15), QResync: true}, want: "1:5,11,13"},
		"the known UID is that of the last one, and nothing else is needed": {
			tell: func(y *Tally) { y.Exists(7); y.Named(7, 14) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 11, 14, 15)}, want: "1:5,11,14"},
		"one more was added behind the known UID, and others unheard": {
			tell: func(y *Tally) { y.Exists(6); y.Named(6, 12); y.Exists(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 12, 15, 17), Vanished: UIDsOf(11), QResync: true}, want: "1:5,12,15"},
		"another message's UID says nothing": {
			tell: func(y *Tally) { y.Exists(6); y.Named(5, 5); y.Expunged(6); y.Named(5, 5); y.Exists(6) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 13), Vanished: UIDsOf(11, 12), QResync: true}, err: ErrNotExact},
		"one was added and went between, unheard": {
			tell: func(y *Tally) { y.Exists(6) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 12), Vanished: UIDsOf(11), QResync: true}, err: ErrNotExact},
		"one went before the next was added": {
			tell: func(y *Tally) { y.Exists(6); y.Expunged(6); y.Exists(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 12), Vanished: UIDsOf(11, 13), QResync: true}, want: "1:5,12:13"},
		"by UID": {
			tell: func(y *Tally) { y.Exists(7); y.Vanished(UIDsOf(2, 3, 12), 11) },
			seen: Seen{UIDs: UIDsOf(1, 4, 11), Vanished: UIDsOf(2, 3, 5, 12), QResync: true}, want: "1,4:5,11"},
		"the UIDs of before are known": {
			tell: func(y *Tally) { y.BeginWith(UIDsOf(2, 4, 6, 8)); y.Expunged(2); y.Expunged(3) },
			seen: Seen{UIDs: UIDsOf(6)}, want: "2,6"},
		"the UIDs of before are known, and another is there": {
			tell: func(y *Tally) { y.BeginWith(UIDsOf(2, 4, 6, 8)); y.Expunged(2) },
			seen: Seen{UIDs: UIDsOf(2, 3, 6, 8)}, err: &NotSame{UnknownLowUID}},
		"all UIDs were told, then messages came and went unheard": {
			tell: func(y *Tally) { y.Exists(6); list(y, 1, 1, 2, 3, 4, 5, 12); y.Exists(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 5, 12, 14), Vanished: UIDsOf(4, 11), QResync: true}, want: "1:5,12,14"},
		"all UIDs were told, and the server says nothing of what has gone": {
			tell: func(y *Tally) { y.Exists(6); list(y, 1, 1, 2, 3, 4, 5, 12) },
			seen: Seen{UIDs: UIDsOf(1, 3, 5, 14)}, want: "1:5,12"},
		"all UIDs were told, then one went, told": {
			tell: func(y *Tally) { list(y, 1, 1, 2, 3, 4, 5); y.Expunged(2) },
			seen: Seen{UIDs: UIDsOf(1, 4, 5)}, want: "1,3:5"},
		"all UIDs were told, then by UID": {
			tell: func(y *Tally) { y.Exists(6); list(y, 1, 1, 2, 3, 4, 5, 13); y.Vanished(UIDsOf(3, 13), 11) },
			seen: Seen{UIDs: UIDsOf(1, 2, 4, 5, 14)}, want: "1:2,4:5"},
		"the UIDs of the added ones were told behind those of before": {
			tell: func(y *Tally) { y.BeginWith(UIDsOf(2, 4)); y.Exists(4); list(y, 3, 12, 15); y.Exists(5) },
			seen: Seen{UIDs: UIDsOf(2, 4, 12, 15, 19), Vanished: UIDsOf(11, 13, 14), QResync: true}, want: "2,4,12,15,19"},
		"the added ones were told behind those of before, of which one has gone": {
			tell: func(y *Tally) { y.BeginWith(UIDsOf(2, 4, 6)); y.Expunged(2); y.Exists(4); list(y, 3, 12, 15) },
			seen: Seen{UIDs: UIDsOf(2, 6, 15)}, want: "2,6,12,15"},
		"not all UIDs were told": {
			tell: func(y *Tally) { y.Exists(6); list(y, 1, 1, 2, 3, 4, 5); y.Exists(7) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 12, 14), Vanished: UIDsOf(11), QResync: true}, err: ErrNotExact},
		"one goes while the UIDs are told": {
			tell: func(y *Tally) { y.Exists(6); list(y, 1, 1, 2, 3); y.Expunged(1); list(y, 3, 4, 5) },
			seen: Seen{UIDs: UIDsOf(2, 3, 4, 5, 12), Vanished: UIDsOf(1, 11), QResync: true}, err: ErrNotExact},
		"one comes while the UIDs are told": {
			tell: func(y *Tally) { list(y, 1, 1, 2, 3); y.Exists(6); list(y, 4, 4, 5, 12) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 5, 14)}, want: "1:5,12"},
		"UIDs go down": {
			tell: func(y *Tally) { y.Exists(6); list(y, 1, 1, 2, 3, 4, 5, 5) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 12), Vanished: UIDsOf(11), QResync: true}, err: ErrNotExact},
		"all UIDs were told, and another one from before is there": {
			tell: func(y *Tally) { list(y, 1, 1, 2, 3, 4, 5) },
			seen: Seen{UIDs: UIDsOf(1, 2, 3, 4, 5, 6), Vanished: UIDsOf(7), QResync: true}, err: &NotSame{UnknownLowUID}},
		"another mailbox":        {seen: Seen{UIDValidity: 8, UIDs: UIDRange(1, 5)}, err: &NotSame{OtherUIDValidity}},
		"a restored one":         {seen: Seen{UIDNext: 3, UIDs: UIDRange(1, 5)}, err: &NotSame{LowerUIDNext}},
		"an older copy":          {seen: Seen{ModSeq: 3, UIDs: UIDRange(1, 5)}, err: &NotSame{LowerModSeq}},
		"more than there can be": {seen: Seen{UIDs: UIDRange(1, 6)}, err: &NotSame{UnknownLowUID}},
		"EXISTS went down":       {tell: func(y *Tally) { y.Exists(4) }, seen: Seen{UIDs: UIDRange(1, 5)}, err: ErrNotFollowed},
	} {
		var y Tally
		y.Begin(5)
		if c.tell != nil {
			c.tell(&y)
		}
		if c.seen.UIDValidity == 0 {
			c.seen.UIDValidity = 7
		}
		if c.seen.ModSeq == 0 {
			c.seen.ModSeq = 30
		}
		got, err := y.Found(&View{UIDValidity: 7, UIDNext: 11, ModSeq: 20}, c.seen)
		var not, want *NotSame
		switch {
		case errors.As(c.err, &want):
			if !errors.As(err, &not) || not.Reason != want.Reason {
				t.Errorf("%s: %v, want %v", name, err, c.err)
			}
		case !errors.Is(err, c.err):
			t.Errorf("%s: %v, want %v", name, err, c.err)
		case err == nil && got.String() != c.want:
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// list tells the UIDs of the messages from number n on.
func list(y *Tally, n uint32, uids ...uint32) {
	for i, u := range uids {
		y.Named(n+uint32(i), u)
	}
}

// Without a bound a client could make the proxy store a UID of each of its messages.
func TestAListOfUIDsIsBounded(t *testing.T) {
	for _, messages := range []uint32{maxListed, maxListed + 1} {
		var y Tally
		y.Begin(messages)
		for n := uint32(1); n <= messages; n++ {
			y.Named(n, 2*n)
		}
		if y.hasBase != (messages == maxListed) || len(y.list.ranges) > maxListed {
			t.Errorf("%d messages: base %t, %d ranges", messages, y.hasBase, len(y.list.ranges))
		}
	}
}

func TestWithoutUIDNEXTNothingIsFound(t *testing.T) {
	var y Tally
	y.Begin(2)
	if _, err := y.Found(&View{UIDValidity: 7}, Seen{UIDValidity: 7, UIDs: UIDRange(1, 2)}); !errors.Is(err, ErrNoUIDNext) {
		t.Error(err)
	}
}

// A client deletes thousands of messages one after another, as clients do: that is one entry.
func TestManyExpungesInARowAreOneEntry(t *testing.T) {
	var y Tally
	y.Begin(10000)
	for range 4000 {
		y.Expunged(3)
	}
	for n := uint32(6000); n > 2000; n-- {
		y.Expunged(n)
	}
	y.Exists(y.Count() + 2000)
	for range 2000 {
		y.Expunged(2001)
	}
	if len(y.log) > 5 || y.short {
		t.Errorf("%d entries", len(y.log))
	}
	var seen UIDs
	for _, r := range [][2]uint32{{1, 2}, {4003, 6000}} {
		seen = seen.Union(UIDRange(r[0], r[1]))
	}
	gone := UIDRange(3, 4002).Union(UIDRange(6001, 10000)).Union(UIDRange(10001, 12000)).Union(UIDsOf(5000))
	got, err := y.Found(&View{UIDValidity: 7, UIDNext: 10001, ModSeq: 1}, Seen{UIDValidity: 7, ModSeq: 9, UIDs: seen.Without(UIDsOf(5000)), Vanished: gone, QResync: true})
	if err != nil || !got.Equal(seen) {
		t.Errorf("%v %v", got, err)
	}
}

// A full log holds the counts: where nothing has gone unheard that is all that is needed.
func TestAFullLogStillCounts(t *testing.T) {
	var y Tally
	y.Begin(2000)
	left := UIDRange(1, 2000)
	for n := uint32(1); n <= 400; n++ {
		uid, _ := left.At(2 * n)
		y.Expunged(2 * n)
		left = left.Without(UIDsOf(uid))
	}
	if !y.short {
		t.Fatal("the log isn't full")
	}
	at, seen := &View{UIDValidity: 7, UIDNext: 2001, ModSeq: 1}, Seen{UIDValidity: 7, ModSeq: 9, UIDs: left, Vanished: UIDRange(1, 2000).Without(left), QResync: true}
	if got, err := y.Found(at, seen); err != nil || !got.Equal(left) {
		t.Error(err)
	}
	seen.UIDs = left.Without(UIDsOf(1))
	seen.Vanished = seen.Vanished.Union(UIDsOf(1))
	if _, err := y.Found(at, seen); !errors.Is(err, ErrNotFollowed) {
		t.Error(err)
	}
}

// box is a mailbox and a client of it that hears late what happens.
type box struct {
	r           *rand.Rand
	next        uint32
	there       []uint32 // the messages
	counts      []uint32 // those that the client counts
	told        uint32   // the highest UID that the client has been told of or never will be
	gone, ghost UIDs     // since the SELECT; UIDs that no message has had
	tally       Tally
	byUID       bool
	first       uint32
	named       UIDs // that the client was told
}

func newBox(r *rand.Rand) *box {
	b := &box{r: r, next: 1, byUID: r.IntN(4) == 0}
	for range r.IntN(8) {
		b.arrive()
	}
	b.counts, b.told, b.first, b.ghost = slices.Clone(b.there), b.next-1, b.next, UIDs{}
	if b.tally.Begin(uint32(len(b.counts))); r.IntN(4) == 0 {
		b.tally.BeginWith(UIDsOf(b.counts...))
	}
	return b
}

func (b *box) arrive() {
	for b.r.IntN(3) == 0 {
		b.ghost = b.ghost.Union(UIDsOf(b.next))
		b.next++
	}
	b.there = append(b.there, b.next)
	b.next++
}

func (b *box) leave() {
	if len(b.there) == 0 {
		return
	}
	i := b.r.IntN(len(b.there))
	b.gone = b.gone.Union(UIDsOf(b.there[i]))
	b.there = slices.Delete(b.there, i, i+1)
}

// tellExists tells of all that came, as far as it is still there.
func (b *box) tellExists() {
	for _, uid := range b.there {
		if uid > b.told {
			b.counts = append(b.counts, uid)
		}
	}
	b.told = b.next - 1
	b.tally.Exists(uint32(len(b.counts)))
}

// tellUID tells the UID of the last message that the client counts.
func (b *box) tellUID() {
	if n := len(b.counts); n > 0 {
		b.tally.Named(uint32(n), b.counts[n-1])
	}
}

// tellUIDs tells the UIDs of some messages.
func (b *box) tellUIDs() {
	for i, uid := range b.counts {
		if b.r.IntN(3) == 0 {
			b.tally.Named(uint32(i+1), uid)
			b.named = b.named.Union(UIDsOf(uid))
		}
	}
}

// toldUIDs are the messages whose UIDs the client was told.
func (b *box) toldUIDs() (told []Told) {
	for i, uid := range b.counts {
		if b.named.Contains(uid) {
			if n := len(told); n > 0 && told[n-1].Number+told[n-1].N == uint32(i+1) && told[n-1].UID+told[n-1].N == uid {
				told[n-1].N++
				continue
			}
			told = append(told, Told{uint32(i + 1), uid, 1})
		}
	}
	return told
}

// tellGone tells of some of what has gone, in any order.
func (b *box) tellGone() {
	for _, i := range b.r.Perm(len(b.counts)) {
		if i >= len(b.counts) || slices.Contains(b.there, b.counts[i]) || b.r.IntN(4) == 0 {
			continue
		}
		if b.byUID {
			b.tally.Vanished(UIDsOf(b.counts[i]), b.first)
		} else {
			b.tally.Expunged(uint32(i + 1))
		}
		b.counts = slices.Delete(b.counts, i, i+1)
	}
}

func TestNothingIsGuessedAfterALoss(t *testing.T) {
	var found, divided, byNumber int
	counts := map[string]int{}
	const runs = 100_000
	for seed := range uint64(runs) {
		b := newBox(rand.New(rand.NewPCG(seed, 1)))
		for range b.r.IntN(12) {
			switch b.r.IntN(6) {
			case 5:
				b.tellUIDs()
			case 4:
				b.tellUID()
			case 0:
				b.arrive()
			case 1:
				b.leave()
			case 2:
				b.tellExists()
			case 3:
				b.tellGone()
			}
		}
		s := Seen{UIDValidity: 7, UIDNext: b.next, ModSeq: 9, UIDs: UIDsOf(b.there...), QResync: b.r.IntN(4) > 0}
		if s.QResync {
			s.Vanished = b.gone
			if b.r.IntN(4) == 0 { // a server that has forgotten says of everything that isn't there that it has gone
				s.Vanished = UIDRange(1, b.next-1).Without(s.UIDs)
			}
		}
		at, want, fails := &View{UIDValidity: 7, UIDNext: b.first, ModSeq: 5}, UIDsOf(b.counts...), func(what string, got UIDs) {
			t.Fatalf("seed %d: %s finds %s, the client counts %v (told %v, there %v, vanished %s, first %d)", seed, what, got, b.counts, b.toldUIDs(), b.there, s.Vanished, b.first)
		}
		got, err := b.tally.Found(at, s)
		switch exact, err2 := b.tally.FoundBetween(at, s, b.toldUIDs(), false); {
		case err == nil && !got.Equal(want):
			fails("Found", got)
		case err2 == nil && !exact.Equal(want):
			fails("FoundBetween", exact)
		case err == nil && err2 != nil:
			t.Fatalf("seed %d: FoundBetween returns %v", seed, err2)
		case err == nil:
			found++
			continue
		case err2 == nil:
			divided++
			continue
		}
		if numbers, err := b.tally.FoundBetween(at, s, b.toldUIDs(), true); err == nil { // each message that is there has the client's number, and no other one is there
			if numbers.Count() != want.Count() || !numbers.Intersect(s.UIDs).Equal(want.Intersect(s.UIDs)) || !numbers.numbers(s.UIDs).Equal(want.numbers(s.UIDs)) {
				fails("FoundBetween by number", numbers)
			}
			byNumber++
			continue
		}
		for _, e := range []error{ErrNotExact, ErrNotFollowed, ErrNoUIDNext} {
			if errors.Is(err, e) {
				err = e
			}
		}
		counts[err.Error()]++
	}
	t.Logf("of %d, %d are found, %d by the UIDs that were told, %d by number; else %v", runs, found, divided, byNumber, counts)
	if found < runs/2 || divided == 0 || byNumber == 0 || len(counts) == 0 {
		t.Errorf("of %d, %d are found, %d by the UIDs that were told, %d by number; else %v", runs, found, divided, byNumber, counts)
	}
}
