package park

import (
	"cmp"
	"context"
	"slices"
	"time"

	"imapproxy/proxy/park/resync"
)

// account returns the account of an open subscription. There is none if the mailbox is dead.
func (m *mailbox) account() (Account, bool) {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.accountLocked()
}

func (m *mailbox) accountLocked() (Account, bool) {
	if len(m.subs) == 0 {
		return Account{}, false
	}
	// The newest: the user may have changed the password since the oldest.
	return m.subs[len(m.subs)-1].account(), true
}

// wait waits until hints flow.
func (m *mailbox) wait(ctx context.Context) error {
	waits := 0
	defer func() {
		if waits > 0 {
			m.hub.mu.Lock()
			m.waiting--
			m.hub.mu.Unlock()
		}
	}()
	for {
		m.hub.mu.Lock()
		phase, err, ready := m.phase, m.err, m.ready
		if waits == 0 && phase != working && phase != dead {
			waits = 1
			m.waiting++
			m.hurryLocked()
		}
		m.hub.mu.Unlock()
		switch phase {
		case working:
			return nil
		case dead:
			return err
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.hub.ctx.Done():
			return ErrHubClosed
		}
	}
}

// watchedLocked sets the source of hints.
func (m *mailbox) watchedLocked(by Watch) {
	if m.phase == dead {
		return
	}
	m.hub.kinds[m.kind]--
	m.kind = by
	m.hub.kinds[by]++
}

// every returns how often the mailbox is resynced without a hint.
func (m *mailbox) every() time.Duration {
	if m.kind == WatchPoll {
		return m.hub.o.PollEvery
	}
	return m.hub.o.SweepEvery
}

// Reasons of a resync besides the sources of hints, for metrics and traces.
const (
	whyRenewed = "renewed" // the watch was interrupted
	whyJoin    = "join"    // a hint came while a session was being parked, or may have been missed before
	whyLook    = "look"    // a parked client's command asks for the state
	whyPark    = "park"    // the initial flags of a view
	whyResume  = "resume"
)

// dirtyLocked records an outstanding hint. The reason of the first one is kept.
func (m *mailbox) dirtyLocked(why string) {
	if !m.dirty || m.why == "" {
		m.why = why
	}
	m.dirty = true
}

func (m *mailbox) joinedLocked() bool {
	return slices.ContainsFunc(m.subs, func(s *Subscription) bool { return s.member != nil })
}

// dueLocked says whether there is a reason for a round, now or later.
func (m *mailbox) dueLocked() bool {
	return len(m.jobs) > 0 || m.dirty && m.joinedLocked()
}

// recoveredLocked clears the record of failures.
func (m *mailbox) recoveredLocked() {
	m.failing, m.backoff, m.refused = 0, 0, false
}

// learnedLocked records an EXAMINE's HIGHESTMODSEQ. It may be lower than the last: the mailbox was created
// again, or two EXAMINEs overlapped; with a bound that is too low no change is lost.
func (m *mailbox) learnedLocked(modSeq uint64) {
	if modSeq != 0 {
		m.modSeq = modSeq
	}
}

// limit returns how many messages the strategy can handle; 0: any number.
func (m *mailbox) limit() uint32 {
	if by, ok := m.strategy.(resync.ByComparison); ok {
		return cmp.Or(by.MaxMessages, resync.DefaultMaxDiffMessages)
	}
	return 0
}

// memberLocked makes the session join, or leave if member is nil.
func (s *Subscription) memberLocked(member Member) {
	switch joined := s.member != nil; {
	case member != nil && !joined:
		s.m.hub.counts.Members++
	case member == nil && joined:
		s.m.hub.counts.Members--
	}
	s.member = member
}
