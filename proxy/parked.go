package proxy

import (
	"errors"
	"io"
	"os"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/park"
	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// want is what a parked session needs next.
type want uint8

const (
	wantNothing want = iota
	wantLook         // hints are outstanding, and the client asks
	wantBackend      // a command that the proxy can't answer
	wantLogout       // the client has said LOGOUT
)

// still is the way from a parked client: its commands, of which some are
// answered without a backend (docs/parking.md).
type still struct {
	s      *Session
	scan   wire.Scanner
	want   want
	looked bool // the command that comes next was looked for already
}

// parked serves the client without a backend. It runs in a goroutine that nobody
// has used before and ends where there is nothing to do: in srv.waiting, which runs
// it again (Wake), in resume or in finish.
func (s *Session) parked() {
	f := still{s: s}
	for {
		f.want = wantNothing
		err := s.client.Drain(s.srv.pool, &f)
		if err == conn.ErrDry {
			s.client.Trim()
			if s.srv.waiting.Add(s.client, sleeper{s}) == nil {
				return
			}
			err = s.client.Pump(s.srv.pool, &f)
		}
		switch {
		case s.reason() != "":
			s.unpark()
			s.finish()
			return
		case errors.Is(err, os.ErrDeadlineExceeded) && s.park.woken.Load() != uint32(wakeNone):
			why := wake(s.park.woken.Swap(uint32(wakeNone)))
			_ = s.client.SetReadDeadline(time.Time{})
			s.client.Unhold() // of a line that has only begun
			s.park.asks = false
			go s.resume(why.String())
			return
		case errors.Is(err, io.EOF):
			s.over(ReasonClientClosed)
		case err != nil:
			s.over(ReasonClientLost)
		case f.want == wantLogout:
			s.over(ReasonLogout)
		case f.want == wantLook:
			ctx, cancel := s.within(hubWithin)
			_ = s.park.sub.Look(ctx) // where it fails, the backend itself will be asked
			cancel()
			f.looked = true
			continue
		case f.want == wantBackend:
			s.park.asks = true
			verb := s.park.verb.String()
			if _, idle := s.flight.state(); idle {
				verb = telemetry.WakeDone
			}
			go s.resume(verb)
			return
		}
		s.unpark()
		s.finish()
		return
	}
}

// sleeper is a parked session as conn.Waiting sees it.
type sleeper struct{ s *Session }

// Wake implements conn.Sleeper.
func (z sleeper) Wake() { z.s.parked() }

// rouse lets whoever reads the client, or would if anything came, return. What it has to
// know was said before: reason, or park's woken.
func (s *Session) rouse() {
	_ = s.client.SetReadDeadline(longAgo())
	s.srv.waiting.Wake(s.client)
}

// unpark takes the session out of what tells parked clients.
func (s *Session) unpark() {
	if s.park.sub != nil {
		s.park.sub.Leave()
	}
}

// Chunk implements conn.Receiver.
func (f *still) Chunk(b []byte) (kept int, next conn.Next) {
	s := f.s
	now := s.srv.now()
	s.seen(now)
	s.lastHeard.Store(now.UnixNano())
	for i := 0; i < len(b); {
		p := f.scan.Next(b[i:])
		if p.N == 0 {
			return len(b) - i, conn.Ack
		}
		line := b[i : i+p.N]
		if !f.answer(line, p.Last) {
			if f.want == wantNothing {
				f.want = wantBackend
			}
			f.scan.Abandon()
			s.client.Unread(b[i:])
			return 0, conn.Stop
		}
		f.looked = false
		i += p.N
		if f.want == wantLogout {
			return 0, conn.Stop
		}
	}
	return 0, conn.More
}

// answer answers a line without a backend, if that can be done. whole says that
// no more of it follows.
func (f *still) answer(line []byte, whole bool) bool {
	s := f.s
	s.park.verb = wire.Other
	if _, idle := s.flight.state(); idle {
		return wire.IsDone(line) && f.settled() && f.done()
	}
	h := wire.ParseCommandHead(line)
	s.park.verb = h.Verb
	if !wire.ValidTag(h.Tag) || len(h.Args) > 0 || !whole {
		return false
	}
	tag := string(h.Tag)
	switch h.Verb {
	case wire.Noop, wire.Check:
		return (h.Verb == wire.Noop || s.park.sub != nil) && f.settled() &&
			s.tellAll([]byte(tag+" OK "+h.Verb.String()+" completed\r\n"), false)
	case wire.Idle:
		if s.park.sub == nil || !idles(s.caps.list) || !f.settled() || !s.tellAll([]byte("+ idling\r\n"), true) {
			return false
		}
		s.flight.begin(h, true, s.srv.now())
		s.flight.prompt()
		return true
	case wire.Logout:
		f.want = wantLogout
		_ = s.out.say([]byte("* BYE Logging out\r\n" + tag + " OK Logout completed\r\n"))
		return true
	}
	return false
}

// idles says whether a backend knows IDLE, which a resume may have to ask it for.
func idles(c wire.Caps) bool { return c.Has("IDLE") || c.Has("IMAP4rev2") }

// settled says whether the view is up to date as far as anybody has heard. If not
// it is looked, once.
func (f *still) settled() bool {
	if sub := f.s.park.sub; sub == nil || sub.Settled() {
		return true
	}
	if !f.looked {
		f.want = wantLook
	}
	return false
}

// done ends the client's IDLE.
func (f *still) done() bool {
	s := f.s
	tag := s.flight.idleTag()
	if !s.tellAll([]byte(tag+" OK Idle completed\r\n"), false) {
		return false
	}
	s.answered(wire.ResponseHead{Kind: wire.Tagged, Tag: []byte(tag), Status: wire.OK}, s.srv.now())
	return true
}

// tellAll tells what was heard of since the client was last told, and the answer
// behind it. idle says whether the client is in IDLE from then on.
func (s *Session) tellAll(answer []byte, idle bool) bool {
	s.park.mu.Lock()
	defer s.park.mu.Unlock()
	var line []byte
	if s.park.state != nil {
		d, err := park.Compare(s.park.view, s.park.state)
		if err != nil {
			return false // a resume sees to it
		}
		line = s.renderLocked(d)
	}
	s.park.state, s.park.idle = nil, idle
	return s.sayLocked(append(line, answer...)) == nil
}

// renderLocked tells a difference, and moves the view along.
func (s *Session) renderLocked(d park.Difference) []byte {
	line := d.AppendTo(nil, s.flight.told.dialect, s.park.view)
	s.park.view = s.park.view.After(d)
	return line
}

// sayLocked writes to a parked client, who may not read: then the session ends.
func (s *Session) sayLocked(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	now := s.srv.now()
	s.park.told = now.UnixNano()
	if err := s.out.relayUntil(b, true, now.Add(tellWithin)); err != nil {
		s.over(ReasonClientLost)
		return err
	}
	s.bytesOut.Add(int64(len(b)))
	s.srv.tel.AddBytes(telemetry.Out, int64(len(b)))
	return nil
}

// tellWithin bounds a write to a parked client.
const tellWithin = 10 * time.Second

// keepalive tells a parked client in IDLE that somebody is there, for the NATs on
// the way, at intervals of its own so that not all are told at once.
func (s *Session) keepalive(now time.Time) {
	every := s.set.Park.keepalive()
	every -= every/8 + time.Duration(s.id[0])*every/1024 // the sweep comes an eighth late at most
	if !s.park.mu.TryLock() {
		return // it is told something just now; the sweep doesn't wait for a client that won't read
	}
	defer s.park.mu.Unlock()
	if s.park.idle && Attachment(s.attachment.Load()) == Parked && now.UnixNano()-s.park.told >= int64(every) {
		s.seen(now)
		_ = s.sayLocked([]byte("* OK Still here\r\n"))
	}
}

// member is the session as the hub sees it, for one time of being parked.
type member struct {
	s    *Session
	time uint32 // of parkState.times
}

func (s *Session) member() park.Member { return member{s, s.park.times} }

// parkedLocked says whether it is parked, and hasn't come back since.
func (m member) parkedLocked() bool {
	return Attachment(m.s.attachment.Load()) == Parked && m.s.park.times == m.time
}

// View implements park.Member.
func (m member) View() *park.View {
	m.s.park.mu.Lock()
	defer m.s.park.mu.Unlock()
	if !m.parkedLocked() {
		return nil
	}
	return m.s.park.view
}

// Apply implements park.Member. What can't be told from this state is found out by a
// resume, from a state of its own.
func (m member) Apply(state *park.State) {
	if !m.apply(state) {
		m.Lost()
	}
}

func (m member) apply(state *park.State) (ok bool) {
	s := m.s
	s.park.mu.Lock()
	defer s.park.mu.Unlock()
	if !m.parkedLocked() || s.park.view == nil {
		return true
	}
	d, err := park.Compare(s.park.view, state)
	var other *park.NotSame
	switch {
	case errors.As(err, &other):
		s.log().Warn("not the same mailbox any more", "mailbox", s.park.view.Mailbox, "why", other.Reason)
		s.over(ReasonNotSame)
	case err != nil:
		s.park.state = nil
		return false
	case !s.park.idle:
		s.park.state = state
	default:
		_ = s.sayLocked(s.renderLocked(d))
		if d.Again {
			s.set.Park.Hub.Hint(park.Hint{User: s.user, Mailbox: s.park.view.Mailbox, Source: park.HintWatch})
		}
	}
	return true
}

// Gone implements park.Member.
func (m member) Gone(err error) {
	m.s.park.mu.Lock() // or it would meet a session that comes back just now
	defer m.s.park.mu.Unlock()
	if !m.parkedLocked() {
		return // its own SELECT tells
	}
	m.s.log().Info("the mailbox is gone, or may not be read any more", "error", err)
	m.s.over(ReasonMailboxGone)
}

// Lost implements park.Member: nobody says any more when to look, so the session
// gets its connection back.
func (m member) Lost() { m.s.wake(wakeLostWatch) }

// wake is why a parked session comes back though its client says nothing.
type wake uint32

const (
	wakeNone wake = iota
	wakeLostWatch
	wakeOff
)

func (w wake) String() string { return [...]string{"", telemetry.WakeLostWatch, telemetry.WakeOff}[w] }

// wake has a parked session get its connection back, and says whether it is one.
func (s *Session) wake(why wake) bool {
	s.park.mu.Lock() // or the deadline would meet the relay of a session that comes back by itself
	defer s.park.mu.Unlock()
	if Attachment(s.attachment.Load()) != Parked || !s.park.woken.CompareAndSwap(uint32(wakeNone), uint32(why)) {
		return false
	}
	s.rouse()
	return true
}
