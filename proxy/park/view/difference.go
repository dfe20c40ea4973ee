package view

import (
	"errors"
	"slices"
)

// Difference is what a client has to be told for its view to be a state. It says only
// what the state is sure of: flags that changed beyond the state's own bound are
// left to the next resync, and so is the bound itself.
type Difference struct {
	Vanished UIDs         // the client counts them, and they are gone
	New      UIDs         // all higher than those it counts
	Changed  []FlagChange // of messages that it counts and that aren't gone, ascending
	FlagList Flags        // of the FLAGS response where it is another than was told, else ""

	// ModSeq and UIDNext are the view's when all of this has been told. 0: as they are.
	ModSeq  uint64
	UIDNext uint32

	// Again means that the state had changes from after its own bound: there is more
	// to be found than this.
	Again bool

	// table has the flags of the state, nil if only those in Changed are known. With
	// newOnly the client isn't told them yet but of the messages in New.
	table   *FlagTable
	newOnly bool
}

// Reason says why a state isn't of the mailbox that a view is of. It is one of the
// constants, so that it can be counted.
type Reason string

// The rules of the same mailbox. Telling a client VANISHED and then another message
// under the same UID corrupts caches: its session ends with BYE.
const (
	OtherUIDValidity Reason = "uidvalidity" // UIDVALIDITY differs (RFC 9051 §2.3.1.1)
	LowerUIDNext     Reason = "uidnext"     // UIDNEXT is below what the client was told
	LowerModSeq      Reason = "modseq"      // HIGHESTMODSEQ is below what it was told (RFC 7162 §3.1.2.1)
	UnknownLowUID    Reason = "uids"        // a message that it doesn't know has a UID that was given before
)

// NotSame is Compare's error for a state of another mailbox than the view's, though it
// has the same name.
type NotSame struct{ Reason Reason }

func (e *NotSame) Error() string { return "not the same mailbox: " + string(e.Reason) }

// What keeps Compare from knowing all flags that changed. The caller needs a state
// that reaches further back, or all flags.
var (
	ErrGap     = errors.New("flag changes between the view's bound and the state's are missing")
	ErrNoFlags = errors.New("the flags that the client was told are not known")
)

// Compare computes what a client with view v has to be told of s. Its errors are
// *NotSame, ErrGap and ErrNoFlags.
//
// The view mustn't have been taken after s's EXAMINE was sent: messages that
// came in between would seem gone.
func Compare(v *View, s *State) (Difference, error) {
	if reason := notSame(v, s); reason != "" {
		return Difference{}, &NotSame{Reason: reason}
	}
	d := Difference{
		Vanished: v.UIDs.Without(s.UIDs),
		New:      s.UIDs.Without(v.UIDs),
		UIDNext:  max(s.UIDNext, v.next(), behind(s.UIDs)),
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

// notSame returns why s isn't of v's mailbox, "" if it may be:
//   - UIDVALIDITY is another,
//   - UIDNEXT or HIGHESTMODSEQ has gone down,
//   - a UID that the client has seen given away belongs to a message that it doesn't count.
func notSame(v *View, s *State) Reason {
	switch {
	case s.UIDValidity != v.UIDValidity:
		return OtherUIDValidity
	case s.UIDNext != 0 && s.UIDNext < v.next():
		return LowerUIDNext
	case s.ModSeq != 0 && s.ModSeq < v.ModSeq:
		return LowerModSeq
	case !s.UIDs.Below(v.next()).Without(v.UIDs).Empty():
		return UnknownLowUID
	}
	return ""
}

// takeChanges takes over what a QRESYNC state says of the messages that stay.
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

// newest puts changes in order and keeps the last one of each message.
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

// compareTables finds the messages that stay and whose flags are others than were told.
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

// HasExpunge says whether telling d takes messages away, which RFC 9051 §7.5.1
// doesn't allow at all times.
func (d Difference) HasExpunge() bool { return !d.Vanished.Empty() }

// Split takes d apart where EXPUNGE may not be told yet: now is what may be told, owed is
// the rest, to be told later to a client with the view v.After(now). What would
// show a client a mod-sequence beyond its bound is part of owed, and so is the bound itself.
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

// Sparing returns d without the flags of some messages, if there are any in it. It doesn't raise the
// bound, so that a later resync finds them again.
func (d Difference) Sparing(spared func(FlagChange) bool) Difference {
	if !slices.ContainsFunc(d.Changed, spared) {
		return d
	}
	d.Changed = slices.DeleteFunc(slices.Clone(d.Changed), spared)
	d.ModSeq = 0
	return d
}

// uids are what the client counts after d.
func (d Difference) uids(v *View) UIDs { return v.UIDs.Without(d.Vanished).Union(d.New) }

// told are the flags that a client with view v knows after d, when it counts
// uids. nil where they aren't known of all.
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

// Lists returns d with a FLAGS response that has the flags of list, too, if a client with view v
// hasn't been told them, though its own backend takes them for told.
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

// newFlagList is the FLAGS response to tell: what was told, what the mailbox lists,
// and all flags that are about to be told. "" if the client has been told all that.
//
// Nothing is taken back: a keyword that no message has any more, or none yet, is listed on
// one of Dovecot's connections and not on another, and each tells of it once.
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

// After is the view of a client that was told d, which was computed for v or is
// part of what was.
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
	// It stays although the bound may have risen over it: a STORE .SILENT makes flags of those that
	// were known.
	after.Known = v.Known.after(d.Changed)
	return &after
}
