package session

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/proxy/park"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// ParkOptions say when sessions are parked. The zero value parks none.
type ParkOptions struct {
	Hub        *park.Hub      // nil: no session is parked
	Pool       *upstream.Pool // of warm connections; must be there with Hub
	Linger     time.Duration  // in IDLE, since the client's last word
	QuietAfter time.Duration  // outside IDLE; 0: never
	Keepalive  time.Duration  // between "Still here" lines to parked clients in IDLE; 0: 2 min, negative: none
	// ResumeConcurrency bounds resumes at a time per backend; 0: 32. ResumeRate
	// bounds how many begin in a second; 0: no limit.
	ResumeConcurrency, ResumeRate int
	// A resume that fails is tried again for ResumeWithin, then the session ends.
	// ResumeTry bounds one attempt: a connection that hangs isn't waited for while
	// another would do. 0: the defaults.
	ResumeWithin, ResumeTry time.Duration
}

// keepalive is how long a parked client in IDLE hears nothing; 0: as long as nothing happens.
func (o ParkOptions) KeepaliveEvery() time.Duration { return OrDefault(o.Keepalive, 2*time.Minute) }

// ResumesAtATime is how many resumes go on at a time on one backend.
func (o ParkOptions) ResumesAtATime() int {
	if o.ResumeConcurrency <= 0 {
		return defaultResumes
	}
	return o.ResumeConcurrency
}

// parkState is what a session knows of its parking.
type parkState struct {
	blocker atomic.Uint32 // a kept: what keeps it from being parked, for people
	refused atomic.Int64  // the client's last word before a refusal that was counted
	notTill atomic.Int64  // after a park that came to nothing, Unix ns
	// stop ends what is waited for just now, nil while nothing is: the session may end meanwhile.
	stop atomic.Pointer[context.CancelFunc]

	// The phase's own, kept over resumes.
	failures uint8 // parks in a row that came to nothing
	sub      *park.Subscription
	box      string         // the mailbox that sub is for
	mode     track.ParkMode // how it is being parked
	cause    string         // why it comes back, as telemetry has it
	// verb is what the client said that needs a backend; owed is what it hasn't been
	// told when that has message numbers of before in it.
	verb       wire.Verb
	hasCommand bool // it said so; else it is woken, and no command is in progress
	// leaving is what that command makes of the mailbox.
	leaving  track.Leaving
	star     uint32 // what that command's "*" means; 0: what the backend takes it for
	deferred *deferred
	ends     bool      // that command is DONE, which the proxy answers, as more has come behind it
	cut      track.Cut // what becomes of the commands that were under way when the connection was lost
	losses   losses

	mu       sync.Mutex  // guards what follows. No client is written to under it
	times    uint32      // how often it has been parked
	view     *view.View  // nil: nothing selected, or not parked
	state    *view.State // heard of and not told yet
	idle     bool        // the client is in IDLE
	lastTold int64       // when the client last heard anything, Unix ns
}

// within is the context of what a session does on its way to or from being parked:
// it ends with the session, or after d.
func (s *Session) within(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	s.park.stop.Store(&cancel)
	if s.Reason() != "" {
		cancel() // abandon may have come before
	}
	return ctx, func() {
		cancel()
		s.park.stop.CompareAndSwap(&cancel, nil) // the next phase may have begun
	}
}

// abandon ends what within has begun.
func (s *Session) abandon() {
	if stop := s.park.stop.Load(); stop != nil {
		(*stop)()
	}
}

// mayPark says whether the settings, the session's own and those of now, let it be
// parked.
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

// askToPark has the relay pause, when the session has been idle for long enough.
// It is called by the sweep.
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
	case track.Blocker(s.park.blocker.Load()) < track.BlockerTooBig: // else it says why the last attempt came to nothing
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
	s.Signal(SigPause) // the backend's reader rests after the client's (relay)
}

// isPause says whether a Pump returned since the session is to be parked.
func (s *Session) isPause(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && s.pausing()
}

// paused decides, with both readers at rest, what follows the relay.
func (s *Session) paused() phase {
	losing := s.losing()
	if !s.rested() {
		return phaseEnd
	}
	if losing {
		return s.lost()
	}
	if s.up.err != nil { // a write to the backend has failed: it may have last words
		s.backend.Load().LimitReads(s.env.Now().Add(lingerFor))
		s.fromBackend()
		if s.losing() {
			return s.lost()
		}
		s.Terminate(ReasonBackendLost) // unless it has an end already
		return phaseEnd
	}
	how, why := s.inFlight.CanPark()
	if !s.clean() {
		how, why = track.ModeNone, track.BlockerCommand
	}
	if how != track.ModeUnselected && s.overdue() { // nothing may be said on the connection
		how, why = track.ModeNone, track.BlockerUnavailable
	}
	s.park.blocker.Store(uint32(why))
	if s.park.mode = how; how == track.ModeNone {
		return phaseRelay
	}
	return phaseDetach
}

// clean says that both streams stand between two units, with nothing kept.
func (s *Session) clean() bool {
	return s.up.scan.AtStart() && s.up.err == nil && s.up.refused == nil && !s.up.awaiting && len(s.client.Kept()) == 0 &&
		s.down.scan.AtStart() && s.down.err == nil && s.down.broken == nil && !s.down.rewrite && len(s.backend.Load().Kept()) == 0 &&
		s.out.atBoundary() && !s.halfClosed.Load()
}
