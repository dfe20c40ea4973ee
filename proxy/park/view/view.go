package view

// View is what one client has been told of its selected mailbox. It is immutable,
// and may be shared.
type View struct {
	Mailbox  string // canonical, see DecodeMailbox
	ReadOnly bool   // selected by EXAMINE, or SELECT said [READ-ONLY]

	UIDValidity uint32

	// UIDNext is never younger than UIDs: each message with a lower UID is in UIDs or
	// gone for good. 0: not known.
	UIDNext uint32

	// UIDs are the messages that the client counts: its message n is UIDs.At(n).
	UIDs UIDs

	Flags          Flags // of the FLAGS response
	PermanentFlags Flags // of SELECT's PERMANENTFLAGS; no resync changes them

	// ModSeq is a lower bound: the client knows all flags as of here. It is the
	// HIGHESTMODSEQ of the session's own SELECT, or, where that showed none, the one of an
	// enabled EXAMINE that completed before the snapshot. 0: none.
	ModSeq uint64

	// Told has the flags of all UIDs, as the client was told them or may ask for
	// them. Only the comparison strategy needs it; nil elsewhere.
	Told *FlagTable

	// Known has flags that the client knows, beyond its bound or not. nil: none.
	Known *Known
}

// next is the lowest UID that a message may have which the client doesn't know of.
func (v *View) next() uint32 { return max(v.UIDNext, behind(v.UIDs)) }

// behind is the lowest UID that may follow uids. Where they use up all there
// are, none does, and it is their last.
func behind(uids UIDs) uint32 {
	last := uids.Last()
	if last == 1<<32-1 {
		return last
	}
	return last + 1
}
