package session

import (
	"time"

	"imapproxy/internal/clock"
)

// The relay of an attached session has two goroutines, which take more memory than all the rest of it. When its client and its
// backend have been silent for some time, the session gives them up and waits in the poller with both connections. The first
// byte on either starts the relay again, as the end of either connection does. Everything else treats the session as any
// attached one: signals and Terminate wake it.

// dormantAfter is how long client and backend have been silent before the session is dormant. Between the commands of a burst the
// relay keeps its goroutines.
const dormantAfter = 5 * time.Second

// askToBeDormant asks the relay to give up its goroutines if nothing has come for dormantAfter. A session that has refused isn't asked
// again before something has come. The sweep calls it.
func (s *Session) askToBeDormant(now time.Time) {
	seen := s.lastSeen.Load()
	if Attachment(s.attachment.Load()) != Attached || now.Sub(clock.At(seen)) < dormantAfter || seen == s.wakeful.Load() ||
		s.halfClosed.Load() || s.leaving.Load() || !s.inFlight.Calm() {
		return
	}
	s.Signal(SigDormant)
}

// dormant waits without a goroutine until one of the two connections has something to read, or the session is signalled or terminated.
func (s *Session) dormant() phase {
	b := s.backend.Load()
	s.client.TrimAll(s.env.Buffers)
	b.TrimAll(s.env.Buffers)
	switch {
	case s.Reason() != "" || s.losing() || s.leaving.Load(): // it came before this phase, and hasn't woken the poller
		return s.awoken()
	case s.env.Poller.AddBoth(s.client, b.Conn, dormantHandler{s}) == nil:
		return phaseAway
	}
	s.wakeful.Store(s.lastSeen.Load())
	return phaseRelay
}

// awoken decides which phase follows once the poller has woken the session.
func (s *Session) awoken() phase {
	asked, goesOn := s.rested()
	switch {
	case !goesOn:
		return phaseEnd
	case s.losing():
		return s.lost()
	case asked&SigPause != 0:
		return s.parksNow()
	}
	return phaseRelay
}
