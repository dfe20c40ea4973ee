package resync

import (
	"context"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/wire"
)

// Strategy is a way to find the state of a mailbox on a connection without a session. The mailbox stays
// selected, read-only.
//
// Its errors: *imapclient.Refusal (the mailbox was removed, or can't be read any more), *imapclient.Broken,
// ErrUnsettled, ErrTooMany, ErrNoModSeq, ErrNotEnabled, ErrName, ErrCannotDeselect.
type Strategy interface {
	Name() string // for metrics and logs
	Resync(ctx context.Context, c *Client, q Query) (*view.State, error)
}

// Choose returns the strategy for a backend with these capabilities: QRESYNC (RFC 7162) if the backend has
// it, otherwise comparison of at most maxMessages messages.
func Choose(caps wire.Caps, maxMessages uint32) Strategy {
	if caps.Has("QRESYNC") && caps.Has("ENABLE") {
		return ByQResync{}
	}
	return ByComparison{MaxMessages: maxMessages}
}
