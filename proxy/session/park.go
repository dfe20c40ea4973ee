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

// ParkOptions say when sessions are parked. With the zero value, none is parked.
type ParkOptions struct {
	Hub        *park.Hub      // nil: no session is parked
	Pool       *upstream.Pool // the pool of warm connections; not nil if Hub isn't
	Linger     time.Duration  // in IDLE: time since the client's last byte
	QuietAfter time.Duration  // outside IDLE: time since the client's last byte; 0: never
	Keepalive  time.Duration  // between "Still here" lines to parked clients in IDLE; 0: 2 min, negative: none
	// ResumeConcurrency bounds the resumes that run at a time per backend; 0: 32. ResumeRate bounds how many
	// begin per second; 0: no limit.
	ResumeConcurrency, ResumeRate int
	// A resume that fails is tried again for ResumeWithin, then the session ends. ResumeTry bounds one
	// attempt, so that a connection that hangs doesn't delay one that would work. 0: the defaults.
	ResumeWithin, ResumeTry time.Duration
}

// KeepaliveEvery is the interval of "Still here" lines to parked clients in IDLE; 0: none.
func (o ParkOptions) KeepaliveEvery() time.Duration { return OrDefault(o.Keepalive, 2*time.Minute) }

// ResumesAtATime is how many resumes run at a time per backend.
func (o ParkOptions) ResumesAtATime() int {
	if o.ResumeConcurrency <= 0 {
		return defaultResumes
	}
	return o.ResumeConcurrency
}

// parkState is the session's state of parking.
type parkState struct {
	blocker atomic.Uint32 // a track.Blocker: why the session isn't parked, for the admin page
	refused atomic.Int64  // when the client last sent a byte before the refusal that was counted last
	notTill atomic.Int64  // no attempt to park before this time, after one that failed; Unix ns
	// stop cancels what the session waits for, since the session may end meanwhile; nil if it doesn't wait.
	stop atomic.Pointer[context.CancelFunc]

	// Owned by the phase that runs; kept over resumes.
	failures uint8 // failed attempts to park in a row
	sub      *park.Subscription
	box      string         // the mailbox of sub
	mode     track.ParkMode // how the session is being parked
	cause    string         // why the session is resumed, for telemetry
	// verb is that of the command that needs a backend. deferred is what catch-up has to tell the client, nil
	// if there is nothing.
	verb       wire.Verb
	hasCommand bool // the client sent that command; otherwise the session is woken, and no command is in progress
	// leaving is what that command does to the selected mailbox.
	leaving  track.Leaving
	star     uint32 // the UID or number that the command's "*" means; 0: what the backend takes it for
	deferred *deferred
	ends     bool // the command is DONE, and the proxy answers it, since more has arrived after it
	cutIdle  bool // the client was in IDLE when the connection was lost
	losses   losses

	mu       sync.Mutex  // guards the fields below. No client is written to while it is held
	times    uint32      // how often the session has been parked
	view     *view.View  // nil if nothing is selected or the session isn't parked
	state    *view.State // the mailbox's state as the hub has reported it and the client hasn't been told; nil if there is none
	idle     bool        // the client is in IDLE
	lastTold int64       // when the client was last sent something, Unix ns
}

// within returns the context of what a session does while it is being parked or resumed. It ends with the
// session or after d.
func (s *Session) within(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	s.park.stop.Store(&cancel)
	if s.Reason() != "" {
		cancel() // abandon may have been called before the Store
	}
	return ctx, func() {
		cancel()
		s.park.stop.CompareAndSwap(&cancel, nil) // the next phase may have begun
	}
}

// abandon cancels the context that within returned.
func (s *Session) abandon() {
	if stop := s.park.stop.Load(); stop != nil {
		(*stop)()
	}
}

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
