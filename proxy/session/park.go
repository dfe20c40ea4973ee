package session

import (
	"errors"
	"os"
	"time"

	"imapproxy/proxy/track"
)

// mayPark says whether both the settings of the session's login and the current settings allow parking.
func (s *Session) mayPark() bool {
	own, now := s.set.Park.Hub != nil, s.env.Settings().Park.Hub != nil
	switch {
	case own && now:
		return true
	case own:
		s.park.blocker.Store(uint32(track.BlockerOff))
	case now:
		s.park.blocker.Store(uint32(track.BlockerBeforeOn))
	}
	return false
}

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
	how, why := s.inFlight.CanPark()
	after := o.Linger
	if how == track.ModeSelected || how == track.ModeUnselected {
		if after = o.QuietAfter; after == 0 {
			how, why = track.ModeNone, track.BlockerQuietOff
		}
	}
	waits := now.UnixNano() < s.park.notTill.Load() || s.overdue()
	switch {
	case how == track.ModeNone || !waits:
		s.park.blocker.Store(uint32(why))
	case track.Blocker(s.park.blocker.Load()) < track.BlockerTooBig: // otherwise it says why the last attempt failed
		s.park.blocker.Store(uint32(track.BlockerFailed))
	}
	heard := time.Unix(0, s.lastHeard.Load())
	if how == track.ModeNone && now.Sub(heard) >= o.Linger && s.park.refused.Swap(heard.UnixNano()) != heard.UnixNano() {
		s.env.Telemetry.ParkRefused(why.String())
	}
	if how == track.ModeNone || now.Sub(heard) < after || waits {
		return
	}
	s.park.refused.Store(0)
	s.Signal(SigPause) // the reader of the backend stops after the reader of the client (relay)
}

// isPause says whether a Pump returned because the relay is asked to stop.
func (s *Session) isPause(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && s.pausing()
}

// paused decides, after both readers have stopped, which phase follows the relay.
func (s *Session) paused() phase {
	losing := s.losing()
	if !s.rested() {
		return phaseEnd
	}
	if losing {
		return s.lost()
	}
	if s.up.err != nil { // a write to the backend has failed: the backend may have sent more
		s.backend.Load().LimitReads(s.env.Now().Add(lingerFor))
		s.fromBackend()
		if s.losing() {
			return s.lost()
		}
		s.Terminate(ReasonBackendLost) // unless it has a reason already
		return phaseEnd
	}
	how, why := s.inFlight.CanPark()
	if !s.clean() {
		how, why = track.ModeNone, track.BlockerCommand
	}
	if how != track.ModeUnselected && s.overdue() { // nothing may be sent on the connection
		how, why = track.ModeNone, track.BlockerUnavailable
	}
	s.park.blocker.Store(uint32(why))
	if s.park.mode = how; how == track.ModeNone {
		return phaseRelay
	}
	return phaseDetach
}

// clean says whether both streams are between two units, with no bytes kept back.
func (s *Session) clean() bool {
	return s.up.scan.AtStart() && s.up.err == nil && s.up.refused == nil && !s.up.awaiting && len(s.client.Kept()) == 0 &&
		s.down.scan.AtStart() && s.down.err == nil && s.down.broken == nil && !s.down.rewrite && len(s.backend.Load().Kept()) == 0 &&
		s.out.atBoundary() && !s.halfClosed.Load()
}
