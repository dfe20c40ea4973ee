package resync

import (
	"errors"

	"imapproxy/proxy/imapclient"
)

// Errors after which the connection can still be used, besides *imapclient.Refusal.
var (
	// ErrUnsettled: the mailbox changed during each try, or the backend's responses about it contradict each
	// other. A session that should be parked stays attached.
	ErrUnsettled = errors.New("the mailbox doesn't settle")
	// ErrNoModSeq: the mailbox has no mod-sequences (RFC 7162 §3.1.2.2).
	ErrNoModSeq = errors.New("the mailbox has no mod-sequences")
	// ErrTooMany: there are more messages or changes than the limit.
	ErrTooMany = errors.New("too many messages")
	// ErrNotEnabled: the backend didn't enable a requested capability.
	ErrNotEnabled = imapclient.ErrNotEnabled
	// ErrCannotDeselect: the backend can't deselect the mailbox without expunging. The connection can't be
	// used any more.
	ErrCannotDeselect = errors.New("the backend can't deselect a mailbox")
	// ErrName: the mailbox name can't be sent.
	ErrName = errors.New("the mailbox name can't be sent")
)

// errProtocol is wrapped by the errors about responses that can't be understood.
var errProtocol = imapclient.ErrProtocol
