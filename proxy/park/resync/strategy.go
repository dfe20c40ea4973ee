package resync

import (
	"context"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
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

// Strategy is a way to find the state of a mailbox, on a connection that no session has. The
// mailbox stays selected, read-only.
//
// Its errors: *imapclient.Refusal (the mailbox is gone, or may not be read any more),
// *imapclient.Broken, ErrUnsettled, ErrTooMany, ErrNoModSeq, ErrNotEnabled, ErrName,
// ErrCannotDeselect.
type Strategy interface {
	Name() string // in metrics and for people
	Resync(ctx context.Context, c *Client, q Query) (*view.State, error)
}

// Choose returns the strategy for a backend with these capabilities: QRESYNC (RFC
// 7162) where it is spoken, else comparison of at most maxMessages messages.
func Choose(caps wire.Caps, maxMessages uint32) Strategy {
	if caps.Has("QRESYNC") && caps.Has("ENABLE") {
		return ByQResync{}
	}
	return ByComparison{MaxMessages: maxMessages}
}
