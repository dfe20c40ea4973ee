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
		ends.Go(func() {
			s.control.mu.Lock()
			defer s.control.mu.Unlock()
			s.interruptBackendLocked()
		})
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
			if took := time.Since(begun); took > lingerFor+12*time.Second {
				t.Errorf("the end took %s", took)
			}
			c.Expect("* BYE {*}")
		})
	}
}
