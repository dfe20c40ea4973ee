package resync

import (
	"imapproxy/proxy/park/view"
)

// Query is what a resync may build on: what all views that the state is for know of the mailbox.
type Query struct {
	Mailbox string // canonical

	// UIDValidity, UIDNext, ModSeq and UIDs are of one view, or of several: the
	// union of their UIDs, the highest UIDNext, the lowest ModSeq.
	UIDValidity uint32
	UIDNext     uint32
	// ModSeq 0 asks for a state with nothing before it: its UIDs, and the bound
	// from which on the next resync can tell what has changed.
	ModSeq uint64
	UIDs   view.UIDs
}
