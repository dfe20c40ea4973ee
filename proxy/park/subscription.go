package park

import (
	"context"
	"errors"
	"slices"

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

	// Login gives a connection of the watch's kind (upstream.UseWatch), new or one
	// that Give was lent before for this account; the hub owns it. It is called from
	// the hub's goroutines and returns when ctx ends.
	Login func(ctx context.Context) (*upstream.Conn, error)

	// Give takes back a connection that isn't needed, clean and deselected. For one
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
	// View was asked. It doesn't wait: the session keeps the state and tells its client by
	// itself, since whose client doesn't read mustn't keep the hub from others. It may come
	// while the subscription is being closed, or the session leaves: then it is to be
	// ignored.
	Apply(s *view.State)
	// Gone: the mailbox is gone, or may not be read any more (*Refusal). The session
	// ends with BYE. It is the last call.
	Gone(err error)
	// Lost: there are no hints any more, since the watch can't be had again or the
	// mailbox can't be resynced. The session decides what becomes of it. It is the
	// last call.
	Lost()
}

// Errors of Subscribe, Again, Look, Poll and Resync, besides a Resyncer's and Login's.
var (
	ErrHubClosed = errors.New("the hub is closed")
	ErrLost      = errors.New("hints can't be had any more") // the subscription is of no further use
	ErrNotJoined = errors.New("nobody has joined")
)

// Subscription is one session's interest in one mailbox. Of all its methods, only
// Look, Poll, Resync, Table and Again wait.
type Subscription struct {
	m       *mailbox
	account Account

	// Guarded by the hub's mutex:
	closed bool
	member Member // nil: hasn't joined, or has left
	joins  uint64 // how often it has joined: a state for an earlier time isn't for it
	// heard and done are the mailbox' as of Subscribe or Again. If it has heard of
	// anything, or looked, until Join, the view may lack that.
	heard, done uint64
	// round is the last one that it took part in.
	round uint64
	// owed: a resync left the member out, because it showed no view just then.
	owed bool
}

// ModSeq is the HIGHESTMODSEQ of an enabled EXAMINE that completed before this
// returned: the view's lower bound where the session's own SELECT showed none. 0:
// the strategy is comparison, or Account.ModSeq made an EXAMINE needless.
func (s *Subscription) ModSeq() uint64 {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.m.modSeq
}

// Strategy names how the mailbox is resynced, for people and metrics.
func (s *Subscription) Strategy() string { return s.m.resync.Name() }

// Watch names where hints come from, for people and metrics: "push", "notify",
// "idle" or "poll".
func (s *Subscription) Watch() string {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.m.kind.String()
}

// Again begins anew for a session that kept its subscription while it was
// attached: it has left, and what is heard from now on counts. It returns when hints
// flow, like Subscribe, with Subscribe's errors.
func (s *Subscription) Again(ctx context.Context) error {
	s.Leave()
	if err := s.m.wait(ctx); err != nil {
		return err
	}
	s.m.hub.mu.Lock()
	defer s.m.hub.mu.Unlock()
	return s.beginLocked()
}

// beginLocked notes what has been heard so far; the rest counts for the view that
// is about to be taken.
func (s *Subscription) beginLocked() error {
	m := s.m
	switch {
	case s.closed, m.phase == dead:
		return ErrLost
	case m.hub.closed:
		return ErrHubClosed
	}
	s.heard, s.done, s.owed = m.heard, m.done, false
	m.unused = false
	return nil
}

// Doubt says that the view may lack what happened before Subscribe or Again: whatever is
// heard or not, a resync follows when the session joins.
func (s *Subscription) Doubt() {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.heard--
}

// Join says that the session is parked, with a view taken since Subscribe or
// Again. States of resyncs begun after this apply to it. If anything was heard
// between that and now, a resync follows at once. Who joins what is lost already is
// told so by Lost, in another goroutine.
func (s *Subscription) Join(member Member) {
	m, h := s.m, s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed || h.closed {
		return
	}
	if m.phase == dead {
		gone := m.gone
		h.goLocked(func() { tellEnd(member, gone) })
		return
	}
	// What was outstanding before anybody was here is in everybody's view.
	others := slices.ContainsFunc(m.subs, func(o *Subscription) bool { return o.member != nil })
	if m.heard != s.heard || m.begun != s.done {
		m.dirtyLocked(whyJoin)
	} else if !others {
		m.dirty = false
	}
	s.memberLocked(member)
	s.owed, m.unused = false, false
	s.joins++
	m.kickLocked()
}

// Leave says that the session isn't parked any more. Its subscription stays.
func (s *Subscription) Leave() {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.memberLocked(nil)
}

// memberLocked has the session join, or leave.
func (s *Subscription) memberLocked(member Member) {
	switch joined := s.member != nil; {
	case member != nil && !joined:
		s.m.hub.counts.Members++
	case member == nil && joined:
		s.m.hub.counts.Members--
	}
	s.member = member
}

// Settled says that the view is up to date as far as anybody has heard: hints
// flow, none is outstanding, no resync is running. The session may answer NOOP by
// itself.
func (s *Subscription) Settled() bool {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.settledLocked()
}

func (s *Subscription) settledLocked() bool {
	m := s.m
	return !s.closed && s.member != nil && !s.owed && m.phase == standing && !m.dirty && !m.running
}

// Look returns when the view is settled, or a state that covers all hints so far
// has been applied to the member. It doesn't wait for a failure to be mended: an error
// says that the backend can't be asked just now, and the session has to help
// itself.
func (s *Subscription) Look(ctx context.Context) error {
	return s.look(ctx, (*Subscription).nextLocked)
}

// Poll is Look for a client that asks: hints may be late, or lost, so a state whose
// EXAMINE was sent after this call has been applied to the member when it returns nil. One
// round answers all who asked before it began; they all wait for the same one.
func (s *Subscription) Poll(ctx context.Context) error {
	return s.look(ctx, func(s *Subscription) uint64 { return s.m.begun + 1 })
}

// nextLocked is the round that covers all hints so far. 0: none is needed.
func (s *Subscription) nextLocked() uint64 {
	m := s.m
	switch {
	case s.settledLocked():
		return 0
	case !m.running || m.dirty || s.owed || s.round != m.begun:
		return m.begun + 1
	}
	return m.begun
}

// look waits until the round that of names is over.
func (s *Subscription) look(ctx context.Context, of func(*Subscription) uint64) error {
	m, h := s.m, s.m.hub
	h.mu.Lock()
	switch {
	case h.closed:
		h.mu.Unlock()
		return ErrHubClosed
	case s.closed, m.phase == dead:
		h.mu.Unlock()
		return ErrLost
	case s.member == nil:
		h.mu.Unlock()
		return ErrNotJoined
	}
	round := of(s)
	if round == 0 {
		h.mu.Unlock()
		return nil
	}
	w := &waiter{round: round, done: make(chan error, 1)}
	if round > m.begun {
		m.dirtyLocked(whyLook)
	}
	m.waiters = append(m.waiters, w)
	m.notBefore = h.now() // somebody waits: this isn't put off
	m.kickLocked()
	h.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-h.ctx.Done():
		return ErrHubClosed
	}
}

// Resync makes one resync for this view, now: a resume needs to know which flags
// have changed. The state isn't given to Apply. A mailbox that has become too large to
// be parked is compared once more, within reason: or its sessions would have to end.
func (s *Subscription) Resync(ctx context.Context, v *view.View) (*view.State, error) {
	state, err := s.m.resyncFor(ctx, s, v, s.m.resync, whyResume)
	if limit := s.m.limit(); limit > 0 && errors.Is(err, ErrTooMany) {
		return s.m.resyncFor(ctx, s, v, ByComparison{MaxMessages: limit * outgrown}, whyResume)
	}
	return state, err
}

// outgrown is how many times the comparison's limit a mailbox may have while its
// sessions leave it.
const outgrown = 8

// Table is the flags that all messages have now: what a view starts from where
// the strategy is comparison. It has to be taken before the snapshot, so that what
// changes in between is told twice rather than never; what was heard until it
// returns counts as seen, as with Again. *ErrTooMany for a mailbox
// that is too large to be compared.
func (s *Subscription) Table(ctx context.Context) (*view.FlagTable, error) {
	r := s.m.hub.comparison()
	state, err := s.m.resyncFor(ctx, s, nil, r, whyPark)
	if err != nil {
		return nil, err
	}
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.member == nil {
		_ = s.beginLocked() // an error will be told by whoever waits next
	}
	return state.Table, nil
}

// Close ends the subscription. The last one's of a mailbox ends its watch. It
// may be called more than once.
func (s *Subscription) Close() {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.memberLocked(nil)
	m := s.m
	m.subs = slices.DeleteFunc(m.subs, func(o *Subscription) bool { return o == s })
	if len(m.subs) == 0 {
		m.dropLocked(nil)
	}
}
