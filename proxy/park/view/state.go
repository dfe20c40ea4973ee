package view

// State is what a resync found in a mailbox. It isn't a difference; Compare computes one for each view. A
// State is immutable once it is published, and shared by all views that it applies to: those that were taken
// before its EXAMINE was sent.
//
// Changed flags are given in one of two ways: Changed with Since (the QRESYNC strategy), or Table (the
// comparison of all flags).
type State struct {
	UIDValidity uint32

	// UIDNext is from the answer to EXAMINE, before the UIDs were read; 0 if the answer had none. Each
	// message with a lower UID is in UIDs or was removed.
	UIDNext uint32

	// UIDs has all messages. Their number was compared with EXISTS.
	UIDs UIDs

	// ModSeq is the HIGHESTMODSEQ of the answer to EXAMINE: all changes up to it are in UIDs and Changed. 0:
	// the mailbox has none (NOMODSEQ), or it wasn't requested.
	ModSeq uint64

	// FlagList is the mailbox's FLAGS response, "" if it had none.
	FlagList Flags

	// Changed has every message whose flags changed after the mod-sequence Since, in any order; the last
	// entry of a message is the newest. It may have messages that are new to a view, or unknown. It isn't
	// used if Table is set.
	Changed []FlagChange
	Since   uint64

	// Table has the flags of all UIDs; nil under the QRESYNC strategy.
	Table *FlagTable
}

// Changes returns the largest number of flag changes that a difference to s may have.
func (s *State) Changes() int {
	if s.Table != nil {
		return int(s.UIDs.Count())
	}
	return len(s.Changed)
}
