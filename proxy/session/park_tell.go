package session

import (
	"errors"
	"time"

	"imapproxy/proxy/park"
	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// A parked client is written to by its own session's goroutine alone, which holds neither
// a lock nor a place that is shared: a client may take its time to read. Who finds
// out what is to be told (the hub's workers, the sweep) signals.

const (
	// tellWithin bounds the write of one piece to a parked client.
	tellWithin = 10 * time.Second
	// tellPiece is how much of a difference is rendered before it is written.
	tellPiece = 64 << 10
	// differencesPerUser is how many sessions of one user hold a large difference at a time.
	differencesPerUser = 8
)

// signals does what the parked session was signalled to do, and says whether there was
// anything, and why it is to come back ("" it isn't). interrupted says that a read of the client was.
// late: something is to be told when what has come from the client has been read.
func (s *Session) signals(interrupted bool) (wake string, done, late bool) {
	for s.Reason() == "" {
		due := s.takeSignals(interrupted)
		interrupted = false
		switch {
		case due&sigWake != 0:
			return due.wake(), true, late
		case due&SigTell != 0:
			told, ok := s.tellIdle(false)
			if !ok {
				return telemetry.WakeLostWatch, true, late
			}
			late = !told
		case due&SigAlive != 0:
			s.tellAlive()
		default:
			return "", done, late
		}
		done = true
	}
	return "", done, late
}

// tellIdle tells a client in IDLE what was heard of. It doesn't where something has come from the client, which may be
// DONE and a command by number, written before this could be read; read says that it has been read. ok is
// false where a resume has to find out what is to be told.
func (s *Session) tellIdle(read bool) (told, ok bool) {
	s.park.mu.Lock()
	idle := s.park.idle
	s.park.mu.Unlock()
	if !idle {
		return true, true
	}
	done, err := s.mayTell(s.heard())
	if err != nil {
		return false, s.Reason() != ""
	}
	defer done()
	if !read && s.client.Arrived() {
		return false, true
	}
	return true, s.tellHeard(nil, true) || s.Reason() != ""
}

// tellAlive tells a client in IDLE that the proxy is there, if nothing else was told meanwhile.
func (s *Session) tellAlive() {
	s.park.mu.Lock()
	due := s.park.idle && s.env.Now().UnixNano()-s.park.lastTold >= int64(s.aliveEvery())
	s.park.mu.Unlock()
	if due {
		_ = s.say([]byte("* OK Still here\r\n"))
	}
}

// tellAll tells what was heard of since the client was last told, and the answer
// behind it. idle says whether the client is in IDLE from then on. It fails where a
// resume has to see to it, or the session has ended.
func (s *Session) tellAll(answer []byte, idle bool) (ok bool) {
	done, err := s.mayTell(s.heard())
	if err != nil {
		return false
	}
	defer done()
	return s.tellHeard(answer, idle)
}

// tellHeard is tellAll for who may tell as much as there is.
func (s *Session) tellHeard(answer []byte, idle bool) (ok bool) {
	s.park.mu.Lock()
	v, state := s.park.view, s.park.state
	s.park.state = nil
	var d view.Difference
	var err error
	if state != nil {
		d, err = view.Compare(v, state)
	}
	if err == nil {
		s.park.idle = idle
		if state != nil {
			s.park.view = v.After(d)
		}
	}
	var other *view.NotSame
	if errors.As(err, &other) {
		s.notSameLocked(other)
	}
	s.park.mu.Unlock()
	if err != nil || s.tellDifference(d, v, answer) != nil {
		return false
	}
	if d.Again {
		s.set.Park.Hub.Hint(park.Hint{User: s.user, Mailbox: v.Mailbox, Source: park.HintWatch})
	}
	return true
}

// tellNothing tells an answer, and leaves what was heard of for later.
func (s *Session) tellNothing(answer []byte) (ok bool) {
	s.park.mu.Lock()
	s.park.idle = false
	s.park.mu.Unlock()
	return s.say(answer) == nil
}

// heard is how many changes of flags there are at most in what was heard of.
func (s *Session) heard() int {
	s.park.mu.Lock()
	defer s.park.mu.Unlock()
	if s.park.state == nil {
		return 0
	}
	return s.park.state.Changes()
}

// fewChanges don't count as a large difference: they take less memory than a piece.
const fewChanges = 1024

// mayTell waits while too many of the user's sessions hold a large difference, each
// for as long as its client takes to read it. done is to be called when this one has none
// any more; more than once does no harm.
func (s *Session) mayTell(changes int) (done func(), err error) {
	if changes <= fewChanges {
		return func() {}, nil
	}
	ctx, cancel := s.within(leaveWithin)
	defer cancel()
	done, err = s.env.Queues.Telling(ctx, s.user)
	if err != nil {
		s.Terminate(ReasonClientUnread)
	}
	return done, err
}

// tellDifference writes a difference for a client with view v, piece by piece, and
// the answer behind it. v has been replaced by the view after d before: who can't be told
// all of it is gone.
func (s *Session) tellDifference(d view.Difference, v *view.View, answer []byte) error {
	var last []byte // written with what follows it
	if v != nil {
		for piece := range d.Pieces(s.inFlight.Client.Dialect, s.inFlight.Client.UIDOnly, v, tellPiece) {
			if len(piece) < tellPiece {
				last = piece
				break
			}
			if err := s.say(piece); err != nil {
				return err
			}
		}
	}
	return s.say(append(last, answer...))
}

// say writes to a client without a backend, who may not read: then the session ends. It
// is for the session's own goroutine, which holds no lock.
func (s *Session) say(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	now := s.env.Now()
	s.park.mu.Lock()
	s.park.lastTold = now.UnixNano()
	s.park.mu.Unlock()
	if err := s.out.relayUntil(b, true, now.Add(tellWithin)); err != nil {
		s.Terminate(ReasonClientLost)
		return err
	}
	s.bytesOut.Add(int64(len(b)))
	s.env.Telemetry.AddBytes(telemetry.Out, int64(len(b)))
	return nil
}

// aliveEvery is how long a parked client in IDLE hears nothing; 0: for ever.
func (s *Session) aliveEvery() time.Duration {
	every := s.settings().Park.KeepaliveEvery()
	return every - every/8 - time.Duration(s.id[0])*every/1024 // the sweep comes an eighth late at most
}

// keepalive has a parked client in IDLE told that the proxy is there, for the NATs on the way, at
// intervals of its own so that not all are told at once.
func (s *Session) keepalive(now time.Time) {
	s.park.mu.Lock()
	defer s.park.mu.Unlock()
	every := s.aliveEvery()
	if every > 0 && s.park.idle && Attachment(s.attachment.Load()) == Parked && now.UnixNano()-s.park.lastTold >= int64(every) {
		s.Signal(SigAlive)
	}
}
