package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/telemetry"
)

// watch joins the hub when the session is parked.
func (s *Session) watch() {
	if s.park.sub == nil {
		return
	}
	if s.park.mode == track.ModeSelected {
		s.park.sub.Doubt() // a snapshot by FETCH doesn't show EXPUNGE, and the client wasn't told of new messages
	}
	s.park.sub.Join(s.member())
}

// parked serves the client without a backend. Only its goroutine writes to the client. dry says that nothing
// has arrived that the poller wouldn't report.
func (s *Session) parked(dry bool) phase {
	f := parkedReader{s: s}
	late := false // changes are told after the client's bytes have been read
	for interrupted := false; ; {
		wake, done, more := s.signals(interrupted)
		late = late || more
		switch {
		case s.Reason() != "":
			s.unpark()
			return phaseEnd
		case wake != "":
			return s.wakes(wake)
		case dry && done && !late:
			s.client.TrimAll(s.env.Buffers)
			if s.env.Poller.Add(s.client, wakeHandler{s}) == nil {
				return phaseAway
			}
		}
		dry = false
		f.next = actionNone
		err := s.client.Drain(s.env.Buffers, &f)
		if err == conn.ErrDry && late {
			late, interrupted = false, false
			if _, ok := s.tellIdle(true); !ok {
				return s.wakes(telemetry.WakeLostWatch)
			}
			continue
		}
		if err == conn.ErrDry {
			s.client.TrimAll(s.env.Buffers)
			if s.env.Poller.Add(s.client, wakeHandler{s}) == nil {
				return phaseAway
			}
			err = s.client.Pump(s.env.Buffers, &f)
		}
		switch interrupted = errors.Is(err, os.ErrDeadlineExceeded); {
		case s.Reason() != "", interrupted:
			continue
		case errors.Is(err, io.EOF):
			s.Terminate(ReasonClientClosed)
		case err != nil:
			s.Terminate(s.clientLost(err))
		case f.next == actionLogout:
			s.Terminate(ReasonLogout)
		case f.next == actionLook:
			_ = s.looks(s.park.sub.Look) // if it fails, the backend itself is asked
			f.looked = true
		case f.next == actionPoll:
			f.looked, f.polled = true, 0
			if s.looks(s.park.sub.Poll) == nil { // if it fails, the backend itself is asked
				f.polled = f.ahead
			}
		case f.next == actionResume:
			s.park.hasCommand = true
			s.park.cause = s.park.verb.String()
			if _, idle := s.inFlight.State(); idle {
				s.park.cause = telemetry.WakeDone
			}
			s.unpark()
			return phaseResume
		}
	}
}

// looks waits for a look of the hub's at the mailbox. The client, whose command waits for it, is told that it does.
func (s *Session) looks(look func(context.Context) error) error {
	ctx, cancel := s.within(hubWithin)
	defer cancel()
	heard := s.env.Now()
	defer s.reassures(&heard, true)()
	return look(ctx)
}

// wakes has a session resumed for another cause than a command. The client may have sent one all the same: it was put back for a look of the hub's.
func (s *Session) wakes(cause string) phase {
	s.client.Unhold() // the beginning of a line
	said := s.client.PutBack()
	if bytes.IndexByte(said, '\n') < 0 {
		said = nil
	}
	s.comesBack(said, cause)
	s.unpark()
	return phaseResume
}
