package park

import (
	"context"
	"errors"

	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// Account has what the hub needs to act for a user at a backend. Each subscription has one; the hub uses that of
// any subscription that is open.
type Account struct {
	User, Backend string    // canonical name, and the backend's id
	BackendName   string    // for logs; "": Backend
	Caps          wire.Caps // the backend's capabilities after login

	// Login returns a connection for watches (upstream.UseWatch): a new one, or one that Give took before for
	// this account. steps gets the phases of a new one's login. The hub owns it. Login is called from the hub's goroutines and returns when ctx ends.
	Login func(ctx context.Context, steps *telemetry.Steps) (*upstream.Conn, error)

	// Give takes a connection that the hub doesn't need any more: no mailbox is selected and no command is in
	// progress. enabled is always the same for one backend. nil: such connections are closed.
	Give func(c *upstream.Conn, enabled []string)

	// Shared says whether a mailbox isn't in the user's personal namespace or is virtual, so that push events
	// and NOTIFY don't tell of it. nil: the backend is asked for its namespaces, once for all subscriptions of
	// the user.
	Shared func(mailbox string) bool

	// ModSeq is the HIGHESTMODSEQ that the session's own SELECT showed, 0 if it showed none. If it is known, a
	// watch that needs no connection begins without one.
	ModSeq uint64
}

// Member is a parked session. The hub calls its methods from its own goroutines, one at a time for one mailbox,
// and holds no lock meanwhile. No method may wait for a client. A method may call the hub, except Look, Poll and
// Resync of its own subscription's mailbox, which would wait for the method itself.
type Member interface {
	// View returns what the client was told, nil if the session isn't parked any more; then the hub skips it.
	View() *view.View
	// Apply takes a state whose EXAMINE was sent after the member joined and View was called. It doesn't wait:
	// the session keeps the state and tells its client itself, so that a client that doesn't read delays no
	// other session. It may be called while the subscription is being closed or the session leaves; then it
	// does nothing.
	Apply(s *view.State)
	// Gone says that the mailbox is gone, or the user may not read it any more (*imapclient.Refusal). The session
	// ends with BYE. It is the last call.
	Gone(err error)
	// Lost says that no more hints come, since the watch can't be set up again or the mailbox can't be
	// resynced. The session decides how it goes on. It is the last call.
	Lost()
}

// Errors of Subscribe, Again, Look, Poll and Resync, in addition to those of a resync.Strategy and of Login.
var (
	ErrHubClosed = errors.New("the hub is closed")
	ErrLost      = errors.New("hints can't be received any more") // the subscription can't be used any more
	ErrNotJoined = errors.New("the subscription has no member that has joined")
)

// ErrTooSlow means that the backend didn't answer in time.
var ErrTooSlow = errors.New("the backend didn't answer in time")
