package park

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
)

// ModSeq is the HIGHESTMODSEQ of an enabled EXAMINE that was answered before this
// returned: the view's lower bound where the session's own SELECT showed none. 0:
// the strategy is comparison, or Account.ModSeq made an EXAMINE needless.
func (s *Subscription) ModSeq() uint64 {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.m.modSeq
}

// Mailbox returns the canonical name of the mailbox.
func (s *Subscription) Mailbox() string { return s.m.name }

// Strategy returns the name of the resync strategy, for pages and metrics.
func (s *Subscription) Strategy() string { return s.m.strategy.Name() }

// MaxDiffMessages is how many messages the mailbox may have if all their flags are to be asked for.
func (s *Subscription) MaxDiffMessages() uint32 {
	return cmp.Or(s.m.hub.o.MaxDiffMessages, resync.DefaultMaxDiffMessages)
}

// Watch names where hints come from, for people and metrics: "push", "notify",
// "idle" or "poll".
func (s *Subscription) Watch() string {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.m.kind.String()
}

// Again is Subscribe for a session that has kept its subscription while it was attached: the session leaves,
// and hints count from now on. It returns when hints flow, with Subscribe's errors.
func (s *Subscription) Again(ctx context.Context) error {
	s.Leave()
	s.m.started()
	if err := s.m.wait(ctx); err != nil {
		return err
	}
	s.m.hub.mu.Lock()
	defer s.m.hub.mu.Unlock()
	return s.beginLocked()
}

// beginLocked records the hints so far; later ones count for the view that is about to be taken.
func (s *Subscription) beginLocked() error {
	m := s.m
	switch {
	case s.closed, m.phase == dead:
		return ErrLost
	case m.hub.closed:
		return ErrHubClosed
	}
	s.heard, s.done, s.missed = m.heard, m.done, false
	m.unused = false
	return nil
}

// Doubt records that the view may lack changes from before Subscribe or Again: a resync follows when the
// session joins, even without a hint.
func (s *Subscription) Doubt() {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.heard--
}

// Join records that the session is parked, with a view taken after Subscribe or Again. States of resyncs that
// begin later are applied to it. If a hint has come since Subscribe or Again, a resync follows at once. If
// the mailbox is lost already, the member's Lost is called in another goroutine.
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
	// Every view includes the changes of hints that were outstanding before a member had joined.
	others := slices.ContainsFunc(m.subs, func(o *Subscription) bool { return o.member != nil })
	if m.heard != s.heard || m.begun != s.done {
		m.dirtyLocked(whyJoin)
	} else if !others {
		m.dirty = false
	}
	if !others && m.phase == working {
		m.recoveredLocked() // nothing was tried since the last member left: what failed then says nothing of now
	}
	s.memberLocked(member)
	s.missed, m.unused = false, false
	s.joins++
	if m.phase == fresh || m.phase == starting {
		m.patient = true
	}
	if m.phase == fresh {
		m.startLocked()
	}
	m.scheduleLocked()
}

// Leave records that the session isn't parked any more. The subscription stays open.
func (s *Subscription) Leave() {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.memberLocked(nil)
}

// Settled says whether the view is up to date as far as the hub knows: hints flow, none is outstanding, and
// no resync is running. The session may then answer NOOP itself.
func (s *Subscription) Settled() bool {
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.settledLocked()
}

func (s *Subscription) settledLocked() bool {
	m := s.m
	return !s.closed && s.member != nil && !s.missed && m.phase == working && !m.dirty && !m.running
}

// Look returns when the view is settled, or when a state that covers all hints so far has been applied to the
// member. It doesn't wait for the end of a failure: an error means that the hub can't reach the backend now,
// so the session has to resume.
func (s *Subscription) Look(ctx context.Context) error {
	return s.look(ctx, (*Subscription).nextLocked)
}

// Poll is Look for a session whose client asks: hints may be late, or lost, so a state whose
// EXAMINE was sent after this call has been applied to the member when it returns nil. One
// round answers all calls that came before it began.
func (s *Subscription) Poll(ctx context.Context) error {
	return s.look(ctx, func(s *Subscription) uint64 { return s.m.begun + 1 })
}

// nextLocked is the round that covers all hints so far. 0: none is needed.
func (s *Subscription) nextLocked() uint64 {
	m := s.m
	switch {
	case s.settledLocked():
		return 0
	case !m.running || m.dirty || s.missed || s.round != m.begun:
		return m.begun + 1
	}
	return m.begun
}

// look waits until the round that of names is over.
func (s *Subscription) look(ctx context.Context, of func(*Subscription) uint64) error {
	m, h := s.m, s.m.hub
	defer m.hurry()()
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
	m.notBefore = h.moment() // a client waits, so there is no delay
	m.scheduleLocked()
	m.waiting++
	m.hurryLocked() // if the watch is lost, its next attempt makes the round
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		m.waiting--
	}()
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
// have changed. The state isn't given to Apply. A mailbox that has become too large for
// the comparison is compared once more, up to a higher bound: else its sessions would have to end.
func (s *Subscription) Resync(ctx context.Context, v *view.View) (*view.State, error) {
	defer s.m.hurry()()
	state, err := s.m.resyncFor(ctx, s, v, s.m.strategy, whyResume)
	if limit := s.m.limit(); limit > 0 && errors.Is(err, resync.ErrTooMany) {
		return s.m.resyncFor(ctx, s, v, resync.ByComparison{MaxMessages: limit * outgrown}, whyResume)
	}
	return state, err
}

// outgrown is the factor by which a mailbox may exceed the comparison's limit of messages when its sessions
// resume.
const outgrown = 8

// Table is the flags that all messages have now: what a view starts from where
// the strategy is comparison. It has to be taken before the snapshot, so that what
// changes in between is told twice rather than never; what was heard until it
// returns counts as seen, as with Again. resync.ErrTooMany: the mailbox
// is too large to be compared.
func (s *Subscription) Table(ctx context.Context) (*view.FlagTable, error) {
	state, err := s.m.resyncFor(ctx, s, nil, s.m.hub.comparison(), whyPark)
	if err != nil {
		return nil, err
	}
	h := s.m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.member == nil {
		_ = s.beginLocked() // the next call that waits returns the error
	}
	return state.Table, nil
}

// Close ends the subscription. The last one of a mailbox ends the mailbox's watch. Close may be called more
// than once.
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

// Later is Again for a session whose view has a mod-sequence of its own: it doesn't wait until hints flow.
func (s *Subscription) Later() error {
	s.Leave()
	s.m.hub.mu.Lock()
	defer s.m.hub.mu.Unlock()
	return s.laterLocked()
}

func (s *Subscription) laterLocked() error {
	err := s.beginLocked()
	s.heard-- // as Doubt
	return err
}
