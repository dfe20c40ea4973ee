package park

import (
	"errors"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
)

// severity is the consequence of an error for a mailbox.
type severity uint8

const (
	passing severity = iota // temporary: a later attempt may succeed
	losing                  // permanent, although the mailbox may exist
	ending                  // the mailbox doesn't exist, or not for this user
)

// severityLocked returns an error's severity. A refusal of EXAMINE ends the sessions that are parked there:
// at once if its response code is permanent, otherwise the second time. Errors which mean that the mailbox
// can't be resynced, or that the user can't log in, are losing.
func (m *mailbox) severityLocked(err error) severity {
	if refusal, ok := errors.AsType[*imapclient.Refusal](err); ok {
		switch {
		case refusal.Status != "NO":
			return losing
		case refusal.Verb != "EXAMINE":
			return passing
		}
		if refusal.Passing() {
			return passing
		}
		switch refusal.Code {
		case "NONEXISTENT", "NOPERM", "AUTHORIZATIONFAILED", "CANNOT":
			return ending
		}
		if m.refused {
			return ending
		}
		m.refused = true
		return passing
	}
	if _, ok := errors.AsType[*upstream.Refused](err); ok {
		return losing
	}
	for _, final := range []error{resync.ErrTooMany, resync.ErrNoModSeq, resync.ErrNotEnabled, resync.ErrName, resync.ErrCannotDeselect} {
		if errors.Is(err, final) {
			return losing
		}
	}
	return passing
}

// failed records a failure of the watch or of a round. It returns whether to try again, and how long to wait
// before; otherwise the mailbox is dead, and its members were told.
func (m *mailbox) failed(err error) (wait time.Duration, again bool) {
	h := m.hub
	h.mu.Lock()
	if m.phase == dead || h.closed {
		h.mu.Unlock()
		return 0, false
	}
	severity := m.severityLocked(err)
	now := h.moment()
	if m.failing.IsZero() {
		m.failing, m.backoff = now, 0
	}
	if e, ok := errors.AsType[*upstream.Elsewhere](err); ok && e.Backend == "" {
		m.failing = now // the user is being moved: no backend has been asked, and none would let a session in
	}
	if _, ok := errors.AsType[*upstream.Paused](err); ok {
		m.failing = now // nothing was tried
	}
	if severity == passing && (m.phase != starting || m.patient) && now.Sub(m.failing) < lostAfter {
		wait = m.backoff
		m.backoff = min(max(2*m.backoff, firstBackoff), lastBackoff)
		m.notBefore = now.Add(jittered(wait))
		if !m.running {
			// A session in Look doesn't wait until the backend is available again.
			for _, w := range m.waiters {
				w.done <- err
			}
			m.waiters = nil
		}
		m.freeJobsLocked() // another connection may serve them sooner than the watch's next one
		m.scheduleLocked()
		h.mu.Unlock()
		return jittered(wait), true
	}
	var members []Member
	for _, s := range m.subs {
		if s.member != nil {
			members = append(members, s.member)
			s.memberLocked(nil)
		}
	}
	if severity == ending {
		m.gone = err
		h.counts.Gone++
	} else if m.phase != starting {
		h.counts.Lost++
		h.counts.LastLost = h.o.Now()
	}
	gone, backend := m.gone, m.site.name
	m.dropLocked(err)
	h.mu.Unlock()
	for _, member := range members {
		tellEnd(member, gone)
	}
	if len(members) > 0 {
		h.o.Telemetry.Log.Warn("a parked mailbox was given up", "user", m.user.name, "backend", backend,
			"watch", m.kind.String(), "members", len(members), "gone", gone != nil, "error", err)
	}
	return 0, false
}

func tellEnd(member Member, gone error) {
	if gone != nil {
		member.Gone(gone)
	} else {
		member.Lost()
	}
}
