package proxy

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// refusing is a backend that says NO to a command.
func refusing(t *testing.T, command, no string) *imaptest.Backend {
	d := imaptest.Dialogue{LoginCaps: "IMAP4rev1 IDLE ENABLE CONDSTORE QRESYNC ESEARCH UNSELECT LITERAL+"}
	if command == "login" {
		d.Check = func(*imaptest.BackendConn, imaptest.Login) string { return no }
	} else {
		refuse := func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " " + no) }
		d.Commands = commands{command: refuse, "EXAMINE": refuse, "ENABLE": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.Send("* ENABLED "+cmd.Args, cmd.Tag()+" OK done")
		}}
	}
	return imaptest.NewBackend(t, d.Serve)
}

// parkedAway is a session that is parked, and has to find its backend anew.
func (l *parkLab) parkedAway() (*imaptest.ModelWatcher, *imaptest.ModelWriter) {
	l.t.Helper()
	user, d := l.user(3)
	w := l.watch(user, d.Truth)
	w.Say("UID FETCH 1:* (FLAGS)")
	w.BeginIdle()
	l.parked(w)
	w.EndIdle()
	l.CutAll()
	eventually(l.t, "the warm connection's end", func() bool { l.pool.Sweep(); return l.pool.Len() == 0 })
	return w, d
}

// gate is closed by open, or with the test.
func gate(t *testing.T) (closed <-chan struct{}, open func()) {
	c := make(chan struct{})
	open = sync.OnceFunc(func() { close(c) })
	t.Cleanup(open)
	return c, open
}

// What a backend refuses at a resume, for good or for now.
func TestARefusalAtAResume(t *testing.T) {
	for _, c := range []struct {
		command, no string
		reason      session.Reason // "": it is tried again
	}{
		{"login", "NO [AUTHENTICATIONFAILED] wrong", session.ReasonCredentials},
		{"login", "NO no", session.ReasonCredentials},
		{"login", "NO [EXPIRED] too old", session.ReasonCredentials},
		{"login", "NO [UNAVAILABLE] the directory is down", ""},
		{"login", "NO [LIMIT] too many connections", ""},
		{"SELECT", "NO [NONEXISTENT] no such mailbox", session.ReasonMailboxGone},
		{"SELECT", "NO [NOPERM] not yours", session.ReasonMailboxGone},
		{"SELECT", "NO whatever", session.ReasonMailboxGone},
		{"SELECT", "NO [UNAVAILABLE] not now", ""},
		{"SELECT", "NO [INUSE] locked", ""},
		{"SELECT", "NO [SERVERBUG] oops", ""},
	} {
		t.Run(c.command+" "+c.no, func(t *testing.T) {
			t.Parallel()
			l := newParkLab(t, session.ParkOptions{}, nil)
			w, d := l.parkedAway()
			b := refusing(t, c.command, c.no)
			l.Move(b.Addr)
			d.Expunge(1)
			w.Model.Begin("UID FETCH")
			w.Write("r1 UID FETCH 1:* (FLAGS)")
			if c.reason != "" {
				r := w.ExpectBye()
				if "* "+strings.TrimPrefix(r.Text, "* ")+"\r\n" != c.reason.Bye() {
					t.Errorf("%s", r)
				}
				_ = w.Conn.Close()
				l.ended(c.reason)
				return
			}
			l.logs.wait(t, "resume is tried again")
			l.Move(l.server.Addr)
			b.Close()
			w.UntilOK("r1")
			w.Agrees(d.Truth)
		})
	}
}

// No time is left, and the backend still has a reason that may pass: it isn't
// the mailbox that has changed.
func TestAResumeForWhichThereIsNoTimeLeft(t *testing.T) {
	t.Parallel()
	l := newParkLab(t, session.ParkOptions{ResumeWithin: 600 * time.Millisecond}, nil)
	w, _ := l.parkedAway()
	l.Move(refusing(t, "SELECT", "NO [UNAVAILABLE] not now").Addr)
	w.Write("r1 UID FETCH 1:* (FLAGS)")
	w.ExpectBye()
	_ = w.Conn.Close()
	l.ended(session.ReasonBackendLost)
}

// An attempt hangs at one of its commands. Another comes through, and what the
// first waited for has no effect when it comes.
func TestAnAttemptThatTimedOutDoesntComeBack(t *testing.T) {
	for _, hangs := range []string{"AUTHENTICATE", `SELECT "INBOX"`, "UID SEARCH", "EXAMINE"} {
		t.Run(hangs, func(t *testing.T) {
			t.Parallel()
			l := newParkLab(t, session.ParkOptions{ResumeTry: 300 * time.Millisecond}, nil)
			w, d := l.parkedAway()
			s := l.of(w)
			l.hub.Hint(parkHint(s.Info().User)) // so that what follows isn't answered from the view
			var hung atomic.Pointer[imaptest.Tapped]
			release, letGo := gate(t)
			l.OnUp(func(c *imaptest.Tapped, line string) bool {
				if strings.Contains(line, hangs) && hung.CompareAndSwap(nil, c) {
					<-release
				}
				return true
			})
			d.Expunge(2)
			d.Append(1)
			w.Model.Begin("UID FETCH")
			w.Write("r1 UID FETCH 1:* (FLAGS)")
			w.UntilOK("r1")
			if hung.Load() == nil {
				t.Error("nothing hung")
			}
			d.Expunge(1)
			letGo()
			w.Agrees(d.Truth)
			w.BeginIdle()
			l.parked(w)
			d.Append(1)
			w.Counts(len(d.Truth.Messages))
			w.EndIdle()
			w.Agrees(d.Truth)
		})
	}
}

// A resync is on its way when its session comes back by itself, and is delivered when that is
// attached, or parked again: the state is of before, and no client is told.
func TestAStateThatComesLateIsAppliedToNobody(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(map[bool]string{false: "attached", true: "parked again"}[again], func(t *testing.T) {
			t.Parallel()
			l := newParkLab(t, session.ParkOptions{}, nil)
			user, d := l.user(3)
			w := l.watch(user, d.Truth)
			w.Say("UID FETCH 1:* (FLAGS)")
			w.BeginIdle()
			l.parked(w)
			var held atomic.Pointer[imaptest.Tapped]
			asked := make(chan struct{})
			release, letGo := gate(t)
			l.OnUp(func(c *imaptest.Tapped, line string) bool {
				if strings.Contains(line, "EXAMINE") && held.CompareAndSwap(nil, c) {
					close(asked)
				}
				return true
			})
			l.OnDown(func(c *imaptest.Tapped, line string) bool {
				if held.Load() == c {
					<-release
				}
				return true
			})
			d.Append(1) // of which the state is
			l.happens(asked, "a resync")
			// DONE would wait for it: the session is woken, as when its watch is lost.
			s := l.of(w)
			l.srv.sweeping.Lock() // the server's own sweep leaves it
			swept := sync.OnceFunc(l.srv.sweeping.Unlock)
			t.Cleanup(swept)
			s.Signal(session.SigLostWatch)
			eventually(t, "the session to be attached", func() bool {
				return s.Attachment() == session.Attached
			})
			d.Append(1)
			d.Expunge(1)
			w.Counts(len(d.Truth.Messages))
			if w.EndIdle(); again {
				w.BeginIdle()
				swept()
				l.parked(w)
			}
			letGo()
			l.OnDown(nil)
			d.Append(1)
			if again {
				w.Counts(len(d.Truth.Messages))
				w.EndIdle()
			}
			w.Agrees(d.Truth)
			if n := w.Heard["EXPUNGE"]; n != 1 {
				t.Errorf("told %d EXPUNGE", n)
			}
		})
	}
}

// A parked session is woken, as when its watch is lost, just as its client speaks,
// goes, or is told something.
func TestAWakeMeetsWhateverHappens(t *testing.T) {
	t.Parallel()
	l := newParkLab(t, session.ParkOptions{}, nil)
	for i := range 120 {
		user, d := l.user(3)
		w := l.watch(user, d.Truth)
		w.Say("UID FETCH 1:* (FLAGS)")
		tag := w.BeginIdle()
		s := l.parked(w)
		woken := make(chan struct{})
		go func() { // ends at once
			defer close(woken)
			s.Signal(session.SigLostWatch)
		}()
		switch i % 4 {
		case 0:
			w.Write("DONE", `x1 STORE 2 +FLAGS (\Flagged)`)
			w.UntilOK(tag)
			w.Model.Begin("STORE")
			w.UntilOK("x1")
			d.Truth.Store(2, `\Flagged`)
			w.Agrees(d.Truth)
		case 1:
			_ = w.Conn.Close()
			l.gone(w)
		case 2:
			d.Expunge(2)
			w.Told("EXPUNGE", 1)
			w.EndIdle()
			w.Agrees(d.Truth)
		case 3:
			s.Terminate(session.ReasonIdle)
			w.ExpectBye()
		}
		<-woken
		_ = w.Conn.Close()
		_ = d.Conn.Close()
	}
}

// A backend that lets a session in, and takes long to open its mailbox, is there: the attempts that take too long don't count.
func TestASlowMailboxEndsNoSession(t *testing.T) {
	t.Parallel()
	const slow = 5
	p := newScripted(t, scriptedCaps, 3, func(o *Options) { o.Park.ResumeWithin, o.Park.ResumeTry = time.Second, 300*time.Millisecond })
	c := p.away("alice", "INBOX")
	closed, open := gate(t)
	var opening atomic.Int32
	p.on("SELECT", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		if opening.Add(1) <= slow {
			<-closed
		}
		return p.answer(b, cmd)
	})
	done(c)
	c.MustOK("UID FETCH 1 (UID)")
	open()
	if n := opening.Load(); n <= slow {
		t.Errorf("%d attempts", n)
	}
}
