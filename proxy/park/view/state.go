package view

// State is what a resync found in a mailbox. It is never a difference: every view
// makes its own, with Compare. A State is immutable once it is handed out, and
// shared by all views that it applies to: those taken before its EXAMINE was
// sent.
//
// What flags have changed is told in one of two ways: Changed with Since (the
// QRESYNC strategy), or Table (the comparison of all flags).
type State struct {
	UIDValidity uint32

	// UIDNext is the EXAMINE's, so from before UIDs were learnt, or 0 where it
	// said none: each message with a lower UID is in UIDs or gone for good.
	UIDNext uint32

	// UIDs are all messages. Their number has been checked against EXISTS.
	UIDs UIDs

	// ModSeq is the EXAMINE's HIGHESTMODSEQ: all that happened up to it is in
	// UIDs and Changed. 0: the mailbox shows none (NOMODSEQ), or wasn't asked.
	ModSeq uint64

	// FlagList is the mailbox's FLAGS response, "" where there was none.
	FlagList Flags

	// Changed has every message whose flags changed after the mod-sequence Since,
	// in any order, the newest mention of a message last. It may have messages that a
	// view counts as new, or doesn't know. Meaningless where Table is set.
	Changed []FlagChange
	Since   uint64

	// Table has the flags of all UIDs. nil under the QRESYNC strategy.
	Table *FlagTable
}

// Changes is how many changes of flags a difference to it may have.
func (s *State) Changes() int {
	if s.Table != nil {
		return int(s.UIDs.Count())
	}
	return len(s.Changed)
}
