package session

import (
	"fmt"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
)

// runs returns the phase that runs.
func (s *Session) runs() phase {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return s.control.phase
}

// staysAttached parks no session before it leaves its backend.
func staysAttached(set *Settings) { set.Park.Linger, set.Park.QuietAfter = 24*time.Hour, 24*time.Hour }

// dormant lets the one session be silent until it is dormant.
func (r *rig) dormant() *Session {
	r.t.Helper()
	s := r.only()
	r.ahead.Add(int64(dormantAfter))
	eventually(r.t, "a dormant session", func() bool {
		s.LookAfter(r.now(), DefaultIdleTimeout)
		return s.runs() == phaseDormant
	})
	return s
}

// speaks is a backend that sends an untagged response once its event "speak" is fired, after the answer to SELECT.
func speaks() imaptest.Handler {
	return polite(map[string]imaptest.CommandFunc{
		"SELECT": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if err := c.Send("* 3 EXISTS", "* OK [UIDVALIDITY 7] v", "* OK [UIDNEXT 9] n", "* OK [HIGHESTMODSEQ 5] m", cmd.Tag()+" OK [READ-WRITE] done"); err != nil {
				return err
			}
			if err := c.Stall("speak"); err != nil {
				return err
			}
			return c.Send("* 4 EXISTS")
		},
	})
}

// The first byte of either side starts the relay again, and nothing is lost.
func TestADormantSessionIsWokenByEitherSide(t *testing.T) {
	b := imaptest.NewBackend(t, speaks())
	r := newRig(t, b, staysAttached)
	c := r.login("alice")
	r.dormant()
	c.MustOK("SELECT INBOX")
	s := r.dormant()
	if s.Attachment() != Attached || b.Open() != 1 {
		t.Errorf("it is %s, with %d connections", s.Attachment(), b.Open())
	}
	b.Fire("speak")
	c.Expect("* 4 EXISTS")
	r.dormant()
	c.MustOK("NOOP")
	r.dormant()
	c.Write("a NOOP", "b NOOP")
	c.Expect("a OK {*}")
	c.Expect("b OK {*}")
	r.dormant()
	c.Write("o LOGOUT")
	c.Expect("* BYE {*}")
	c.Expect("o OK {*}")
	_ = c.Conn.Close()
	r.ended(s, ReasonLogout)
}

// A client in IDLE may be silent for half an hour.
func TestAClientInIdleIsDormant(t *testing.T) {
	b := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{"IDLE": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.Send("+ idling"); err != nil {
			return err
		}
		if err := c.Stall("speak"); err != nil {
			return err
		}
		if err := c.Send("* 4 EXISTS"); err != nil {
			return err
		}
		if _, err := c.ReadCommand(); err != nil {
			return err
		}
		return c.Send(cmd.Tag() + " OK done")
	}}))
	r := newRig(t, b, staysAttached)
	c := r.login("alice")
	c.Write("i IDLE")
	c.Expect("+{*}")
	r.dormant()
	b.Fire("speak")
	c.Expect("* 4 EXISTS")
	r.dormant()
	c.Write("DONE")
	c.Expect("i OK {*}")
	c.MustOK("NOOP")
}

// Where something is in progress the relay keeps its goroutines. The sweep sees a command; the readers, once they have stopped, see the
// rest, go on, and aren't asked again before something comes.
func TestWhatIsInProgressKeepsASessionFromBeingDormant(t *testing.T) {
	slow := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.Stall("go on"); err != nil {
			return err
		}
		return c.Send(cmd.Tag() + " OK done")
	}
	for name, test := range map[string]struct {
		said  string
		asked bool // the sweep asks
		rest  string
	}{
		"a command":               {"a NOOP\r\n", false, ""},
		"two commands":            {"b SEARCH ALL\r\na NOOP\r\n", false, ""},
		"a part of a line":        {"a NO", true, "OP\r\n"},
		"a part of a literal":     {"a LIST \"\" {5+}\r\nIN", false, "BOX\r\n"},
		"a literal to be allowed": {"a LIST \"\" {5}\r\n", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := imaptest.NewBackend(t, polite(map[string]imaptest.CommandFunc{"NOOP": slow, "SEARCH": slow}))
			r := newRig(t, b, staysAttached)
			c := r.login("alice")
			s := r.only()
			before := s.lastSeen.Load()
			must(t, c.SendRaw(test.said))
			eventually(t, "what was said", func() bool { return s.lastSeen.Load() != before })
			if !test.asked {
				eventually(t, "a command in progress", func() bool { return !s.inFlight.Calm() })
			}
			r.ahead.Add(int64(dormantAfter))
			eventually(t, "a refusal", func() bool {
				s.LookAfter(r.now(), DefaultIdleTimeout)
				if !test.asked {
					return true
				}
				return s.wakeful.Load() == s.lastSeen.Load()
			})
			if p := s.runs(); p != phaseRelay {
				t.Errorf("it is in %s", p)
			}
			s.LookAfter(r.now(), DefaultIdleTimeout)
			if s.pausing() {
				t.Error("it is asked again")
			}
			b.Fire("go on")
			if name == "a literal to be allowed" {
				c.Expect("+{*}")
				test.rest = "INBOX\r\n"
			}
			must(t, c.SendRaw(test.rest))
			for c.Read().Tag() != "a" {
			}
			r.dormant()
			c.MustOK("NOOP")
		})
	}
}

// What ends a session ends a dormant one in the same way: the client is told, the backend's connection is closed.
func TestADormantSessionEndsAsAnAttachedOne(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(*Session, *imaptest.Client, *imaptest.Backend)
		why  Reason
		says string // what the client is told; "": nothing
	}{
		"terminated": {func(s *Session, _ *imaptest.Client, _ *imaptest.Backend) { s.Terminate(ReasonKicked) }, ReasonKicked, "* BYE {*}"},
		"aborted":    {func(s *Session, _ *imaptest.Client, _ *imaptest.Backend) { s.Abort(ReasonShutdown) }, ReasonShutdown, ""},
		"idle for too long": {func(s *Session, _ *imaptest.Client, _ *imaptest.Backend) {
			s.LookAfter(s.env.Now().Add(2*DefaultIdleTimeout), DefaultIdleTimeout)
		}, ReasonIdle, "* BYE {*}"},
		"closed by client":  {func(_ *Session, c *imaptest.Client, _ *imaptest.Backend) { _ = c.Conn.Close() }, ReasonClientClosed, ""},
		"closed by backend": {func(_ *Session, _ *imaptest.Client, b *imaptest.Backend) { b.StopListening(); b.CloseConns() }, ReasonBackendLost, "* BYE {*}"},
		"reset by backend":  {func(_ *Session, _ *imaptest.Client, b *imaptest.Backend) { b.StopListening(); b.ResetConns() }, ReasonBackendLost, "* BYE {*}"},
		"moved, at once":    {func(s *Session, _ *imaptest.Client, _ *imaptest.Backend) { s.evict() }, ReasonMoved, "* BYE {*}"},
		"terminated, doubled": {func(s *Session, _ *imaptest.Client, _ *imaptest.Backend) {
			s.Signal(SigPause)
			s.Terminate(ReasonKicked)
		}, ReasonKicked, "* BYE {*}"},
	} {
		t.Run(name, func(t *testing.T) {
			b := imaptest.NewBackend(t, polite(nil))
			r := newRig(t, b, staysAttached, func(set *Settings) { set.Park.Hub, set.Park.Pool = nil, nil }) // nothing survives a loss
			c := r.login("alice")
			s := r.dormant()
			test.do(s, c, b)
			if test.says != "" {
				c.Expect(test.says)
				c.ExpectEOF()
			}
			_ = c.Conn.Close()
			r.ended(s, test.why)
			eventually(t, "the end of the backend's connection", func() bool { return b.Open() == 0 })
		})
	}
}

// A dormant session is parked without its relay's goroutines being started, and leaves its backend when it is to.
func TestADormantSessionIsParked(t *testing.T) {
	for name, do := range map[string]func(*Session){
		"idle":             func(s *Session) { s.LookAfter(s.env.Now().Add(25*time.Hour), 48*time.Hour) },
		"leaves":           func(s *Session) { s.LetGo(false) },
		"leaves, at once":  func(s *Session) { s.LetGo(true) },
		"asked, then left": func(s *Session) { s.Signal(SigPause); s.LetGo(true) },
	} {
		t.Run(name, func(t *testing.T) {
			b := imaptest.NewBackend(t, polite(nil))
			r := newRig(t, b, staysAttached)
			c := r.login("alice")
			s := r.dormant()
			do(s)
			eventually(t, "a parked session", func() bool { return s.Attachment() == Parked })
			c.MustOK("CAPABILITY") // needs a backend
			r.dormant()
			c.MustOK("NOOP")
		})
	}
}

// A session whose owner gives up its goroutines is signalled and terminated all the time: it hears each of it, in its new phase or before.
func TestASignalReachesASessionOnItsWayToBeDormant(t *testing.T) {
	for i := range 60 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := imaptest.NewBackend(t, polite(nil))
			r := newRig(t, b, staysAttached)
			c := r.login("alice")
			s := r.only()
			c.MustOK("NOOP")
			s.Signal(SigDormant)
			for range i % 20 * 20 {
				_ = s.runs()
			}
			switch i % 3 {
			case 0:
				s.Terminate(ReasonKicked)
				c.Expect("* BYE {*}")
				c.ExpectEOF()
				_ = c.Conn.Close()
				r.ended(s, ReasonKicked)
			case 1:
				eventually(t, "a pause", func() bool { s.Signal(SigPause); return s.Attachment() == Parked })
			case 2:
				if !s.survives() || !s.cut() {
					t.Fatal("it doesn't take the signal")
				}
				eventually(t, "another connection", func() bool { return b.Accepted() == 2 || s.Attachment() == Parked })
				c.MustOK("CAPABILITY")
			}
		})
	}
}

// Each thing that a reader may have left behind keeps a session from being dormant, since the poller sees the sockets only.
func TestASessionWithBytesToBeReadIsNotDormant(t *testing.T) {
	for name, test := range map[string]struct {
		leave func(s *Session)
		may   bool
	}{
		"nothing":                     {func(*Session) {}, true},
		"put back, the client's":      {func(s *Session) { s.client.Unread([]byte("a")) }, false},
		"put back, the backend's":     {func(s *Session) { s.backend.Load().Unread([]byte("*")) }, false},
		"a response that goes on":     {func(s *Session) { s.out.boundary = false }, false},
		"a command in progress":       {func(s *Session) { s.inFlight.Begin(wire.ParseCommandHead([]byte("a NOOP\r\n")), true, time.Now()) }, false},
		"a client that has gone":      {func(s *Session) { s.halfClosed.Store(true) }, false},
		"a backend to be left":        {func(s *Session) { s.leaving.Store(true) }, false},
		"a half literal":              {func(s *Session) { s.up.scan.Next([]byte("a LIST \"\" {5+}\r\n")) }, false},
		"a response that can't go on": {func(s *Session) { s.down.rewrite = true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := bare(t, phaseRelay)
			s.relays()
			s.inFlight.Init(false, false)
			s.out.boundary = true
			ours, _ := oneConn(t)
			s.backend.Store(&upstream.Conn{Conn: ours})
			test.leave(s)
			if got := s.mayBeDormant(); got != test.may {
				t.Errorf("it may be dormant: %v", got)
			}
		})
	}
}

// LetGo may come after the relay has found that nothing is in progress, and before the session is dormant: its signal is for the relay.
func TestASessionThatIsToLeaveIsntDormant(t *testing.T) {
	s := bare(t, phaseDormant)
	s.env.Buffers = conn.NewPool()
	backend, _ := oneConn(t)
	s.backend.Store(&upstream.Conn{Conn: backend})
	s.leaving.Store(true)
	if next := s.dormant(); next != phaseRelay { // which has it leave
		t.Fatalf("phase %d follows", next)
	}
}
