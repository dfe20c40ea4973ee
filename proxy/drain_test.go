package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// The last one is told when four fifths of the time are over: the rest is for its goroutine, which a busy
// machine runs late. Who hasn't heard BYE by the drain's end is cut off.
func TestShutdownSaysByeToEverybody(t *testing.T) {
	t.Parallel()
	const n, drain = 4, 5 * time.Second
	l := newLab(t, labOptions{change: func(o *Options) { o.Drain = drain }})
	var clients []*imaptest.Client
	for i := range n {
		c := l.login(fmt.Sprintf("user%d", i))
		if i%2 == 0 {
			c.Write("i IDLE")
			c.Expect("+")
		}
		clients = append(clients, c)
	}
	waiting := l.dial(plain) // not logged in
	l.end()
	var g sync.WaitGroup
	for _, c := range clients {
		g.Go(func() {
			r, err := c.Conn.Next()
			if err != nil || !strings.HasPrefix(r.Text, "* BYE [UNAVAILABLE] ") {
				t.Errorf("%v %v", r, err)
			}
			if r, err = c.Conn.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("%v %v", r, err)
			}
			_ = c.Conn.Close()
		})
	}
	g.Wait()
	waiting.Expect("* BYE {*}")
	waiting.ExpectEOF()
	l.stop()
	if _, err := net.Dial("tcp", l.addr(plain)); err == nil {
		t.Error("it still listens")
	}
	if got := l.closed(session.ReasonShutdown); got != n+1 {
		t.Errorf("%d ended for the shutdown, of %d", got, n+1)
	}
}

// However many sessions there are, they are told at even intervals and within the time: also
// where these are shorter than a timer is late.
func TestManySessionsAreToldToGoInTime(t *testing.T) {
	t.Parallel()
	const within, late = 24 * time.Second, time.Millisecond // of each timer
	for _, n := range []int{1, 7, 1_000, 100_000, 1_000_000} {
		begun := time.Unix(1, 0)
		now := begun
		p := pace{begun: begun, within: within, of: n}
		for i := range n {
			if even := time.Duration(float64(within) * float64(i) / float64(n)); now.Sub(begun) > even+late || now.Sub(begun) < even {
				t.Fatalf("%d of %d is told after %s", i, n, now.Sub(begun))
			}
			p.step()
			if d := p.wait(now); d > 0 {
				now = now.Add(d + late)
			}
		}
		if took := now.Sub(begun); took > within+late {
			t.Errorf("%d are told within %s", n, took)
		}
	}
}

func TestShutdownLetsCommandsUnderWayFinishFirst(t *testing.T) {
	for _, listener := range []string{plain, implicit} {
		t.Run(listener, func(t *testing.T) {
			t.Parallel()
			l := politeWith(t, commands{"FETCH": bigLiteral(1 << 20)}, labOptions{change: func(o *Options) { o.Drain = 20 * time.Second }})
			c := l.dial(listener)
			c.Login("alice", password)
			c.Write("a1 FETCH 1 BODY[]")
			must(t, l.backends[0].Wait("half"))
			l.end()
			l.logs.wait(t, "draining")
			l.backends[0].Fire("rest")
			c.Expect("* 1 FETCH (BODY[] {{n}})")
			c.Expect("a1 OK fetched")
			c.Expect("* BYE [UNAVAILABLE] {*}")
			c.ExpectEOF()
			l.stop()
		})
	}
}

// A session that is told to go in the middle of a response hears of it at the
// response's end, which its backend's own reader comes to.
func TestByeComesAtTheEndOfTheResponseThatIsOnItsWay(t *testing.T) {
	for _, size := range []int{1 << 10, 1 << 20} {
		for _, listener := range []string{plain, implicit} {
			t.Run(fmt.Sprint(listener, size), func(t *testing.T) {
				t.Parallel()
				l := politeWith(t, commands{"FETCH": bigLiteral(size)}, labOptions{})
				c := l.dial(listener)
				c.Login("alice", password)
				c.Write("a1 FETCH 1 BODY[]")
				readBytes(t, c, size/2)
				l.clock.forward(session.DefaultIdleTimeout + time.Minute)
				// The sweep ends it; the rest comes within the time it then has.
				eventually(t, "the sweep", func() bool { return l.srv.reg.Count(session.Ended) == 1 })
				l.backends[0].Fire("rest")
				rest, err := readAll(t, c)
				if err != nil || !regexp.MustCompile(`e\n\)\r\n(a1 OK fetched\r\n)?\* BYE \[LIMIT\] Autologout[^\r\n]*\r\n$`).MatchString(rest) {
					t.Fatalf("%v …%q", err, rest[max(0, len(rest)-200):])
				}
				must(t, c.Conn.Close())
				l.ended(session.ReasonIdle)
			})
		}
	}
}

func TestASessionWhoseBackendReadsNothingCanBeEnded(t *testing.T) {
	stuck := func(c *imaptest.BackendConn) error {
		d := polite()
		d.Commands = commands{"APPEND": nil, "XSTOP": func(c *imaptest.BackendConn, _ imaptest.Command) error {
			c.Backend.Fire("stuck")
			_ = c.StallForever()
			return io.EOF // what came meanwhile isn't read
		}}
		return d.Serve(c)
	}
	for _, listener := range []string{plain, implicit} {
		for _, how := range []string{"literal", "commands"} {
			t.Run(listener+" "+how, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, labOptions{handlers: []imaptest.Handler{stuck}})
				c := l.dial(listener)
				c.Login("alice", password)
				c.Write("a1 XSTOP")
				must(t, l.backends[0].Wait("stuck"))
				blocked := make(chan error, 1)
				var written atomic.Int64
				go func() {
					text := strings.Repeat(strings.Repeat("x", 100)+" NOOP\r\n", 10_000)
					var err error
					if how == "literal" {
						_, err = io.WriteString(c.Conn.Conn, "a2 APPEND x {9999999999+}\r\n")
					}
					for err == nil {
						_, err = io.WriteString(c.Conn.Conn, text)
						written.Add(1)
					}
					blocked <- err
				}()
				last, since := int64(0), time.Now()
				eventually(t, "the client to be held up", func() bool {
					if now := written.Load(); now != last {
						last, since = now, time.Now()
					}
					return last > 0 && time.Since(since) > 200*time.Millisecond
				})
				l.stop() // waits; Serve must come to its end all the same
				<-blocked
			})
		}
	}
}

func TestAStuckClientIsCutAtTheDrainsEnd(t *testing.T) {
	for _, listener := range []string{plain, implicit} {
		for _, size := range []int{1 << 20, 64 << 20} {
			t.Run(fmt.Sprint(listener, size), func(t *testing.T) {
				t.Parallel()
				l := politeWith(t, commands{"FETCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
					c.Backend.Fire("fetching")
					for c.SendRaw(fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n%s)\r\n", size, strings.Repeat("x", size))) == nil {
					}
					return nil
				}}, labOptions{change: func(o *Options) { o.Drain = 500 * time.Millisecond }})
				c := l.dial(listener)
				c.Login("alice", password)
				c.Write("a1 FETCH 1 BODY[]")
				must(t, l.backends[0].Wait("fetching"))
				eventually(t, "the client's buffers to be full", stalled(l))
				begun := time.Now()
				l.stop()
				if took := time.Since(begun); took > 30*time.Second {
					t.Fatalf("it took %s", took)
				}
			})
		}
	}
}

// stalled says that no byte has reached any client between two looks.
func stalled(l *lab) func() bool {
	last, since := int64(-1), time.Now()
	return func() bool {
		page, _ := l.srv.Sessions(session.Filter{})
		var now int64
		for _, s := range page {
			now += s.BytesOut
		}
		if now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 200*time.Millisecond
	}
}

func TestAnIdleSessionIsLoggedOutAfterTheIdleTimeout(t *testing.T) {
	l := newLab(t, labOptions{})
	c := l.login("alice")
	busy := l.login("bob")
	c.Write("i IDLE")
	c.Expect("+")
	l.clock.forward(session.DefaultIdleTimeout - time.Minute)
	busy.MustOK("NOOP")
	l.clock.forward(2 * time.Minute)
	c.Expect("* BYE {*}")
	c.ExpectEOF()
	l.ended(session.ReasonIdle)
	busy.MustOK("NOOP")
}
