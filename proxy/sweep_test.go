package proxy

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// only is the session there is.
func (l *lab) only() *Session {
	l.t.Helper()
	var all []*Session
	l.srv.reg.each(func(s *Session) { all = append(all, s) })
	if len(all) != 1 {
		l.t.Fatalf("%d sessions", len(all))
	}
	return all[0]
}

func TestAHalfClosedClientKeepsItsSlowDownload(t *testing.T) {
	for _, listener := range []string{plain, implicit} { // by splice, and by ourselves
		t.Run(listener, func(t *testing.T) {
			t.Parallel()
			l := politeWith(t, commands{"FETCH": bigLiteral(1 << 20)}, labOptions{})
			c := l.dial(listener)
			c.Login("alice", password)
			c.Write("a1 FETCH 1 BODY[]")
			readBytes(t, c, 1<<19)
			must(t, c.CloseWrite())
			s := l.only()
			eventually(t, "the half-close", s.halfClosed.Load)
			for range 3 {
				l.clock.forward(orphanFor + time.Minute)
				s.lookAfter(l.srv.now(), DefaultIdleTimeout)
			}
			if r := s.reason(); r != "" {
				t.Errorf("it was ended for %s", r)
			}
			l.backends[0].Fire("rest")
			rest, err := readAll(t, c)
			if err != nil || !strings.HasSuffix(rest, ")\r\na1 OK fetched\r\n") {
				t.Fatalf("%v …%q", err, rest[max(0, len(rest)-100):])
			}
			must(t, c.Conn.Close())
			l.ended(ReasonClientClosed)
		})
	}
}

func TestASessionThatIsOverHasItsTimeAtOnce(t *testing.T) {
	// Whoever looks after a session that is over counts from endedAt: were that
	// still 0, the session would be cut before it is told. The clock looks here,
	// which over itself reads.
	var watched atomic.Pointer[Session]
	var early atomic.Int32
	l := newLab(t, labOptions{change: func(o *Options) {
		now := o.Now
		o.Now = func() time.Time {
			if s := watched.Load(); s != nil && s.reason() != "" && s.endedAt.Load() == 0 {
				early.Add(1)
			}
			return now()
		}
	}})
	c := l.login("alice")
	s := l.only()
	watched.Store(s)
	s.terminate(ReasonIdle)
	c.Expect("* BYE Autologout{*}")
	c.ExpectEOF()
	must(t, c.Conn.Close())
	l.ended(ReasonIdle)
	if early.Load() > 0 {
		t.Error("it was over before it had a time")
	}
	first := s.endedAt.Load()
	l.clock.forward(time.Hour)
	s.terminate(ReasonShutdown)
	if s.endedAt.Load() != first || s.reason() != ReasonIdle {
		t.Error("a second end counts")
	}
}

func TestASessionThatCanBeSeenHasBeenHeardOf(t *testing.T) {
	// A sweep between a login and its relay would else ask the client's side to
	// pause and have that taken back, and the session would hang with its next command. The clock,
	// which whoever looks reads, looks here.
	var srv atomic.Pointer[Server]
	var early atomic.Int32
	l := newLab(t, labOptions{change: func(o *Options) {
		now := o.Now
		o.Now = func() time.Time {
			if s := srv.Load(); s != nil {
				s.reg.each(func(s *Session) {
					if s.loggedIn.Load() && s.lastHeard.Load() == 0 {
						early.Add(1)
					}
				})
			}
			return now()
		}
	}})
	srv.Store(l.srv)
	c := l.login("alice")
	must(t, c.Conn.Close())
	l.ended(ReasonClientClosed)
	if early.Load() > 0 {
		t.Error("it was seen before it had been heard of")
	}
}
