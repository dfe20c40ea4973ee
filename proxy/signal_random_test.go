package proxy

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"imapproxy/proxy/session"
)

// Sessions are signalled, terminated and severed at any time, in any phase: each ends, is counted
// once, and leaves nothing behind (the lab looks for that at its end, and TestMain for goroutines).
func TestSessionsEndWheneverTheyAreSignalled(t *testing.T) {
	const rounds, clients = 6, 6
	p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	for round := range uint64(rounds) {
		var work, signalling sync.WaitGroup
		var talking []chan struct{} // one for each client, closed when it is over
		for range clients {
			c, over := p.login("alice"), make(chan struct{})
			talking = append(talking, over)
			work.Go(func() {
				defer close(over)
				defer func() { _ = c.Close() }()
				for {
					for _, line := range []string{"a SELECT INBOX\r\n", "b IDLE\r\n", "DONE\r\n", "c NOOP\r\n"} {
						if c.Conn.SendRaw(line) != nil {
							return
						}
						if _, err := c.Conn.Next(); err != nil {
							return
						}
					}
				}
			})
		}
		n := uint64(0)
		p.srv.reg.Each(func(s *session.Session) {
			n++
			r := rand.New(rand.NewPCG(round, n))
			signalling.Go(func() {
				for range 40 + r.IntN(200) {
					switch r.IntN(6) {
					case 0:
						p.srv.Sweep()
					case 1:
						p.hint()
					case 2:
						s.Signal(session.SigTell | session.SigAlive)
					case 3:
						s.Signal(session.SigLostWatch)
					case 4:
						s.Signal(session.SigPause)
					case 5:
						s.Signal(session.SigOff)
					}
				}
				if s.Terminate(session.ReasonKicked); r.IntN(2) == 0 {
					s.Abort(session.ReasonKicked)
				}
			})
		})
		signalling.Wait()
		for _, over := range talking {
			<-over
		}
		work.Wait()
		eventually(t, "the end of all", func() bool { return p.srv.reg.Total() == 0 })
	}
	ended := func() int { return int(p.metric("imapproxy_sessions_closed_total")) }
	eventually(t, "all to be counted", func() bool { return ended() >= rounds*clients })
	p.stop()
	if got := ended(); got != rounds*clients {
		t.Errorf("%d sessions have ended, of %d", got, rounds*clients)
	}
}
