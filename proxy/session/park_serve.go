package session

import (
	"bytes"
	"errors"
	"io"
	"os"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// action is what a parked session needs next.
type action uint8

const (
	actionNone   action = iota
	actionLook          // hints are outstanding, and the client asks
	actionPoll          // the client asks what is new, whatever was heard of
	actionResume        // a command that the proxy can't answer
	actionLogout        // the client has said LOGOUT
)

// parkedReader is the way from a parked client: its commands, of which some are
// answered without a backend (docs/parking.md).
type parkedReader struct {
	s      *Session
	scan   wire.Scanner
	next   action
	looked bool // the command that comes next was looked for already
	ahead  int  // octets from the start of the current line on that have been read
	polled int  // how many of them had been read when the last poll was sent: it answers what they ask
	behind bool // what was read behind the line may have message numbers in it
}

// watch joins the hub, as the session is parked.
func (s *Session) watch() {
	if s.park.sub == nil {
		return
	}
	if s.park.mode == track.ModeSelected {
		s.park.sub.Doubt() // a FETCH tells of no EXPUNGE, and of what is new the client isn't told
	}
	s.park.sub.Join(s.member())
}

// parked serves the client without a backend. It alone writes to the client. dry says that there is
// nothing to read that waiting wouldn't tell of.
func (s *Session) parked(dry bool) phase {
	f := parkedReader{s: s}
	late := false // what was heard of is told when what has come has been read
	for interrupted := false; ; {
		wake, done, more := s.signals(interrupted)
		late = late || more
		switch {
		case s.Reason() != "":
			s.unpark()
			return phaseEnd
		case wake != "":
			return s.wakes(wake)
		case dry && done && !late && s.env.Poller.Add(s.client, wakeHandler{s}) == nil:
			return phaseAway
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
			s.client.Trim()
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
			s.Terminate(ReasonClientLost)
		case f.next == actionLogout:
			s.Terminate(ReasonLogout)
		case f.next == actionLook:
			ctx, cancel := s.within(hubWithin)
			_ = s.park.sub.Look(ctx) // where it fails, the backend itself will be asked
			cancel()
			f.looked = true
		case f.next == actionPoll:
			ctx, cancel := s.within(hubWithin)
			f.looked, f.polled = true, 0
			if s.park.sub.Poll(ctx) == nil { // else the backend itself will be asked
				f.polled = f.ahead
			}
			cancel()
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

// wakes has a session come back though its client says nothing.
func (s *Session) wakes(cause string) phase {
	s.client.Unhold() // of a line that has only begun
	s.park.hasCommand, s.park.leaving, s.park.cause = false, track.Stays, cause
	s.unpark()
	return phaseResume
}

// unpark takes the session out of what tells parked clients.
func (s *Session) unpark() {
	if s.park.sub != nil {
		s.park.sub.Leave()
	}
}

// Chunk implements conn.Receiver.
func (f *parkedReader) Chunk(b []byte) (kept int, next conn.Next) {
	s := f.s
	now := s.env.Now()
	s.seen(now)
	s.lastHeard.Store(now.UnixNano())
	counts := lastCounting(b)
	for i := 0; i < len(b); {
		if f.scan.AtStart() && len(b)-i < conn.MaxHold && bytes.IndexByte(b[i:], '\n') < 0 {
			return len(b) - i, conn.Ack // a line is looked at whole
		}
		p := f.scan.Next(b[i:])
		if p.N == 0 {
			return len(b) - i, conn.Ack
		}
		line := b[i : i+p.N]
		f.ahead = len(b) - i
		f.behind = counts >= i+p.N
		if !f.answer(line, p.Last) {
			if f.next == actionNone {
				f.next = actionResume
			}
			f.scan.Abandon()
			s.client.Unread(b[i:])
			return 0, conn.Stop
		}
		f.looked = false
		f.polled = max(f.polled-p.N, 0)
		i += p.N
		if f.next == actionLogout {
			return 0, conn.Stop
		}
	}
	return 0, conn.More
}

// answer answers a line without a backend, if that can be done. whole says that
// no more of it follows.
func (f *parkedReader) answer(line []byte, whole bool) bool {
	s := f.s
	s.park.verb, s.park.leaving = wire.Other, track.Stays
	if _, idle := s.inFlight.State(); idle {
		return wire.IsDone(line) && f.done()
	}
	h := wire.ParseCommandHead(line)
	s.park.verb = h.Verb
	if s.park.sub != nil {
		s.park.leaving = track.LeavingBy(line, &s.inFlight.Client, s.caps.list)
	}
	if !wire.ValidTag(h.Tag) || len(h.Args) > 0 || !whole {
		return false
	}
	tag := string(h.Tag)
	switch h.Verb {
	case wire.Close, wire.Unselect:
		return s.park.leaving == track.Leaves && f.left(h)
	case wire.Noop, wire.Check:
		return (h.Verb == wire.Noop || s.park.sub != nil) &&
			f.tell(tag+" OK "+h.Verb.String()+" completed\r\n", func() bool { return f.fresh(line) })
	case wire.Idle:
		if s.park.sub == nil || !idles(s.caps.list) || !f.settled() || !s.tellAll([]byte("+ idling\r\n"), true) {
			return false
		}
		s.inFlight.Begin(h, true, s.env.Now())
		s.inFlight.Prompt()
		return true
	case wire.Logout:
		f.next = actionLogout
		_ = s.out.say([]byte("* BYE Logging out\r\n" + tag + " OK Logout completed\r\n"))
		return true
	}
	return false
}

// idles says whether a backend knows IDLE, which a resume may have to ask it for.
func idles(c wire.Caps) bool { return c.Has("IDLE") || c.Has("IMAP4rev2") }

// settled says whether the view is up to date as far as anybody has heard. If not
// it is looked, once.
func (f *parkedReader) settled() bool {
	if sub := f.s.park.sub; sub == nil || sub.Settled() {
		return true
	}
	if !f.looked {
		f.next = actionLook
	}
	return false
}

// fresh says whether the view has all that was acknowledged to its author before this line
// was read, which NOOP asks for (RFC 9051 §6.1.2). No hint is waited for: one look is made,
// which may answer other sessions' NOOPs, too. Where none can be had a resume answers.
func (f *parkedReader) fresh(line []byte) bool {
	if f.s.park.sub == nil || f.polled >= len(line) {
		return true
	}
	if !f.looked {
		f.next = actionPoll
	}
	return false
}

// done ends the client's IDLE.
func (f *parkedReader) done() bool {
	s := f.s
	tag := s.inFlight.IdleTag()
	if !f.tell(tag+" OK Idle completed\r\n", f.settled) {
		return false
	}
	s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.env.Now())
	return true
}

// tell tells what was heard of, and the answer behind it, after which the client isn't in
// IDLE. A command that has come already was written before either was read: where there is
// one, the answer is told alone, and the command's numbers are those of the view as it is; what
// was heard of is told when that is done. current says whether the view has all that the answer stands for.
func (f *parkedReader) tell(answer string, current func() bool) bool {
	if f.behind || f.s.client.Arrived() {
		return f.s.tellNothing([]byte(answer))
	}
	return current() && f.s.tellAll([]byte(answer), false)
}

// lastCounting is where the last unit of b begins that may depend on what its client counts: a command
// that names messages or leaves the mailbox, or one that hasn't come whole. -1: there is none.
func lastCounting(b []byte) int {
	last := -1
	for at := 0; at < len(b); {
		n, whole := wire.UnitLen(b[at:])
		if r := wire.ParseCommandHead(wire.FirstLine(b[at:])).Verb.Rule(); !whole || r.Set != wire.NoSet || r.Leaves || r.State == wire.UnknownState {
			last = at
		}
		at += n
	}
	return last
}
