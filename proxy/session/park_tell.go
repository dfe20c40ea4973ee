package session

import (
	"errors"
	"time"

	"imapproxy/internal/clock"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/track"
	"imapproxy/telemetry"
)

// Only a parked session's own goroutine writes to its client. It holds neither a lock nor a shared slot
// meanwhile, since the client may read slowly. A goroutine that finds out what is to be told (a worker of the
// hub, the sweep) signals the session.

// tellPiece is how much of a difference is rendered before it is written.
const tellPiece = 64 << 10

// signals handles the pending signals of a parked session. interrupted says that a read of the client was
// interrupted. wake is why the session is to be resumed, "" if it isn't; done says that there was a signal;
// late says that changes are to be told after the client's bytes have been read.
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

// tellIdle tells a client in IDLE the changes that the hub has reported. If bytes have arrived from the
// client, it doesn't: they may be DONE and a command with message numbers, written before the client could
// read the changes. read says that those bytes have been read. ok is false if a resume has to find out what is
// to be told.
func (s *Session) tellIdle(read bool) (told, ok bool) {
	s.park.mu.Lock()
	idle := s.park.idle
	s.park.mu.Unlock()
	if !idle {
		return true, true
	}
	done, err := s.mayTell(s.heard(), false)
	if err != nil {
		return false, s.Reason() != ""
	}
	defer done()
	if !read && s.client.Arrived() {
		return false, true
	}
	return true, s.tellHeard(nil, true) || s.Reason() != ""
}

// tellAlive sends a client in IDLE a "Still here" line, if nothing else was sent meanwhile.
func (s *Session) tellAlive() {
	s.park.mu.Lock()
	due := s.park.idle && clock.Of(s.env.Now())-s.park.lastTold >= int64(s.aliveEvery())
	s.park.mu.Unlock()
	if due {
		_ = s.say([]byte("* OK Still here\r\n"))
	}
}

// tellAll sends the client the changes since it was last told, and then the answer. idle says whether the
// client is in IDLE from then on. It returns false if a resume is needed or the session has ended.
func (s *Session) tellAll(answer []byte, idle bool) (ok bool) {
	done, err := s.mayTell(s.heard(), true)
	if err != nil {
		return false
	}
	defer done()
	return s.tellHeard(answer, idle)
}

// tellHeard is tellAll without the wait for mayTell, which the caller has done.
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

// tellNothing sends an answer, and keeps the changes for later.
func (s *Session) tellNothing(answer []byte) (ok bool) {
	s.park.mu.Lock()
	s.park.idle = false
	s.park.mu.Unlock()
	return s.say(answer) == nil
}

// heard returns at most how many flag changes the client is to be told.
func (s *Session) heard() int {
	s.park.mu.Lock()
	defer s.park.mu.Unlock()
	if s.park.state == nil {
		return 0
	}
	return s.park.state.Changes()
}

// fewChanges is the size up to which a difference doesn't count as large: it takes less memory than a piece.
const fewChanges = 1024

// mayTell waits while too many of the user's sessions hold a large difference; each holds it until its client
// has read it. The caller calls done when it no longer holds the difference; done may be called more than
// once. The client is told that it waits: if it has a command in progress (waits), or once it has sent one.
func (s *Session) mayTell(changes int, waits bool) (done func(), err error) {
	if changes <= fewChanges {
		return func() {}, nil
	}
	ctx, cancel := s.within(leaveWithin)
	defer cancel()
	heard := s.env.Now()
	stop := s.reassures(&heard, waits)
	done, err = s.env.Queues.Telling(ctx, s.user)
	stop()
	if err != nil {
		s.Terminate(ReasonClientUnread)
	}
	return done, err
}

// tellDifference writes a difference for a client with view v, piece by piece, and then the answer. The caller
// has replaced v by the view after d, so a session that can't write all of it ends.
func (s *Session) tellDifference(d view.Difference, v *view.View, answer []byte) error {
	var last []byte // written together with the answer
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

// aliveEvery returns how long a parked client in IDLE may be sent nothing; 0: without limit.
func (s *Session) aliveEvery() time.Duration {
	every := s.settings().Park.KeepaliveEvery()
	return every - every/8 - time.Duration(s.id[0])*every/1024 // the sweep comes at most an eighth late
}

// keepalive asks for a "Still here" line to a parked client in IDLE, which keeps NAT entries on the way alive.
// Each session has an interval of its own, so that the lines aren't all sent at once.
func (s *Session) keepalive(now time.Time) {
	s.park.mu.Lock()
	defer s.park.mu.Unlock()
	every := s.aliveEvery()
	if every > 0 && s.park.idle && Attachment(s.attachment.Load()) == Parked && clock.Of(now)-s.park.lastTold >= int64(every) {
		s.Signal(SigAlive)
	}
}

// closed tells the client that its mailbox isn't selected any more, before its SELECT is passed on (RFC 9051
// §7.1, RFC 7162 §3.2.11): a backend that doesn't have the mailbox selected doesn't send it.
const closed = "* OK [CLOSED] Previous mailbox closed\r\n"

// tellLeft replaces tellMissed for a command that leaves the mailbox: the client isn't told what it missed
// there. If the mailbox stays selected until the command's answer, the client counts until then what it counted before.
func (s *Session) tellLeft() error {
	s.park.mu.Lock()
	v := s.park.view
	s.park.state, s.park.deferred, s.park.star = nil, nil, 0
	s.park.mu.Unlock()
	if s.park.leaving == track.Leaves {
		s.inFlight.Deselect()
		return s.say([]byte(closed))
	}
	if b := &s.inFlight.Client.Mailbox; !b.Counted() { // otherwise the view is that of foundView, which hasn't looked for the messages
		b.Update(v)
	}
	return nil
}
