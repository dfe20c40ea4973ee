package view

// View is what one client has been told of its selected mailbox. It is immutable and may be shared.
type View struct {
	Mailbox  string // canonical, see DecodeMailbox
	ReadOnly bool   // selected by EXAMINE, or SELECT said [READ-ONLY]

	UIDValidity uint32

	// UIDNext is at least as old as UIDs: each message with a lower UID is in UIDs or was removed. 0:
	// unknown.
	UIDNext uint32

	// UIDs are the messages that the client counts: its message n is UIDs.At(n).
	UIDs UIDs

	Flags          Flags // of the FLAGS response
	PermanentFlags Flags // of SELECT's PERMANENTFLAGS; no resync changes them

	// ModSeq is a lower bound: the client knows all flags up to it. It is the HIGHESTMODSEQ of the answer to
	// the session's own SELECT, or, if that had none, the one of an EXAMINE with CONDSTORE enabled that
	// completed before the snapshot. 1: the client is to be told all flags except Known. 0: none.
	ModSeq uint64

	// Told has the flags of all UIDs as the client was told them or may request them. Only the comparison
	// strategy needs it; nil otherwise.
	Told *FlagTable

	// Known has flags that the client knows. nil: none.
	Known *Known
}

// Next returns the lowest UID that a message may have of which the client doesn't know.
func (v *View) Next() uint32 { return max(v.UIDNext, behind(v.UIDs)) }

// behind returns the lowest UID that may follow uids. If uids has the highest possible UID, it returns that
// UID.
func behind(uids UIDs) uint32 {
	last := uids.Last()
	if last == 1<<32-1 {
		return last
	}
	return last + 1
}
