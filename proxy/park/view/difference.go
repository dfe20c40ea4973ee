package view

import (
	"errors"
	"slices"
)

// Difference is what a client has to be told so that its view becomes a state. It contains only what the
// state is certain of: flags that changed after the state's own bound, and a higher bound, are left to the
// next resync.
type Difference struct {
	Vanished UIDs         // removed messages that the client counts
	New      UIDs         // messages that the client doesn't count yet, all with higher UIDs
	Changed  []FlagChange // flags of messages that the client counts and that weren't removed, ascending
	FlagList Flags        // the FLAGS response, if the client has to be told a new one; otherwise ""

	// ModSeq and UIDNext are those of the view after the client was told all of this. 0: no change.
	ModSeq  uint64
	UIDNext uint32

	// Again means that the state contained changes after its own bound: the next resync will find more.
	Again bool

	// table has the flags of the state; nil if only those in Changed are known. With newOnly, the client is
	// told the flags of the messages in New only.
	table   *FlagTable
	newOnly bool
}

// Reason says why a state belongs to another mailbox than a view. It is one of the constants, so it can be a
// metric's label.
type Reason string

// Reasons why a mailbox isn't the same. A client that is told VANISHED and then another message under the
// same UID would have a corrupt cache, so its session ends with BYE.
const (
	OtherUIDValidity Reason = "uidvalidity" // UIDVALIDITY differs (RFC 9051 §2.3.1.1)
	LowerUIDNext     Reason = "uidnext"     // UIDNEXT is lower than the client was told
	LowerModSeq      Reason = "modseq"      // HIGHESTMODSEQ is lower than the client was told (RFC 7162 §3.1.2.1)
	UnknownLowUID    Reason = "uids"        // a message unknown to the client has a UID that was assigned before
)

// NotSame is Compare's error if the state is from another mailbox of the same name.
type NotSame struct{ Reason Reason }

func (e *NotSame) Error() string { return "not the same mailbox: " + string(e.Reason) }

// With these errors, Compare doesn't know all changed flags. The caller needs a state with an earlier Since,
// or all flags.
var (
	ErrGap     = errors.New("flag changes between the view's bound and the state's are missing")
	ErrNoFlags = errors.New("the flags that the client was told are not known")
)

// Compare computes what a client with view v has to be told of s. Its errors are *NotSame, ErrGap and
// ErrNoFlags.
//
// The view must have been taken before the EXAMINE of s was sent. Otherwise messages that arrived in between
// would seem to be removed.
func Compare(v *View, s *State) (Difference, error) {
	if reason := notSame(v, s); reason != "" {
		return Difference{}, &NotSame{Reason: reason}
	}
	d := Difference{
		Vanished: v.UIDs.Without(s.UIDs),
		New:      s.UIDs.Without(v.UIDs),
		UIDNext:  max(s.UIDNext, v.Next(), behind(s.UIDs)),
	}
	stay := v.UIDs.Without(d.Vanished)
	var err error
	if s.Table != nil {
		d.Changed, err = compareTables(v, s, stay)
		d.table = s.Table
	} else {
		err = d.takeChanges(v, s, stay)
	}
	if err != nil {
		return Difference{}, err
	}
	d.ModSeq = s.ModSeq
	d.FlagList = newFlagList(v.Flags, s.FlagList, d.Changed)
	return d, nil
}

// notSame returns why s isn't from v's mailbox, "" if it may be:
//   - UIDVALIDITY differs,
//   - UIDNEXT or HIGHESTMODSEQ has decreased,
//   - a message that the client doesn't count has a UID below the view's UIDNEXT.
func notSame(v *View, s *State) Reason {
	switch {
	case s.UIDValidity != v.UIDValidity:
		return OtherUIDValidity
	case s.UIDNext != 0 && s.UIDNext < v.Next():
		return LowerUIDNext
	case s.ModSeq != 0 && s.ModSeq < v.ModSeq:
		return LowerModSeq
	case !s.UIDs.Below(v.Next()).Without(v.UIDs).Empty():
		return UnknownLowUID
	}
	return ""
}

// takeChanges takes the changes of a QRESYNC state that concern messages in stay.
func (d *Difference) takeChanges(v *View, s *State, stay UIDs) error {
	if s.ModSeq == 0 || s.Since > v.ModSeq {
		return ErrGap
	}
	for _, c := range s.Changed {
		switch {
		case c.ModSeq > s.ModSeq:
			d.Again = true
		case c.ModSeq != 0 && c.ModSeq <= v.ModSeq, !stay.Contains(c.UID):
		default:
			d.Changed = append(d.Changed, c)
		}
	}
	d.Changed = slices.DeleteFunc(newest(d.Changed), v.Known.has)
	if v.Told != nil {
		d.Changed = slices.DeleteFunc(d.Changed, func(c FlagChange) bool { return v.Told.Of(c.UID).Equal(c.Flags) })
	}
	return nil
}

// newest sorts changes by UID and keeps the last change of each message.
func newest(changes []FlagChange) []FlagChange {
	slices.SortStableFunc(changes, byUID)
	kept := changes[:0]
	for i, c := range changes {
		if i+1 < len(changes) && changes[i+1].UID == c.UID {
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// compareTables returns the messages in stay whose flags differ from those that the client was told.
func compareTables(v *View, s *State, stay UIDs) ([]FlagChange, error) {
	if v.Told == nil {
		if stay.Empty() {
			return nil, nil
		}
		return nil, ErrNoFlags
	}
	if v.Told == s.Table {
		return nil, nil
	}
	var changed []FlagChange
	for uid := range stay.All() {
		if now := s.Table.Of(uid); !now.Equal(v.Told.Of(uid)) {
			changed = append(changed, FlagChange{UID: uid, Flags: now})
		}
	}
	return changed, nil
}

// Empty says whether there is nothing to tell.
func (d Difference) Empty() bool {
	return d.Vanished.Empty() && d.New.Empty() && len(d.Changed) == 0 && d.FlagList == ""
}

// HasExpunge says whether d contains expunges, which a server may not send at all times (RFC 9051 §7.5.1).
func (d Difference) HasExpunge() bool { return !d.Vanished.Empty() }

// Split divides d while EXPUNGE may not be sent: now may be told at once, owed later, to a client with the
// view v.After(now). A mod-sequence beyond the client's bound, and the new bound itself, are part of owed.
func (d Difference) Split(dialect Dialect) (now, owed Difference) {
	if !d.HasExpunge() {
		return d, Difference{}
	}
	now = Difference{New: d.New, FlagList: d.FlagList, UIDNext: d.UIDNext, Again: d.Again}
	owed = Difference{Vanished: d.Vanished, ModSeq: d.ModSeq, Again: d.Again, table: d.table}
	if dialect == Plain {
		now.Changed, now.table = d.Changed, d.table
	} else {
		owed.Changed = d.Changed
		now.table, now.newOnly = d.table, true
	}
	return now, owed
}

// Sparing returns d without the flag changes for which spared is true. If there are any, it doesn't raise the
// bound, so that a later resync finds them again.
func (d Difference) Sparing(spared func(FlagChange) bool) Difference {
	if !slices.ContainsFunc(d.Changed, spared) {
		return d
	}
	d.Changed = slices.DeleteFunc(slices.Clone(d.Changed), spared)
	d.ModSeq = 0
	return d
}

// uids returns the messages that the client counts after d.
func (d Difference) uids(v *View) UIDs { return v.UIDs.Without(d.Vanished).Union(d.New) }

// told returns the flags that a client with view v knows after d, if it then counts uids. nil: they aren't
// known for all messages.
func (d Difference) told(v *View, uids UIDs) *FlagTable {
	switch {
	case d.table != nil && !d.newOnly:
		return d.table
	case v.Told == nil || d.table == nil && !d.New.Empty():
		return nil
	case d.New.Empty() && len(d.Changed) == 0:
		return v.Told
	}
	var b tableBuilder
	changes := d.Changed
	for uid := range uids.All() {
		for len(changes) > 0 && changes[0].UID < uid {
			changes = changes[1:]
		}
		switch {
		case len(changes) > 0 && changes[0].UID == uid:
			b.add(uid, changes[0].Flags)
		case d.New.Contains(uid):
			b.add(uid, d.table.Of(uid))
		default:
			b.add(uid, v.Told.Of(uid))
		}
	}
	return b.table()
}

// Lists returns d with a FLAGS response that contains the flags of list, if a client with view v hasn't been
// told them although its own backend believes so.
func (d Difference) Lists(v *View, list Flags) Difference {
	told := v.Flags
	if d.FlagList != "" {
		told = d.FlagList
	}
	if told.Lacks(list) {
		d.FlagList = told.union(list)
	}
	return d
}

// newFlagList returns the FLAGS response to tell: the flags that were told, those that the mailbox lists, and
// those of changed. "" if the client has been told them all.
//
// No flag is removed: a keyword that no message has is listed on some of Dovecot's connections and not on
// others, and each connection announces it once.
func newFlagList(told, list Flags, changed []FlagChange) Flags {
	now := told
	if now.Lacks(list) {
		now = now.union(list)
	}
	for _, c := range changed {
		if now.Lacks(c.Flags) {
			now = now.union(c.Flags)
		}
	}
	if now == told {
		return ""
	}
	return now
}

// After returns the view of a client that was told d, or a part of it; d was computed for v.
func (v *View) After(d Difference) *View {
	if d.Empty() && d.ModSeq <= v.ModSeq && d.UIDNext <= v.UIDNext && d.table == nil {
		return v
	}
	after := *v
	after.UIDs = d.uids(v)
	if d.FlagList != "" {
		after.Flags = d.FlagList
	}
	after.UIDNext = max(v.UIDNext, d.UIDNext)
	after.ModSeq = max(v.ModSeq, d.ModSeq)
	after.Told = d.told(v, after.UIDs)
	// Known remains although the bound may be higher now: a STORE .SILENT computes its flags from those that
	// the client knew.
	after.Known = v.Known.after(d.Changed)
	return &after
}
