package resync

import (
	"errors"

	"imapproxy/proxy/imapclient"
)

// Errors after which the connection can still be used, besides *imapclient.Refusal.
var (
	// ErrUnsettled: the mailbox changed at each try, or what the backend says of
	// it is contradictory. A session that was to be parked stays attached.
	ErrUnsettled = errors.New("the mailbox doesn't settle")
	// ErrNoModSeq: the mailbox keeps no mod-sequences (RFC 7162 §3.1.2.2).
	ErrNoModSeq = errors.New("the mailbox has no mod-sequences")
	// ErrTooMany: there are more messages, or changes, than are looked at.
	ErrTooMany = errors.New("too many messages")
	// ErrNotEnabled: the backend doesn't enable what it was asked to.
	ErrNotEnabled = imapclient.ErrNotEnabled
	// ErrCannotDeselect: there is no way to deselect without expunging. The
	// connection is of no further use.
	ErrCannotDeselect = errors.New("the backend can't deselect a mailbox")
	// ErrName: the mailbox name can't be sent.
	ErrName = errors.New("the mailbox name can't be sent")
)

// errProtocol is what a response that can't be understood wraps.
var errProtocol = imapclient.ErrProtocol
