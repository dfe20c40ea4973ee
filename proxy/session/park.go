package session

import (
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/track"
)

// askToPark asks the relay to pause if the session has been idle for long enough. The sweep calls it.
func (s *Session) askToPark(now time.Time) {
	o := &s.settings().Park
	if !s.mayPark() || Attachment(s.attachment.Load()) != Attached || s.halfClosed.Load() {
		return
	}
	if s.leaving.Load() {
		s.tryToLeave(now)
		return
	}
	if s.Visiting() {
		s.park.blocker.Store(uint32(track.BlockerShared))
		return
	}
	how, why := s.inFlight.CanPark()
	after := o.Linger
	if how == track.ModeSelected || how == track.ModeUnselected {
		if after = o.QuietAfter; after == 0 {
			how, why = track.ModeNone, track.BlockerQuietOff
		}
	}
	waits := clock.Of(now) < s.park.notTill.Load() || s.overdue()
	switch {
	case how == track.ModeNone || !waits:
		s.park.blocker.Store(uint32(why))
	case track.Blocker(s.park.blocker.Load()) < track.BlockerTooBig: // otherwise it says why the last attempt failed
		s.park.blocker.Store(uint32(track.BlockerFailed))
	}
	heard := clock.At(s.lastHeard.Load())
	if how == track.ModeNone && now.Sub(heard) >= o.Linger && s.park.refused.Swap(clock.Of(heard)) != clock.Of(heard) {
		s.env.Telemetry.ParkRefused(why.String())
	}
	if how == track.ModeNone || now.Sub(heard) < after || waits {
		return
	}
	s.park.refused.Store(0)
	s.Signal(SigPause) // the reader of the backend stops after the reader of the client (relay)
}
