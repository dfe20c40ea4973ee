package view

import (
	"errors"
	"fmt"
	"slices"
)

// Bounds of a Tally's memory.
const (
	maxTally  = 256  // entries of its log, of 12 bytes
	maxListed = 2048 // ranges of UIDs that FETCH responses have told, of 8 bytes
)

// Tally records which messages a client was told have come to its mailbox or gone from it since the SELECT. If the
// connection is lost, Found finds by it the messages that the client counts. It has no UIDs except those of
// VANISHED responses, that of the last message, if a FETCH response had it, and those of all messages once FETCH
// responses have told them all. The zero value is that of a mailbox without messages.
type Tally struct {
	// first is the number of messages at the SELECT (the old messages), old how many of them the client still
	// counts. Once the client was told the UIDs of all messages, those are the old ones.
	first, old uint32
	// base are the UIDs of the old messages, if they are known, as they are after a resume (hasBase).
	base    UIDs
	hasBase bool
	// from is the lowest UID that an added message can have, if it isn't lower than the UIDNEXT of the SELECT.
	from uint32
	// list are the UIDs of the messages up to number listed, as FETCH responses have told them one after the other
	// since the last one has gone: of all messages, or of the added ones where base is known. listed 0: no list has begun.
	list   uidBuilder
	listed uint32
	// added is the number of messages that have come since, standing how many of them the client still counts.
	added, standing uint32
	// newest says that the client still counts the message that was added last.
	newest bool
	// named is how many messages were added up to the one with the UID namedUID, of which the client was told; 0:
	// the client was told no UID of an added message.
	named, namedUID uint32
	// log has the messages that have gone, old and added ones, in the order in which the client was told. Added
	// messages have entries (cameNew) only once one of them has gone.
	log []tallied
	// short says that the log was full, so that it isn't complete; the counts are right.
	short bool
	// lost says that the client was told something that can't be followed, so that the counts may be wrong.
	lost bool
}

// tallied is an entry of the log: count messages that have gone or come.
type tallied struct {
	kind  tallyKind
	n     uint32 // a message number among the old or among the added messages, or the first UID
	count uint32
}

type tallyKind uint8

const (
	oldGone  tallyKind = iota + 1 // old message n has gone, count times in a row
	oldDown                       // the old messages n, n-1, … have gone, count of them
	newGone                       // added message n has gone, count times in a row
	newDown                       // the added messages n, n-1, … have gone, count of them
	cameNew                       // count messages have come
	uidsGone                      // the messages with UIDs n … n+count-1 have gone, old or added ones
)

// Begin resets the Tally: the client has selected a mailbox with so many messages.
func (t *Tally) Begin(messages uint32) {
	*t = Tally{first: messages, old: messages, log: t.log[:0]}
}

// BeginWith resets the Tally: the client counts these messages, and the mailbox has no other ones.
func (t *Tally) BeginWith(messages UIDs) {
	t.Begin(messages.Count())
	t.base, t.hasBase = messages, true
}

// Count returns how many messages the client counts.
func (t *Tally) Count() uint32 { return t.old + t.standing }

// Lose records that the client was told something that can't be followed.
func (t *Tally) Lose() {
	t.lost, t.log, t.list = true, nil, uidBuilder{}
}

// Exists records an EXISTS: the client counts n messages now.
func (t *Tally) Exists(n uint32) {
	have := t.Count()
	switch {
	case n < have: // a server has to send EXPUNGE instead (RFC 9051 §7.5.1)
		t.Lose()
	case n > have:
		more := n - have
		t.added, t.standing, t.newest = t.added+more, t.standing+more, true
		if t.logs(newGone, newDown, uidsGone) { // so that later entries refer to the right messages
			t.note(tallied{kind: cameNew, count: more})
		}
	}
}

// Named records that message n has this UID, as a FETCH response says. The last message's is kept, and those of all
// messages if they are told one after the other, as in the answer to UID FETCH 1:*.
func (t *Tally) Named(n, uid uint32) {
	if uid == 0 || t.lost {
		return
	}
	if t.newest && n == t.Count() {
		t.named, t.namedUID = t.added, uid
	}
	known, last := t.hasBase && !t.short, uint32(0)
	if known {
		last = t.base.Last()
	}
	switch begin := !known && n == 1 || known && n == t.old+1; {
	case known && t.added == 0:
		return // all are known
	case begin:
		t.unlist()
	case t.listed == 0 || n != t.listed+1:
		return
	default:
		last = t.list.ranges[len(t.list.ranges)-1][1]
	}
	if uid <= last || len(t.list.ranges) >= maxListed {
		t.unlist()
		return
	}
	t.list.add(uid, uid)
	t.listed = n
	if n == t.Count() && uid < 1<<32-1 {
		t.rebase()
	}
}

// unlist forgets the list.
func (t *Tally) unlist() { t.list.ranges, t.listed = t.list.ranges[:0], 0 }

// rebase resets the Tally once the UIDs of all messages that the client counts are known: they are the old ones from
// now on, and messages that come later have higher UIDs.
func (t *Tally) rebase() {
	all := t.list.set()
	if t.hasBase && !t.short {
		all = t.apply(t.base, oldGone, oldDown).Union(all)
	}
	t.unlist()
	if n := all.Count(); n == t.Count() {
		*t = Tally{first: n, old: n, base: all, hasBase: true, from: all.Last() + 1, log: t.log[:0]}
	}
}

// logs says whether the log has an entry of one of these kinds.
func (t *Tally) logs(kinds ...tallyKind) bool {
	return slices.ContainsFunc(t.log, func(e tallied) bool { return slices.Contains(kinds, e.kind) })
}

// Expunged records an EXPUNGE of a message number.
func (t *Tally) Expunged(n uint32) {
	t.unlist()
	switch {
	case n == 0 || n > t.Count():
		t.Lose()
	case n <= t.old:
		t.old--
		t.gone(oldGone, oldDown, n)
	default:
		t.begun()
		t.newest = t.newest && n < t.Count()
		t.standing--
		t.gone(newGone, newDown, n-t.old)
	}
}

// begun logs, before the first of the added messages goes, how many were added.
func (t *Tally) begun() {
	if !t.logs(newGone, newDown, uidsGone, cameNew) && t.added > 0 {
		t.note(tallied{kind: cameNew, count: t.added})
	}
}

// gone logs that message n has gone. If the last entry can say it too, the entry is extended. same and down are the
// kinds of entries for old or for added messages.
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

// Vanished records a VANISHED, not VANISHED (EARLIER): these messages, which the client counted, have gone. next is
// the UIDNEXT of the SELECT.
func (t *Tally) Vanished(uids UIDs, next uint32) {
	t.unlist()
	next = max(t.from, next)
	old := uids.Below(next).Count()
	if next == 0 || old > t.old || uids.Count()-old > t.standing {
		t.Lose()
		return
	}
	t.begun()
	t.newest = t.newest && old == uids.Count() // it may be among them
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
	UIDs                 UIDs // of all messages in the mailbox
	// Vanished are the UIDs of VANISHED (EARLIER) since the HIGHESTMODSEQ of the client's SELECT (RFC 7162
	// §3.2.6), asked for without known UIDs. It may have more than have gone since, if the server doesn't
	// remember enough. Only set with QRESYNC.
	Vanished UIDs
	QResync  bool // the backend has QRESYNC, and Vanished is its answer
}

// Why the messages that a client counts can't be found.
var (
	ErrNotFollowed = errors.New("what the client was told can't be followed")
	ErrNoUIDNext   = errors.New("the mailbox showed no UIDNEXT when it was selected")
	ErrNotExact    = errors.New("the backend doesn't say exactly which messages have gone")
)

// What isn't known with an ErrNotExact, which wraps one of these.
var (
	ErrNoHistory   = errors.New("messages have gone unheard, and the backend can't say which")
	ErrHistory     = errors.New("the backend says that more messages have gone than there were, since it has forgotten when")
	ErrAdded       = errors.New("it isn't known which of the messages that have come the client was told of")
	ErrContradicts = errors.New("the backend contradicts what the client was told")
)

// Found returns the messages that the client counts. at is the mailbox as the client was told of it at the SELECT; its
// UIDs aren't used. The errors are *NotSame, ErrNotFollowed, ErrNoUIDNext and ErrNotExact: nothing is guessed.
//
// Old messages have UIDs below the UIDNEXT of the SELECT, added ones have higher ones, in the order in which they came. Where
// the client was told the UIDs of all messages since, old ones are those.
// The first case that applies decides, for the old messages:
//
//	their UIDs were known                                       the log is applied to them
//	as many are there as the client counts                      those
//	those there and those vanished are as many as at the SELECT   the log is applied to both
//	otherwise                                                   ErrNotExact
//
// and for the added ones up to the one whose UID is known, if it is, then for those behind it, or for all:
//
//	none was added                                              none
//	up to the known UID, as many are there as were added        those: messages that came later have higher UIDs
//	behind it, none has vanished before as many that are there    the first of those there: a later one isn't told before them
//	behind it, the first of those there have each UID that      those: all UIDs that were given out first
//	  can have been given out
//	those there and those vanished are as many as were added    those
//	otherwise                                                   ErrNotExact
//
// The log is then applied to all added ones. What it says has gone must not be there.
//
// Seen.Vanished may have too many messages but never too few, so equal numbers mean equal sets.
func (t *Tally) Found(at *View, s Seen) (UIDs, error) {
	switch {
	case s.UIDValidity != at.UIDValidity:
		return UIDs{}, &NotSame{Reason: OtherUIDValidity}
	case s.UIDNext != 0 && s.UIDNext < at.UIDNext:
		return UIDs{}, &NotSame{Reason: LowerUIDNext}
	case s.ModSeq != 0 && s.ModSeq < at.ModSeq:
		return UIDs{}, &NotSame{Reason: LowerModSeq}
	case t.lost:
		return UIDs{}, ErrNotFollowed
	}
	next := max(t.from, at.UIDNext)
	if next == 0 {
		return UIDs{}, ErrNoUIDNext
	}
	old, err := t.foundOld(next, s)
	if err != nil {
		return UIDs{}, err
	}
	added, err := t.foundAdded(next, s)
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
		return UIDs{}, notExact(ErrNoHistory, "%d messages of before are there, the client counts %d", left.Count(), t.old)
	case t.short:
		return UIDs{}, ErrNotFollowed
	}
	all := left.Union(s.Vanished.Below(next))
	if n := all.Count(); n != t.first {
		why := ErrHistory
		if n < t.first {
			why = ErrContradicts
		}
		return UIDs{}, notExact(why, "%d messages of before are there or have vanished, there were %d", n, t.first)
	}
	return t.apply(all, oldGone, oldDown), nil
}

func (t *Tally) foundAdded(next uint32, s Seen) (UIDs, error) {
	if t.added == 0 {
		return UIDs{}, nil
	}
	there, gone := s.UIDs.From(next), s.Vanished.From(next)
	first := next // the lowest UID that a message of there can have
	var all UIDs
	if t.named > 0 {
		upTo := UIDRange(1, t.namedUID)
		all = there.Intersect(upTo)
		if all.Count() < t.named && s.QResync {
			all = all.Union(gone.Intersect(upTo))
		}
		if all.Count() != t.named {
			return UIDs{}, notExact(ErrAdded, "%d messages up to the known UID are there or have vanished, %d were added", all.Count(), t.named)
		}
		there, gone = there.Without(upTo), gone.Without(upTo)
		first = t.namedUID + 1
	}
	switch rest := t.added - t.named; {
	case rest == 0:
	case s.QResync && comeFirst(there, gone, rest):
		all = all.Union(there.pick(UIDRange(1, rest)))
	case s.QResync && there.Union(gone).Count() == rest:
		all = all.Union(there).Union(gone)
	case gapless(there, first, rest):
		all = all.Union(UIDRange(first, first+(rest-1)))
	default:
		return UIDs{}, notExact(ErrAdded, "%d added messages are there and %d have vanished, the client was told of %d", there.Count(), gone.Count(), rest)
	}
	if t.standing == t.added {
		return all, nil
	}
	if t.short {
		return UIDs{}, ErrNotFollowed
	}
	told := t.apply(all, newGone, newDown)
	if !all.Without(told).Intersect(s.UIDs).Empty() {
		return UIDs{}, notExact(ErrContradicts, "messages are there that the client was told have gone")
	}
	return told, nil
}

// comeFirst says whether the first n messages came before each one that has vanished.
func comeFirst(there, vanished UIDs, n uint32) bool {
	last, ok := there.At(n)
	return ok && vanished.Below(last).Empty()
}

// gapless says whether the messages have the n UIDs from first on, without a gap: no message that was given a UID there has gone.
func gapless(messages UIDs, first, n uint32) bool {
	last := first + (n - 1)
	return first > 0 && last >= first && messages.Intersect(UIDRange(first, last)).Count() == n
}

// notExact is ErrNotExact with why, and the numbers that don't fit.
func notExact(why error, format string, a ...any) error {
	return fmt.Errorf("%w: %w: "+format, append([]any{ErrNotExact, why}, a...)...)
}

// apply returns all without the messages that have gone according to the log. all are the old messages or the added
// ones; same and down are the kinds of their entries.
func (t *Tally) apply(all UIDs, same, down tallyKind) UIDs {
	added := same == newGone
	left, later := all, UIDs{} // later: messages that came after the entries handled so far
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

// without returns the set without its members from first to last, counted from 1.
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
