package view

import "errors"

// Told says that a client was told the UIDs of N messages: those with the numbers from Number on have the UIDs from UID on.
type Told struct{ Number, UID, N uint32 }

// FoundBetween is Found for a client that was also told the UIDs of some of its messages. told has them, in order. byNumber says that the
// client is told by number which messages have gone. The errors are those of Found.
//
// Where Found returns ErrNotExact, or the log is too long, the known messages divide the mailbox: for each gap between two of them it is known how many messages
// the client counts there, and which UIDs they can have. The last added message and the first old one divide it, too. The first
// case that applies decides for a gap:
//
//	as many are there as the client counts              those
//	as many have vanished as are missing                those there and those vanished
//	those there and those vanished are as many as there
//	  were at the SELECT                                the log is applied to both
//	the client is told by number, and no message that
//	  is there lies between those that have vanished,
//	  or none is there                                  those there and as many others as are missing: which doesn't matter
//	otherwise                                           Found's error
//
// Behind the last known message, where messages that the client wasn't told of may have come, the cases are those of Found for added
// messages; or none is there.
func (t *Tally) FoundBetween(at *View, s Seen, told []Told, byNumber bool) (UIDs, error) {
	found, err := t.Found(at, s)
	if !t.mayDivide(err) {
		return found, err
	}
	g := gaps{tally: t, seen: s, byNumber: byNumber, next: max(t.from, at.UIDNext)}
	if !g.divide(told) {
		return UIDs{}, err
	}
	if found = g.found.set(); found.Count() != t.Count() {
		return UIDs{}, err
	}
	return found, nil
}

// mayDivide says whether an error of Found may come from knowing too little. The backend's contradictions don't.
func (t *Tally) mayDivide(err error) bool {
	return errors.Is(err, ErrNotExact) && !errors.Is(err, ErrContradicts) || errors.Is(err, ErrNotFollowed) && t.short && !t.lost
}

// gaps finds the messages of one gap after another.
type gaps struct {
	tally    *Tally
	seen     Seen
	byNumber bool
	next     uint32 // the lowest UID that an added message can have
	first    UIDs   // the numbers at the SELECT of the old messages that the client still counts; empty: not known
	found    uidBuilder
	number   uint32 // how many messages were found
	uid      uint32 // no further one has this UID or a lower one
}

// divide finds all messages. It returns false if it can't, or told can't be true.
func (g *gaps) divide(told []Told) bool {
	t := g.tally
	if !t.short && !t.logs(uidsGone) {
		g.first = t.apply(UIDRange(1, t.first), oldGone, oldDown)
	}
	i := 0
	if old, err := t.foundOld(g.next, g.seen); err == nil {
		g.adds(old)
		for i < len(told) && told[i].Number+told[i].N <= t.old+1 {
			i++
		}
		if i < len(told) && told[i].Number <= t.old {
			known := t.old + 1 - told[i].Number
			told[i] = Told{t.old + 1, told[i].UID + known, told[i].N - known}
		}
	} else {
		for ; i < len(told) && told[i].Number <= t.old; i++ {
			r := told[i]
			if r.Number+r.N > t.old+1 {
				r.N = t.old + 1 - r.Number
				told[i] = Told{t.old + 1, r.UID + r.N, told[i].N - r.N}
				i--
			}
			if !g.known(r) {
				return false
			}
		}
		if !g.upTo(t.old+1, g.next) {
			return false
		}
	}
	g.number, g.uid = t.old, g.next-1
	if added, err := t.foundAdded(g.next, g.seen); err == nil {
		g.adds(added)
		return true
	}
	for _, r := range told[i:] {
		if !g.known(r) {
			return false
		}
	}
	return g.rest()
}

func (g *gaps) adds(uids UIDs) {
	for first, last := range uids.Ranges() {
		g.found.add(first, last)
	}
}

// known finds the messages up to the last of r, whose UIDs are known.
func (g *gaps) known(r Told) bool {
	if r.N == 0 || !g.upTo(r.Number, r.UID) {
		return false
	}
	last := r.UID + (r.N - 1)
	g.found.add(r.UID, last)
	g.number, g.uid = r.Number+(r.N-1), last
	return true
}

// upTo finds the messages of the gap before the message with this number, which has this UID at least.
func (g *gaps) upTo(number, uid uint32) bool {
	if number <= g.number || uid <= g.uid {
		return false
	}
	count, room := number-g.number-1, UIDRange(g.uid+1, uid-1)
	there, vanished := g.seen.UIDs.Intersect(room), g.seen.Vanished.Intersect(room)
	all := there.Union(vanished)
	switch {
	case room.Count() < count, there.Count() > count:
		return false
	case there.Count() == count:
		g.adds(there)
	case g.seen.QResync && all.Count() == count:
		g.adds(all)
	case g.seen.QResync && number <= g.tally.old+1 && g.replays(number, all, there):
	case g.byNumber && g.seen.QResync:
		missing := count - there.Count()
		if vanished.Count() < missing || !there.Intersect(UIDRange(vanished.First(), vanished.Last())).Empty() {
			return false
		}
		g.adds(there.Union(vanished.pick(UIDRange(1, missing))))
	case g.byNumber && there.Empty():
		g.adds(UIDRange(room.First(), room.First()+(count-1)))
	default:
		return false
	}
	return true
}

// replays finds the messages of a gap between old messages, all of which are those that are there or have vanished, if they are as many
// as at the SELECT.
func (g *gaps) replays(number uint32, all, there UIDs) bool {
	from, to := uint32(0), g.tally.first+1
	if g.number > 0 {
		from, _ = g.first.At(g.number)
	}
	if number <= g.tally.old {
		to, _ = g.first.At(number)
	}
	if g.first.Count() != g.tally.old || to <= from || all.Count() != to-from-1 {
		return false
	}
	var left uidBuilder // of the numbers that the messages of all had in the gap, those that haven't gone
	for first, last := range g.first.Intersect(UIDRange(from+1, to-1)).Ranges() {
		left.add(first-from, last-from)
	}
	found := all.pick(left.set())
	if !there.Without(found).Empty() {
		return false
	}
	g.adds(found)
	return true
}

// rest finds the added messages behind the last whose UID is known.
func (g *gaps) rest() bool {
	count := g.tally.Count() - g.number
	there, vanished := g.seen.UIDs.From(g.uid+1), g.seen.Vanished.From(g.uid+1)
	switch {
	case g.tally.Count() < g.number || g.uid == 1<<32-1:
		return false
	case count == 0:
	case g.seen.QResync && comeFirst(there, vanished, count):
		g.adds(there.pick(UIDRange(1, count)))
	case g.seen.QResync && there.Union(vanished).Count() == count:
		g.adds(there.Union(vanished))
	case gapless(there, g.uid+1, count):
		g.adds(UIDRange(g.uid+1, g.uid+count))
	case there.Empty() && g.byNumber && g.uid+count > g.uid && g.uid+count < g.seen.UIDNext:
		g.adds(UIDRange(g.uid+1, g.uid+count))
	default:
		return false
	}
	return true
}
