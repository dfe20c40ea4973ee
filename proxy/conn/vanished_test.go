package conn

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// sink is a Receiver that takes everything.
type sink struct{}

func (sink) Chunk([]byte) (int, Next) { return 0, More }

// A peer that resets the connection hasn't ended its side, whether the connection waits in a Pump or in a Poller, and also after a look for unread bytes.
func TestAResetIsNoEnd(t *testing.T) {
	pool := NewPool()
	for name, secure := range map[string]bool{"clear": false, "TLS": true} {
		for how, wait := range map[string]func(*testing.T, *Conn, func()) error{
			"a Pump": func(_ *testing.T, c *Conn, reset func()) error {
				done := make(chan error, 1)
				go func() { done <- c.Pump(pool, sink{}) }()
				reset()
				return <-done
			},
			"a Poller": func(t *testing.T, c *Conn, reset func()) error {
				h := &handler{c: c, w: newPoller(t), pool: pool, wakes: make(chan error, 1)}
				if err := c.Drain(pool, h); err != ErrDry {
					return err
				}
				c.TrimAll(pool)
				must(t, h.w.Add(c, h))
				reset()
				return <-h.wakes
			},
			"a look at what has come": func(t *testing.T, c *Conn, reset func()) error {
				reset()
				imaptest.Eventually(t, "the reset", c.Broken)
				if c.HasUnread() || c.Arrived() {
					t.Error("something has come")
				}
				return c.Pump(pool, sink{})
			},
			"a write, which is told": func(t *testing.T, c *Conn, reset func()) error {
				reset()
				imaptest.Eventually(t, "the reset", c.Broken)
				if _, err := c.Write([]byte("* OK Still here\r\n")); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%v", err)
				}
				return c.Pump(pool, sink{})
			},
			"a look whether it is idle, which is told": func(t *testing.T, c *Conn, reset func()) error {
				reset()
				imaptest.Eventually(t, "the reset", c.Broken)
				if err := c.Pending(); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%v", err)
				}
				return c.Drain(pool, sink{})
			},
			"a look that inflates, which is told": func(t *testing.T, c *Conn, reset func()) error {
				c.Inflate(pool, 0)
				reset()
				imaptest.Eventually(t, "the reset", c.Broken)
				if c.Arrived() {
					t.Error("something has come")
				}
				_, err := c.Read(make([]byte, 1))
				return err
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				c, peer, seal := arriving(t, secure)
				sends(t, peer, seal("a NOOP\r\n"))
				reads(t, c, "a NOOP\r\n")
				err := wait(t, c, func() {
					must(t, peer.(*net.TCPConn).SetLinger(0))
					must(t, peer.Close())
				})
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%v", err)
				}
				if c.Vanished() {
					t.Error("the peer's host was there")
				}
			})
		}
	}
}

// The kernel tells only one reader or writer that the peer's host is silent. The connection remembers it, since what is read next looks like an end.
func TestAVanishedHostIsRemembered(t *testing.T) {
	for name, secure := range map[string]bool{"clear": false, "TLS": true} {
		for how, writes := range map[string]bool{"the reader is told": false, "the writer is told": true} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				c, _, _ := arriving(t, secure)
				line := make([]byte, 4<<10)
				must(t, c.SetWriteDeadline(time.Now().Add(limit)))
				must(t, c.raw.Control(func(fd uintptr) { must(t, userTimeout(int(fd), 50*time.Millisecond)) }))
				filled := make(chan error, 1)
				fill := func() (err error) { // the peer reads nothing, so the kernel gives the connection up
					for err == nil {
						_, err = c.Write(line)
					}
					return err
				}
				if writes {
					if err := fill(); !errors.Is(err, syscall.ETIMEDOUT) {
						t.Fatal(err)
					}
					if err := c.Pump(NewPool(), sink{}); !errors.Is(err, syscall.ETIMEDOUT) {
						t.Errorf("%v", err)
					}
				} else {
					go func() { filled <- fill() }()
					imaptest.Eventually(t, "a full socket", c.Backlogged)
					c.Interrupt(Writes)
					<-filled
					if err := c.Pump(NewPool(), sink{}); !errors.Is(err, syscall.ETIMEDOUT) {
						t.Errorf("%v", err)
					}
				}
				if !c.Vanished() {
					t.Error("it isn't remembered")
				}
				e, err := c.Ending()
				must(t, err)
				if !e.unseen {
					t.Error("the end counts as seen")
				}
				e.Cut()
			})
		}
	}
}
