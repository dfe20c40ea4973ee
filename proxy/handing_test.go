package proxy

import (
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

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
			if took := time.Since(begun); took > lingering+12*time.Second {
				t.Errorf("the end took %s", took)
			}
			c.Expect("* BYE {*}")
		})
	}
}
