package park

import (
	"context"
	"errors"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// Account is how the hub acts for a user at a backend. Each subscription brings
// its own; the hub uses that of one which is still open.
type Account struct {
	User, Backend string    // canonical name, and the backend's id
	BackendName   string    // for people; "" = Backend
	Caps          wire.Caps // the backend's after login

	// Login returns a connection of the watch's kind (upstream.UseWatch), a new one or one
	// that Give was given before for this account; the hub owns it. It is called from
	// the hub's goroutines and returns when ctx ends.
	Login func(ctx context.Context) (*upstream.Conn, error)

	// Give takes a connection that isn't needed any more, clean and deselected. For one
	// backend, enabled is always the same. nil: such connections are closed.
	Give func(c *upstream.Conn, enabled []string)

	// Shared says that a mailbox isn't of the user's personal namespace, or is
	// virtual: push events and NOTIFY don't count for it. nil: the backend is asked
	// for its namespaces, once for all of the user's subscriptions.
	Shared func(mailbox string) bool

	// ModSeq is the HIGHESTMODSEQ that the session's own SELECT showed, 0 where it
	// showed none. With it a watch that needs no connection begins without one.
	ModSeq uint64
}

// Member is a parked session. The hub calls its methods from its own goroutines,
// one at a time for one mailbox, holding no locks; none may wait for a client; they may call the hub, but
// Look, Poll and Resync of their own subscription's mailbox would wait for themselves.
type Member interface {
	// View is what the client has been told; nil when the session isn't parked any
	// more: it is skipped then.
	View() *view.View
	// Apply is given a state whose EXAMINE was sent after the member joined and
	// View was called. It doesn't wait: the session keeps the state and tells its client by
	// itself, since a client that doesn't read mustn't keep the hub from others. It may be called
	// while the subscription is being closed, or the session leaves: then it does nothing.
	Apply(s *view.State)
	// Gone says that the mailbox is gone, or may not be read any more (*imapclient.Refusal). The session
	// ends with BYE. It is the last call.
	Gone(err error)
	// Lost says that there are no hints any more, since the watch can't be set up again or the
	// mailbox can't be resynced. The session decides what becomes of it. It is the
	// last call.
	Lost()
}

// Errors of Subscribe, Again, Look, Poll and Resync, besides a resync.Strategy's and Login's.
var (
	ErrHubClosed = errors.New("the hub is closed")
	ErrLost      = errors.New("hints can't be had any more") // the subscription is of no further use
	ErrNotJoined = errors.New("the subscription has no member that has joined")
)

// ErrTooSlow means that the backend didn't answer in time.
var ErrTooSlow = errors.New("the backend didn't answer in time")
