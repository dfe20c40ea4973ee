package proxy

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/routing"
)

// A user is moved to another backend with a session in IDLE, one that works by UID and one that is parked: none of them ends, and each goes on at the
// other backend, with right numbers, and told what has happened meanwhile.
func TestSessionsFollowTheirUser(t *testing.T) {
	for _, watch := range []string{"push", "idle"} {
		t.Run(watch, func(t *testing.T) {
			t.Parallel()
			l := newMoveLab(t, watch, nil)
			user, d := l.user(5)
			idle, quiet, parked := l.watch(user, d.Truth), l.watch(user, d.Truth), l.watch(user, d.Truth)
			idle.BeginIdle()
			parked.BeginIdle()
			l.srv.LetGo(user, false) // which parks it
			l.is(parked, session.Parked)
			l.is(idle, session.Parked)
			idle.EndIdle() // comes back
			idle.Say("UID FETCH 1:* (FLAGS)")
			idle.BeginIdle()
			l.is(idle, session.Attached)
			quiet.Say("UID FETCH 1:* (FLAGS)")
			l.agreement.Move(user, "b2")
			l.letGo(user, false)
			d.Expunge(2)
			d.Append(1)
			l.arrived(user, "b2")
			d.MustOK(`UID STORE 4 +FLAGS.SILENT (\Flagged)`)
			d.Truth.Store(4, `\Flagged`)
			idle.Told("EXPUNGE", 1)
			idle.Counts(5)
			parked.Counts(5)
			for _, w := range []*imaptest.ModelWatcher{parked, idle} {
				w.EndIdle()
			}
			for _, w := range []*imaptest.ModelWatcher{parked, idle, quiet} {
				w.Agrees(d.Truth)
				l.isAt(w, "b2")
			}
			if l.b2.Opened() == 0 {
				t.Error("nothing has come to the other backend")
			}
		})
	}
}

// A client that says one command after the other is moved between two of them.
func TestABusyClientIsMovedBetweenTwoCommands(t *testing.T) {
	l := newMoveLab(t, "push", nil)
	user, d := l.user(5)
	w := l.watch(user, d.Truth)
	w.Say("UID FETCH 1:* (FLAGS)")
	l.agreement.Move(user, "b2")
	asked := l.Once("UID FETCH", func() { l.letGo(user, false) })
	w.Say("UID FETCH 1:* (UID FLAGS)")
	l.happens(asked, "the command at the backend of before")
	for range 5 {
		w.Say("UID FETCH 1:* (UID FLAGS)")
	}
	l.isAt(w, "b2")
	l.arrived(user, "b2")
	w.Agrees(d.Truth)
}

// A client whose next command may have message numbers moves outside IDLE as well. Its numbers keep their meaning.
func TestAClientOfMessageNumbersIsMovedBetweenTwoCommands(t *testing.T) {
	l := newMoveLab(t, "push", nil)
	user, d := l.user(6)
	w := l.watch(user, d.Truth)
	w.Say("FETCH 1:* (UID FLAGS)")
	d.Expunge(2) // the client counts it until a command lets it be told
	l.move(user, "b2")
	l.isAt(w, "b1") // it follows with its next command
	w.Say("STORE 4 +FLAGS (\\Flagged)")
	d.Truth.Store(4, `\Flagged`)
	w.Say("FETCH 3:5 (UID FLAGS)")
	l.isAt(w, "b2")
	if held := l.srv.Leaving("b1"); held.Sessions != 0 || len(held.Held) != 0 {
		t.Errorf("what still holds them: %+v", held)
	}
	d.Append(1)
	w.Say("NOOP")
	w.Agrees(d.Truth)
}

// A client of mod-sequences keeps its connection outside IDLE, and moves as soon as it idles.
func TestAClientOfModSequencesIsMovedOnceItIdles(t *testing.T) {
	l := newMoveLab(t, "push", nil)
	user, d := l.user(5)
	w := l.watch(user, d.Truth)
	w.Say("ENABLE CONDSTORE")
	l.agreement.Move(user, "b2")
	l.letGo(user, false)
	if held := l.srv.Leaving("b1"); held.Sessions != 1 || held.Held["condstore"] != 1 {
		t.Errorf("what holds them: %+v", held)
	}
	w.Say("UID FETCH 1:* (UID FLAGS)")
	l.isAt(w, "b1")
	w.BeginIdle()
	l.arrived(user, "b2")
	if held := l.srv.Leaving("b1"); held.Sessions != 0 || len(held.Held) != 0 {
		t.Errorf("what still holds them: %+v", held)
	}
	d.Append(1)
	w.Counts(6)
	w.EndIdle()
	w.Agrees(d.Truth)
	l.isAt(w, "b2")
}

// While the proxies can't agree, a parked session waits, and its client's command with it.
func TestAParkedSessionWaitsForTheAgreement(t *testing.T) {
	l := newMoveLab(t, "idle", nil)
	user, d := l.user(3)
	w := l.watch(user, d.Truth)
	tag := w.BeginIdle()
	l.letGo(user, false)
	l.is(w, session.Parked)
	l.agreement.Disagree(user, true)
	l.letGo(user, false)
	d.Append(1)
	w.Write("DONE")
	w.Write("x UID FETCH 1:* (FLAGS)")
	l.is(w, session.Resuming)
	l.agreement.Disagree(user, false)
	w.UntilOK(tag)
	w.UntilOK("x")
	w.Agrees(d.Truth)
	l.isAt(w, "b1")
}

// A backend that can't do what the client was told isn't one where its session may go on.
func TestASessionEndsWhereTheUsersBackendCanDoLess(t *testing.T) {
	l := newMoveLab(t, "push", nil)
	user, d := l.user(3)
	less := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	c := imaptest.Dial(t, less.Addr)
	c.Login(user, password)
	c.MustOK("CREATE INBOX")
	l.b2.Move(less.Addr)
	w := l.watch(user, d.Truth)
	tag := w.BeginIdle()
	l.move(user, "b2")
	w.ExpectBye(tag) // a look at the mailbox there is made for each session that is parked
	_ = w.Conn.Close()
	l.ended(session.ReasonCapabilities)
}

// Where that was seen before, the session stays where it is, and its user with it.
func TestASessionStaysWhereTheUsersNextBackendCanDoLess(t *testing.T) {
	l := newMoveLab(t, "push", nil)
	user, d := l.user(3)
	less := imaptest.NewModelServer(t, imaptest.ModelServerOptions{})
	l.b2.Move(less.Addr)
	l.agreement.Move("other", "b2")
	l.login("other").MustOK("NOOP")
	w := l.watch(user, d.Truth)
	w.Say("UID FETCH 1:* (FLAGS)")
	l.agreement.Move(user, "b2")
	l.letGo(user, false)
	if held := l.srv.Leaving("b1"); held.Sessions != 1 || held.Held["capabilities"] != 1 {
		t.Errorf("what holds them: %+v", held)
	}
	w.Say("UID FETCH 1:* (FLAGS)")
	w.BeginIdle()
	d.Append(1)
	w.Counts(4)
	w.EndIdle()
	l.agreement.GiveUp(user)
	w.Agrees(d.Truth)
	l.isAt(w, "b1")
}

// Where connections have to be closed at once, sessions go on at the user's other backend.
func TestSessionsOutliveAnAbort(t *testing.T) {
	l := newMoveLab(t, "push", nil)
	user, d := l.user(3)
	w := l.watch(user, d.Truth)
	w.Say("UID FETCH 1:* (FLAGS)")
	plain := l.login(user)
	l.agreement.Move(user, "b2")
	l.letGo(user, true)
	w.Say("NOOP")
	w.Agrees(d.Truth)
	l.arrived(user, "b2")
	plain.MustOK("SELECT INBOX")
	for _, s := range l.page(user) {
		if s.Backend != "b2" {
			t.Errorf("%+v", s)
		}
	}
}

// LetGo may come at any time, and again.
func TestLetGoAtAnyTime(t *testing.T) {
	l := newMoveLab(t, "push", nil)
	user, d := l.user(4)
	w := l.watch(user, d.Truth)
	other := map[string]string{"b1": "b2", "b2": "b1"}
	for round := range 12 {
		at, _, _ := l.agreement.At(user)
		l.agreement.Move(user, other[at])
		m := l.moment(round, func() { l.letGo(user, false) })
		w.Say("UID FETCH 1:* (UID FLAGS)")
		w.BeginIdle()
		if round%2 == 0 {
			d.Append(1)
		}
		m()
		l.letGo(user, false)
		w.EndIdle()
		w.Say("UID STORE 3 +FLAGS.SILENT (\\Flagged)")
		l.letGo(user, false)
		l.arrived(user, other[at])
	}
	d.Truth.Store(3, `\Flagged`)
	w.Agrees(d.Truth)
}

// A session that couldn't give up its connection stays attached if its user's move is undone, or the pause of its backend ends, before it could.
func TestASessionStaysIfItNeedntLeaveAnyMore(t *testing.T) {
	l := newMoveLab(t, "push", nil)
	user, d := l.user(1)
	w := l.watch(user, d.Truth)
	leaves := func(want int, when string) {
		t.Helper()
		l.srv.Stay()
		if n := l.srv.Leaving("").Sessions; n != want {
			t.Errorf("%s: %d sessions are to leave", when, n)
		}
	}
	w.Model.Begin("SEARCH")
	w.Write("x SEARCH KEYWORD {4}")
	if r := w.Read(); r.Tag() != "+" {
		t.Fatal(r)
	}
	l.agreement.Move(user, "b2")
	l.letGo(user, false)
	leaves(1, "the user is to be elsewhere")
	l.agreement.GiveUp(user)
	leaves(0, "the user stays")
	l.router.Pause(routing.Pause{Backend: "b1", Until: time.Now().Add(time.Hour)})
	l.srv.DetachAt("b1")
	leaves(1, "the backend is paused")
	l.router.Resume("b1")
	leaves(0, "the pause has ended")
	w.Write("none")
	w.UntilOK("x")
	w.Say("NOOP")
	if parks := l.metric("imapproxy_parks_total", `outcome="parked"`); parks != 0 {
		t.Errorf("it was parked %v times", parks)
	}
}

// All connections may have to be closed while a user is already leaving a backend: their clients stay.
func TestConnectionsAreClosedWhileTheirUserLeaves(t *testing.T) {
	for _, say := range []string{"idle", "selected"} {
		t.Run(say, func(t *testing.T) {
			l := newMoveLab(t, "push", nil)
			user, d := l.user(4)
			w := l.watch(user, d.Truth)
			other := map[string]string{"b1": "b2", "b2": "b1"}
			for round := range 16 {
				at, _, _ := l.agreement.At(user)
				if say == "idle" {
					w.BeginIdle()
				}
				now := l.moment(1+round/2, func() { l.letGo(user, true) }) // while the session is being parked
				l.agreement.Move(user, other[at])
				l.letGo(user, false)
				if round%2 == 0 {
					d.Append(1)
				}
				if say == "idle" {
					w.EndIdle()
				} else {
					w.Say("NOOP")
				}
				now()
				w.Say("UID FETCH 1:* (UID FLAGS)")
				l.arrived(user, other[at])
			}
			w.Agrees(d.Truth)
		})
	}
}

// overdueClock says that a proxy is overdue, and knows how often it was asked.
type overdueClock struct {
	late  atomic.Bool
	asked atomic.Int64
}

func (o *overdueClock) overdue() bool {
	o.asked.Add(1)
	return o.late.Load()
}

// looks waits until it was asked some times more.
func (o *overdueClock) looks(t *testing.T) {
	t.Helper()
	before := o.asked.Load()
	eventually(t, "a look at whether the proxy is overdue", func() bool { return o.asked.Load() > before+3 })
}

// A proxy that may have lost its connections relays nothing on them, either way, until it knows.
func TestAProxyThatIsOverdueRelaysNothing(t *testing.T) {
	for name, lost := range map[string]bool{"it has lost nothing": false, "it has": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o overdueClock
			l := newMoveLab(t, "push", func(opts *Options) { opts.Overdue = o.overdue })
			user, d := l.user(3)
			w, idle := l.watch(user, d.Truth), l.watch(user, d.Truth)
			idle.BeginIdle()
			o.late.Store(true)
			w.Write("x UID FETCH 1:* (FLAGS)")
			d.Append(1) // which the backend tells the one that idles
			o.looks(t)
			told := l.of(idle).Info().BytesOut
			o.looks(t)
			if n := l.of(idle).Info().BytesOut; n != told {
				t.Error("what the backend said was passed on")
			}
			for _, line := range l.Sent() {
				if strings.Contains(line, "x UID FETCH") {
					t.Error("the command was passed on")
				}
			}
			if lost { // they wait for other connections
				l.letGo(user, true)
				o.looks(t)
			}
			o.late.Store(false)
			w.UntilOK("x")
			idle.Counts(4)
			idle.EndIdle()
			idle.Agrees(d.Truth)
		})
	}
}

// A proxy was stopped, and a client has sent a message to it, by numbers of before. Its connections are closed since others may have
// the user now. The lines of the message aren't commands when the session goes on with another connection.
func TestAMessageThatCameWhileTheProxyWasOverdueIsNoCommand(t *testing.T) {
	t.Parallel()
	var o overdueClock
	l := newParkLab(t, session.ParkOptions{}, func(opts *Options) { opts.Overdue = o.overdue })
	w, d, _ := l.owes(t)
	user := l.of(w).User()
	o.late.Store(true)
	const text = "y CREATE Injected"
	w.Model.Begin("APPEND")
	w.Write(fmt.Sprintf("x APPEND INBOX {%d+}", len(text)), text)
	o.looks(t)
	l.srv.LetGo(user, true)
	eventually(t, "the session to be without a connection", func() bool { return l.of(w).Attachment() == session.Resuming })
	o.late.Store(false)
	w.UntilOK("x")
	d.Truth.Append()
	for _, line := range l.Sent() {
		if strings.HasPrefix(line, "y CREATE") && !strings.Contains(line, "APPEND") {
			t.Errorf("a line of the message went to the backend as a command: %q", line)
		}
	}
	settle(t, w, d)
}

// A person guesses a user's password at a backend that takes its time to refuse it. The user is moved: the guess is
// broken off, doesn't keep the user where they are, and is refused where they are then.
func TestAGuessDoesntKeepAUserFromMoving(t *testing.T) {
	for _, all := range []bool{false, true} {
		l := newMoveLab(t, "push", nil)
		asked := make(chan struct{})
		slow, other := polite(), polite()
		slow.Check = func(c *imaptest.BackendConn, _ imaptest.Login) string {
			asked <- struct{}{}
			_ = c.DrainUntilEOF()
			return "NO [AUTHENTICATIONFAILED] late"
		}
		l.Tap.Move(imaptest.NewBackend(t, slow.Serve).Addr)
		l.b2.Move(imaptest.NewBackend(t, other.Serve).Addr)
		c := l.dial(plain)
		c.Write("g LOGIN ann guess")
		<-asked
		l.agreement.Move("ann", "b2")
		if all {
			l.letGo("", true)
		} else {
			l.letGo("ann", false)
		}
		l.arrived("ann", "b2")
		c.Expect("g NO [AUTHENTICATIONFAILED]{*}")
		c.MustOK("LOGIN ann " + password)
		if _, _, conns := l.agreement.At("ann"); conns == 0 {
			t.Error("the session counts for nothing")
		}
	}
}
