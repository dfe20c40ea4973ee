package park

import (
	"cmp"
	"context"
	"slices"
	"time"

	"imapproxy/proxy/park/resync"
)

// account is one of an open subscription's. None is left when the mailbox is dead.
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
	return m.subs[len(m.subs)-1].account, true
}

// wait waits until hints flow.
func (m *mailbox) wait(ctx context.Context) error {
	for {
		m.hub.mu.Lock()
		phase, err, ready := m.phase, m.err, m.ready
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

// watchedLocked says where hints come from.
func (m *mailbox) watchedLocked(by Watch) {
	if m.phase == dead {
		return
	}
	m.hub.kinds[m.kind]--
	m.kind = by
	m.hub.kinds[by]++
}

// every is how often the mailbox is looked at without a hint.
func (m *mailbox) every() time.Duration {
	if m.kind == WatchPoll {
		return m.hub.o.PollEvery
	}
	return m.hub.o.SweepEvery
}

// Why a mailbox is looked at, besides the sources of hints; in metrics and traces
// alone.
const (
	whyRenewed = "renewed" // the watch has stood still
	whyJoin    = "join"    // something was heard while a session was being parked, or may have been missed before
	whyLook    = "look"    // a parked client asks
	whyPark    = "park"    // what a view starts from
	whyResume  = "resume"
)

// dirtyLocked says that a hint is outstanding. The reason of the first one counts.
func (m *mailbox) dirtyLocked(why string) {
	if !m.dirty || m.why == "" {
		m.why = why
	}
	m.dirty = true
}

func (m *mailbox) joinedLocked() bool {
	return slices.ContainsFunc(m.subs, func(s *Subscription) bool { return s.member != nil })
}

// dueLocked says whether there is something to resync for, now or later.
func (m *mailbox) dueLocked() bool {
	return len(m.jobs) > 0 || m.dirty && m.joinedLocked()
}

// recoveredLocked forgets failures.
func (m *mailbox) recoveredLocked() {
	m.failing, m.backoff, m.refused = time.Time{}, 0, false
}

// learnedLocked takes an EXAMINE's HIGHESTMODSEQ. It may be lower than the last: the mailbox
// was made anew, or two were under way; a bound that is too low makes nothing lost.
func (m *mailbox) learnedLocked(modSeq uint64) {
	if modSeq != 0 {
		m.modSeq = modSeq
	}
}

// limit is how many messages the strategy takes; 0: any number.
func (m *mailbox) limit() uint32 {
	if by, ok := m.strategy.(resync.ByComparison); ok {
		return cmp.Or(by.MaxMessages, resync.DefaultMaxDiffMessages)
	}
	return 0
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
