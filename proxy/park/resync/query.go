package resync

import (
	"imapproxy/proxy/park/view"
)

// Query is what a resync may rely on: what all views for which the state is made know of the mailbox.
type Query struct {
	Mailbox string // canonical

	// UIDValidity, UIDNext, ModSeq and UIDs are those of one view, or combined from several: the union of
	// their UIDs, the highest UIDNext, the lowest ModSeq.
	UIDValidity uint32
	UIDNext     uint32
	// ModSeq 0 requests a state without history: the UIDs, and the bound from which the next resync can tell
	// changes.
	ModSeq uint64
	UIDs   view.UIDs
}
