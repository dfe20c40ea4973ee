package proxy

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/routing"
)

// stalls makes a command hang on the connections on which it is said from now on, until the event "go on".
func (p *scripted) stalls(name string) {
	p.on(name, func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		c.Backend.Fire("stalled")
		if err := c.Stall("go on"); err != nil {
			return err
		}
		return p.answer(c, cmd)
	})
}

// silent lets time pass with the commands under way unanswered, until the sweep has taken that in.
func (p *scripted) silent(d time.Duration) {
	p.t.Helper()
	p.clock.forward(d)
	p.srv.Sweep()
}

// probed waits until a probe has been made since, and its outcome been noted: the next one has begun.
func (p *scripted) probed() {
	p.t.Helper()
	before := p.backends[0].Accepted()
	eventually(p.t, "a probe", func() bool {
		p.srv.Sweep()
		return p.backends[0].Accepted() >= before+2
	})
	p.srv.Sweep()
}

// given says how many connections were given up, by the evidence.
func (p *scripted) given(evidence string) int {
	p.t.Helper()
	return int(p.metric("imapproxy_backend_stalls_total", fmt.Sprintf("evidence=%q", evidence)))
}

// behindStill reads the next response that isn't one of the proxy's own lines to a client that waits.
func behindStill(t testing.TB, c *imaptest.Client, pattern string) {
	t.Helper()
	for {
		r := c.Read()
		if strings.HasPrefix(r.Text, "* OK Still here") {
			continue
		}
		if ok, err := imaptest.Match(pattern, r); err != nil || !ok {
			t.Fatalf("the server's answer is %s, want %s (%v)", r, pattern, err)
		}
		return
	}
}

func TestALongCommandGoesOn(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	p.stalls("UID SEARCH")
	c := p.stays("SELECT INBOX")
	c.Write("s UID SEARCH RETURN (ALL COUNT) TEXT x")
	must(t, p.backends[0].Wait("stalled"))
	for range 3 {
		p.silent(10 * time.Minute)
		p.probed()
	}
	p.backends[0].Fire("go on")
	behindStill(t, c, "* ESEARCH {*}")
	behindStill(t, c, "s OK {*}")
	if n := len(p.said("UID SEARCH")); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

func TestABackendThatHangs(t *testing.T) {
	t.Run("a command that changes nothing is said again", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3)
		p.stalls("CHECK")
		c := p.stays("SELECT INBOX")
		c.Write("s CHECK")
		must(t, p.backends[0].Wait("stalled"))
		p.silent(29 * time.Second)
		p.set(func() { p.turnsAway = true })
		p.silent(2 * time.Second)
		p.probed()
		eventually(t, "a connection that is given up", func() bool { p.srv.Sweep(); return p.given("probe") == 1 })
		p.on("CHECK", p.answer)
		p.set(func() { p.turnsAway = false })
		behindStill(t, c, "s OK {*}")
		c.MustOK("NOOP")
	})
	t.Run("a command that changes something is refused", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3)
		p.stalls("UID STORE")
		c := p.stays("SELECT INBOX")
		c.Write(`s UID STORE 1 +FLAGS (\Seen)`)
		must(t, p.backends[0].Wait("stalled"))
		p.set(func() { p.turnsAway = true })
		p.silent(31 * time.Second)
		p.probed()
		behindStill(t, c, "s NO [UNAVAILABLE] {*}")
		p.set(func() { p.turnsAway = false })
		c.MustOK("NOOP")
		if n := len(p.said("UID STORE")); n != 1 {
			t.Errorf("it was said %d times", n)
		}
	})
	t.Run("a command isn't said a third time", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3)
		p.stalls("CHECK")
		c := p.stays("SELECT INBOX")
		c.Write("s CHECK")
		for n := 1; n <= 2; n++ {
			eventually(t, "the command", func() bool { return len(p.said("CHECK")) == n })
			p.set(func() { p.turnsAway = true })
			p.silent(31 * time.Second)
			eventually(t, "a connection that is given up", func() bool { p.srv.Sweep(); return p.given("probe") == n })
			p.set(func() { p.turnsAway = false })
		}
		behindStill(t, c, "* BYE [UNAVAILABLE] {*}")
		c.ExpectEOF()
		p.ended(session.ReasonBackendStalled)
	})
	t.Run("DONE", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.Linger = 1 << 60 })
		p.on("IDLE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if err := c.Send("+ idling"); err != nil {
				return err
			}
			if _, err := c.ReadCommand(); err != nil {
				return err
			}
			c.Backend.Fire("stalled")
			return c.StallForever()
		})
		c := p.stays("SELECT INBOX", "UID FETCH 1:* (FLAGS)")
		c.Write("i IDLE")
		c.Expect("+{*}")
		p.silent(20 * time.Minute) // nothing is owed
		p.expunge(1)
		c.Write("DONE")
		must(t, p.backends[0].Wait("stalled"))
		p.set(func() { p.turnsAway = true })
		p.silent(31 * time.Second)
		p.probed()
		behindStill(t, c, "i OK {*}")
		p.set(func() { p.turnsAway = false })
		c.Write("n NOOP")
		c.Expect("* 1 EXPUNGE")
		c.Expect("n OK {*}")
	})
	t.Run("it doesn't read", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Limits.IdleTimeout, o.Park.QuietAfter = 1<<60, 0 })
		p.on("CHECK", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if err := c.Send(cmd.Tag() + " OK done"); err != nil {
				return err
			}
			return c.StallForever()
		})
		c := p.stays("SELECT INBOX", "CHECK")
		written := make(chan struct{})
		go func() { // ends with the connection
			defer close(written)
			_, _ = c.Conn.Write([]byte("a APPEND INBOX {100000000+}\r\n" + strings.Repeat("x", 100_000_000)))
		}()
		p.set(func() { p.turnsAway = true })
		eventually(t, "a connection that is given up", func() bool {
			p.silent(31 * time.Second)
			return p.given("probe") == 1
		})
		<-written
	})
	t.Run("discovery says that it is down", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3)
		p.stalls("CHECK")
		c := p.stays("SELECT INBOX")
		c.Write("s CHECK")
		must(t, p.backends[0].Wait("stalled"))
		must(t, p.router.Reload(routing.Options{Storage: routing.Shared, PanicThreshold: 1}))
		row := routing.Backend{ID: "b1", Address: p.backends[0].Addr, Weight: 100}
		down := row
		down.State, down.Reason = routing.Down, "critical"
		p.on("CHECK", p.answer)
		p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{down}})
		p.silent(29 * time.Second)
		if n := p.given("down"); n != 0 {
			t.Errorf("given up %d times before stall_after", n)
		}
		p.silent(2 * time.Second)
		eventually(t, "a connection that is given up", func() bool { return p.given("down") == 1 })
		p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{row}})
		behindStill(t, c, "s OK {*}")
	})
	t.Run("stall_after is off", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.StallAfter = -1 })
		p.stalls("CHECK")
		c := p.stays("SELECT INBOX")
		c.Write("s CHECK")
		must(t, p.backends[0].Wait("stalled"))
		p.router.Apply(routing.Snapshot{Source: "test", Backends: []routing.Backend{{ID: "b1", Address: p.backends[0].Addr, Weight: 100, State: routing.Down, Reason: "critical"}}})
		for range 3 {
			p.silent(time.Minute)
		}
		p.backends[0].Fire("go on")
		behindStill(t, c, "s OK {*}")
	})
}

// Where probes succeed, silence counts once it is that of several users, and nothing has come from the backend on any connection.
func TestSilenceOnAllConnections(t *testing.T) {
	for name, test := range map[string]struct {
		users int
		talks bool // another session is answered
		lost  bool
	}{
		"a few long commands":        {users: 3},
		"all of several users":       {users: 4, lost: true},
		"all of several but for one": {users: 4, talks: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 3)
			p.stalls("CHECK")
			var all []*imaptest.Client
			for n := range test.users {
				c := p.login(fmt.Sprint("user", n))
				c.MustOK("SELECT INBOX")
				all = append(all, c)
			}
			other := p.login("other")
			for _, c := range all {
				c.Write("s CHECK")
			}
			eventually(t, "the commands", func() bool { return len(p.said("CHECK")) == test.users })
			p.clock.forward(15 * time.Second)
			if test.talks { // before the silence is long enough: the server sweeps by itself, too
				other.MustOK("NOOP")
			}
			p.clock.forward(16 * time.Second)
			p.on("CHECK", p.answer) // before a session can send its command again
			p.srv.Sweep()
			p.srv.Sweep()
			if !test.lost {
				p.probed()
				p.backends[0].Fire("go on")
			}
			for _, c := range all {
				behindStill(t, c, "s OK {*}")
			}
			given := 0
			if test.lost {
				given = test.users
			}
			if n := p.given("all"); n != given {
				t.Errorf("%d connections were given up, want %d", n, given)
			}
		})
	}
}

// A client whose command waits for a backend hears of the proxy before it loses patience.
func TestWhoWaitsForASilentBackendHearsOfTheProxy(t *testing.T) {
	const still = "* OK Still here{*}"
	t.Run("between responses", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3)
		p.stalls("UID SEARCH")
		c := p.stays("SELECT INBOX")
		p.silent(20 * time.Second) // no command waits
		c.MustOK("NOOP")
		c.Write("s UID SEARCH RETURN (ALL COUNT) TEXT x")
		must(t, p.backends[0].Wait("stalled"))
		p.silent(9 * time.Second)
		for range 2 {
			p.silent(2 * time.Second)
			c.Expect(still)
			p.silent(8 * time.Second)
		}
		p.backends[0].Fire("go on")
		c.Expect("* ESEARCH {*}")
		c.Expect("s OK {*}")
	})
	for name, say := range map[string]string{"while it is connected again": "before", "and says something meanwhile": "after"} { // which takes a real while
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 3)
			p.stalls("UID SEARCH")
			c := p.stays("SELECT INBOX")
			if say == "before" {
				p.on("CHECK", func(*imaptest.BackendConn, imaptest.Command) error {
					p.on("CHECK", p.answer)
					return io.EOF
				})
				c.Write("c CHECK")
				must(t, p.backends[0].Wait("stalled"))
			} else {
				p.lose()
				must(t, p.backends[0].Wait("stalled"))
				c.Write("c CHECK")
			}
			c.Expect(still)
			if n := len(p.said("UID SEARCH")); n != 1 {
				t.Errorf("it was told between %d looks for its view, and not during one", n)
			}
			p.backends[0].Fire("go on")
			behindStill(t, c, "c OK {*}")
		})
	}
	t.Run("while it is resumed", func(t *testing.T) {
		t.Parallel()
		p := newScripted(t, scriptedCaps, 3)
		c := p.idle("SELECT INBOX")
		done(c)
		p.stalls("SELECT")
		c.Write("s UID FETCH 1 (FLAGS)")
		must(t, p.backends[0].Wait("stalled"))
		c.Expect(still)
		if n := len(p.said("SELECT")); n != 2 {
			t.Errorf("it was told after %d attempts, and not during the first", n-1)
		}
		p.backends[0].Fire("go on")
		behindStill(t, c, "* 1 FETCH {*}")
	})
	for tag, command := range map[string]string{"n": "n NOOP", "i": "DONE"} {
		t.Run("while it is parked, "+command, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 3)
			c := p.idle("SELECT INBOX")
			p.stalls("EXAMINE")
			if tag == "n" {
				done(c)
			} else {
				p.hint()
				must(t, p.backends[0].Wait("stalled"))
			}
			c.Write(command)
			c.Expect(still)
			if n := len(p.said("SELECT")); n != 1 {
				t.Error("it was told once it was resumed, and not during the look")
			}
			p.backends[0].Fire("go on")
			behindStill(t, c, tag+" OK {*}")
		})
		t.Run("while others of its user are told much, "+command, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, fewestHeld+1)
			c := p.idle("SELECT INBOX")
			var release []func()
			for range heldPerUser {
				done, err := p.srv.env.Queues.Telling(t.Context(), "alice")
				must(t, err)
				release = append(release, done)
			}
			if tag == "n" {
				done(c)
			}
			for uid := range uint32(fewestHeld + 1) {
				p.flag(uid + 1)
			}
			p.hint()
			if tag == "i" {
				eventually(t, "it waits", func() bool { _, waiting := p.srv.env.Queues.Differences.Stats(); return waiting == 1 })
			}
			c.Write(command)
			c.Expect(still)
			for _, done := range release {
				done()
			}
			for r := c.Read(); r.Tag() != tag; r = c.Read() {
			}
		})
	}
}

// While a session is being parked, the backend has to answer commands of the proxy's own, and the client's wait.
func TestABackendThatHangsWhileASessionIsParked(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	p.on("IDLE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.Send("+ idling"); err != nil {
			return err
		}
		if _, err := c.ReadCommand(); err != nil { // the proxy's DONE
			return err
		}
		c.Backend.Fire("stalled")
		return c.StallForever()
	})
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	p.srv.Sweep()
	must(t, p.backends[0].Wait("stalled"))
	c.Write("DONE")
	c.Expect("* OK Still here{*}")
	p.silent(29 * time.Second)
	p.set(func() { p.turnsAway = true })
	p.silent(2 * time.Second)
	p.probed()
	eventually(t, "a connection that is given up", func() bool { p.srv.Sweep(); return p.given("probe") == 1 })
	p.set(func() { p.turnsAway = false })
	behindStill(t, c, "i OK {*}")
	c.MustOK("CHECK")
}

// A session whose client is in IDLE comes back on a connection on which the backend doesn't answer IDLE.
func TestABackendThatDoesntAnswerIdleAgain(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.ResumeTry = time.Second })
	c := p.idle("SELECT INBOX")
	p.on("IDLE", func(c *imaptest.BackendConn, _ imaptest.Command) error {
		p.on("IDLE", nil)
		c.Backend.Fire("stalled")
		return c.StallForever()
	})
	p.srv.reg.Each(func(s *session.Session) { s.Signal(session.SigLostWatch) })
	must(t, p.backends[0].Wait("stalled"))
	c.Write("DONE")
	behindStill(t, c, "i OK {*}")
	c.MustOK("CHECK")
}

// The same for a client that is owed EXPUNGE.
func TestABackendDoesntAnswerIdleOfAClientThatIsOwedExpunge(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4, func(o *Options) { o.Park.ResumeTry = time.Second })
	c := p.idle("SELECT INBOX")
	done(c)
	p.expunge(2)
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") })
	c.MustOK("FETCH 3 (UID)")
	p.on("IDLE", func(c *imaptest.BackendConn, _ imaptest.Command) error {
		p.on("IDLE", nil)
		c.Backend.Fire("stalled")
		return c.StallForever()
	})
	c.Write("j IDLE")
	c.Expect("+ idling")
	c.Expect("* 2 EXPUNGE")
	must(t, p.backends[0].Wait("stalled"))
	c.Write("DONE")
	behindStill(t, c, "j OK {*}")
	c.MustOK("CHECK")
}
