package proxy

import (
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/upstream"
)

// Whoever ends a session just as its connection goes to the pool touches neither
// the dead handle nor a connection that is another's by then.
func TestASessionEndsWhileItsConnectionIsHandedOver(t *testing.T) {
	p := newScripted(t, scriptedCaps, 1)
	c := p.login("alice")
	c.MustOK("NOOP") // its relay has begun, and isn't looking for its connection any more
	var s *Session
	p.srv.reg.each(func(one *Session) { s = one })
	b, err := p.opts.Dialer.Login(t.Context(), s.target(), s.auth(), upstream.Client{})
	must(t, err)
	own := s.backend.Load()
	pool := s.set.Park.Pool
	for range 300 {
		s.backend.Store(b)
		var ends sync.WaitGroup
		ends.Go(func() { s.stopBackend() })
		s.give(b, upstream.Condition{})
		ends.Wait()
		if b = pool.Take(s.poolKey(upstream.UseSession), upstream.Verified, s.addr.Addr()); b == nil {
			t.Fatal("the connection isn't lent again")
		}
		must(t, b.Pending())
	}
	if _, err := b.Write([]byte("x NOOP\r\n")); err != nil {
		t.Errorf("the next session's connection: %v", err)
	}
	_ = b.Close()
	s.backend.Store(own)
	c.MustOK("NOOP")
}

// A session is asked to park, and ends before it has heard of that: its connection is in the
// pool by then, and nobody's to stop.
func TestASessionEndsWhileItIsAskedToPark(t *testing.T) {
	l := newWarmLab(t, trusting, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	l.srv.sweeping.Lock() // nobody else asks
	defer l.srv.sweeping.Unlock()
	c := l.login("alice")
	c.MustOK("NOOP")
	s := l.only()
	s.park.refused.Store(1)
	s.park.mu.Lock()
	var asking sync.WaitGroup
	asking.Go(func() { s.askToPark(s.srv.now()) })
	eventually(t, "the question, but for its last step", func() bool { return s.park.refused.Load() == 0 })
	c.MustOK("LOGOUT")
	l.kept(1)
	s.park.mu.Unlock()
	asking.Wait()
	l.login("alice").MustOK("NOOP")
	if n := l.logins.Load(); n != 1 {
		t.Errorf("%d logins at the backend: the connection isn't fit for the next", n)
	}
}

// What is under way for a session ends when it does.
func TestAnEndDoesntWaitForABackend(t *testing.T) {
	for name, command := range map[string]string{"resuming": "SELECT", "parking": "UNSELECT"} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3)
			c := p.login("alice")
			c.MustOK("SELECT INBOX")
			hung := make(chan struct{})
			hang := func(c *imaptest.BackendConn, _ imaptest.Command) error {
				close(hung)
				return c.StallForever()
			}
			if name == "parking" {
				p.on(command, hang)
				c.Write("i IDLE")
				c.Expect("+{*}")
				eventually(t, "the command that hangs", func() bool {
					p.srv.Sweep()
					select {
					case <-hung:
						return true
					default:
						return false
					}
				})
			} else {
				p.idles(c)
				done(c)
				p.on(command, hang)
				c.Write("u UID FETCH 1 FLAGS")
				<-hung
			}
			begun := time.Now()
			p.stop()
			if took := time.Since(begun); took > lingerFor+3*time.Second {
				t.Errorf("the end took %s", took)
			}
			c.Expect("* BYE {*}")
		})
	}
}
