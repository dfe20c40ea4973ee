package view

import (
	"errors"
	"slices"
)

// maxTally bounds a Tally's log, in entries of 12 bytes.
const maxTally = 256

// Tally is what a client was told came to and went from its mailbox since it selected it: enough to find the
// messages that it counts when the connection on which it was told is lost (Found). It holds no UIDs but those that VANISHED
// named. The zero value is of a mailbox with no messages.
type Tally struct {
	// first is how many messages there were at the SELECT; old how many of these the client still counts.
	first, old uint32
	// base are those messages, where their UIDs are known: after a resume.
	base    UIDs
	hasBase bool
	// added is how many came since, in all; standing how many of these the client still counts.
	added, standing uint32
	// log is what went, in its order: of the messages of the SELECT and of those that were added. Nothing is logged of
	// what was added last while none of it has gone: added says it.
	log []tallied
	// short: the log was full, or something was told that can't be followed. The counts hold all the same.
	short bool
	// lost: the counts don't hold either.
	lost bool
}

// tallied is an entry of the log: count messages left, or came.
type tallied struct {
	kind  tallyKind
	n     uint32 // a number among the old or among the added ones, or the first UID
	count uint32
}

type tallyKind uint8

const (
	oldGone  tallyKind = iota + 1 // number n of the old ones, count times
	oldDown                       // the numbers n, n-1, … of the old ones, count of them
	newGone                       // number n of the added ones, count times
	newDown                       // the numbers n, n-1, … of the added ones
	cameNew                       // count messages were added
	uidsGone                      // the UIDs n … n+count-1, of either
)

// Begin starts anew: the client has selected a mailbox with so many messages.
func (t *Tally) Begin(messages uint32) {
	*t = Tally{first: messages, old: messages, log: t.log[:0]}
}

// BeginWith starts anew: the client counts these messages, and no other has a UID below the next one that it knows of.
func (t *Tally) BeginWith(messages UIDs) {
	t.Begin(messages.Count())
	t.base, t.hasBase = messages, true
}

// Count is how many messages the client counts.
func (t *Tally) Count() uint32 { return t.old + t.standing }

// Lose notes that something was told that can't be followed.
func (t *Tally) Lose() { t.lost, t.log = true, nil }

// Exists takes an EXISTS: the client counts n messages now.
func (t *Tally) Exists(n uint32) {
	have := t.Count()
	switch {
	case n < have: // a server says EXPUNGE for that (RFC 9051 §7.5.1)
		t.Lose()
	case n > have:
		more := n - have
		t.added, t.standing = t.added+more, t.standing+more
		if t.logs(newGone, newDown, uidsGone) { // what follows counts from here
			t.note(tallied{kind: cameNew, count: more})
		}
	}
}

// logs says whether the log has an entry of one of these kinds.
func (t *Tally) logs(kinds ...tallyKind) bool {
	return slices.ContainsFunc(t.log, func(e tallied) bool { return slices.Contains(kinds, e.kind) })
}

// Expunged takes an EXPUNGE of a message number.
func (t *Tally) Expunged(n uint32) {
	switch {
	case n == 0 || n > t.Count():
		t.Lose()
	case n <= t.old:
		t.old--
		t.gone(oldGone, oldDown, n)
	default:
		t.begun()
		t.standing--
		t.gone(newGone, newDown, n-t.old)
	}
}

// begun notes how many were added before the first of them goes.
func (t *Tally) begun() {
	if !t.logs(newGone, newDown, uidsGone, cameNew) && t.added > 0 {
		t.note(tallied{kind: cameNew, count: t.added})
	}
}

// gone logs that number n went, together with those that went before it where it can.
func (t *Tally) gone(same, down tallyKind, n uint32) {
	if len(t.log) > 0 && !t.short {
		switch e := &t.log[len(t.log)-1]; {
		case e.kind == same && e.n == n:
			e.count++
			return
		case e.kind == same && e.count == 1 && n+1 == e.n, e.kind == down && n+e.count == e.n:
			e.kind = down
			e.count++
			return
		}
	}
	t.note(tallied{kind: same, n: n, count: 1})
}

// Vanished takes a VANISHED, not its EARLIER form: the client counts these messages and they are gone. next is the
// UIDNEXT of the SELECT.
func (t *Tally) Vanished(uids UIDs, next uint32) {
	old := uids.Below(next).Count()
	if next == 0 || old > t.old || uids.Count()-old > t.standing {
		t.Lose()
		return
	}
	t.begun()
	t.old, t.standing = t.old-old, t.standing-(uids.Count()-old)
	for first, last := range uids.Ranges() {
		t.note(tallied{kind: uidsGone, n: first, count: last - first + 1})
	}
}

func (t *Tally) note(e tallied) {
	switch {
	case t.lost || t.short:
	case len(t.log) >= maxTally:
		t.short, t.log = true, nil
	default:
		t.log = append(t.log, e)
	}
}

// Seen is what a new connection shows of a mailbox whose connection was lost.
type Seen struct {
	UIDValidity, UIDNext uint32
	ModSeq               uint64
	UIDs                 UIDs // all messages there are
	// Vanished is what VANISHED (EARLIER) said has gone since the HIGHESTMODSEQ of the client's SELECT (RFC 7162 §3.2.6), asked for without
	// known UIDs. It may name more than has gone, where the server's memory is cut off. Meaningless without QRESYNC.
	Vanished UIDs
	QResync  bool // Vanished has been asked for
}

// Why the messages that a client counts can't be found.
var (
	ErrNotFollowed = errors.New("what the client was told can't be followed")
	ErrNoUIDNext   = errors.New("the mailbox showed no UIDNEXT when it was selected")
	ErrNotExact    = errors.New("the backend doesn't say exactly which messages have gone")
)

// Found is the set of the messages that the client counts. at is the mailbox as it was told of it at the SELECT, with UIDs
// that aren't known. Its errors are *NotSame, ErrNotFollowed, ErrNoUIDNext and ErrNotExact: nothing is guessed.
//
// The messages of the SELECT have UIDs below its UIDNEXT, those that were added have others, in their order:
//
//	the UIDs of the old ones were known                     the log is applied to them
//	as many are left of the old ones as the client counts  none has gone unheard: they are it
//	those left and those vanished are as many as at the SELECT   the log is applied to them
//	none was added                                          none
//	none of those added has vanished                        the first of those there are
//	those there are and those vanished are as many as were added   the log is applied to them
//	else                                                    ErrNotExact
//
// What vanished may be too much and is never too little, so that equal numbers mean equal sets.
func (t *Tally) Found(at *View, s Seen) (UIDs, error) {
	switch {
	case s.UIDValidity != at.UIDValidity:
		return UIDs{}, &NotSame{Reason: OtherUIDValidity}
	case s.UIDNext != 0 && s.UIDNext < at.UIDNext:
		return UIDs{}, &NotSame{Reason: LowerUIDNext}
	case at.ModSeq != 0 && s.ModSeq < at.ModSeq:
		return UIDs{}, &NotSame{Reason: LowerModSeq}
	case t.lost:
		return UIDs{}, ErrNotFollowed
	case at.UIDNext == 0:
		return UIDs{}, ErrNoUIDNext
	}
	old, err := t.foundOld(at.UIDNext, s)
	if err != nil {
		return UIDs{}, err
	}
	added, err := t.foundAdded(at.UIDNext, s)
	if err != nil {
		return UIDs{}, err
	}
	found := old.Union(added)
	if found.Count() != t.Count() {
		return UIDs{}, ErrNotFollowed
	}
	return found, nil
}

func (t *Tally) foundOld(next uint32, s Seen) (UIDs, error) {
	left := s.UIDs.Below(next)
	if t.hasBase && !t.short {
		told := t.apply(t.base, oldGone, oldDown)
		if !left.Without(told).Empty() {
			return UIDs{}, &NotSame{Reason: UnknownLowUID}
		}
		return told, nil
	}
	switch {
	case left.Count() == t.old:
		return left, nil
	case left.Count() > t.old:
		return UIDs{}, &NotSame{Reason: UnknownLowUID}
	case !s.QResync:
		return UIDs{}, ErrNotExact
	case t.short:
		return UIDs{}, ErrNotFollowed
	}
	all := left.Union(s.Vanished.Below(next))
	if all.Count() != t.first {
		return UIDs{}, ErrNotExact
	}
	return t.apply(all, oldGone, oldDown), nil
}

func (t *Tally) foundAdded(next uint32, s Seen) (UIDs, error) {
	if t.added == 0 {
		return UIDs{}, nil
	}
	if !s.QResync {
		return UIDs{}, ErrNotExact
	}
	there, gone := s.UIDs.From(next), s.Vanished.From(next)
	switch {
	case gone.Empty() && t.standing == t.added && there.Count() >= t.added:
		if after, ok := there.At(t.added + 1); ok {
			there = there.Below(after)
		}
		return there, nil
	case there.Union(gone).Count() != t.added:
		return UIDs{}, ErrNotExact
	case t.short:
		return UIDs{}, ErrNotFollowed
	}
	return t.apply(there.Union(gone), newGone, newDown), nil
}

// apply takes what has gone by the log out of all the messages that there were, old or added ones.
func (t *Tally) apply(all UIDs, same, down tallyKind) UIDs {
	added := same == newGone
	left, later := all, UIDs{} // later: added by an entry of the log that is still to come
	if added && t.logs(cameNew) {
		left, later = UIDs{}, all
	}
	for _, e := range t.log {
		switch e.kind {
		case cameNew:
			if !added {
				continue
			}
			from, ok := later.At(e.count + 1)
			if !ok {
				left, later = left.Union(later), UIDs{}
				continue
			}
			left, later = left.Union(later.Below(from)), later.From(from)
		case uidsGone:
			left = left.Without(UIDRange(e.n, e.n+(e.count-1)))
		case same:
			left = left.without(e.n, e.n+(e.count-1))
		case down:
			left = left.without(e.n-(e.count-1), e.n)
		}
	}
	return left.Union(later)
}

// without is the set without the messages of these numbers.
func (s UIDs) without(first, last uint32) UIDs {
	from, ok := s.At(first)
	if !ok {
		return s
	}
	if after, ok := s.At(last + 1); ok {
		return s.Below(from).Union(s.From(after))
	}
	return s.Below(from)
}
