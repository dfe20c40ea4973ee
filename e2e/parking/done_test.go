package parking

import (
	"errors"
	"testing"
)

// Transcript 4: a DONE that crosses the proxy's own, one that comes during a
// resume, one that never comes.
func doneAtAnyTime(t *testing.T, s *site) {
	for _, step := range []string{"EXAMINE", "DONE", "NOOP", "UID SEARCH", "UNSELECT"} {
		t.Run("crosses "+step, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{})
			user := l.newUser()
			d := l.writer(user, "INBOX", 3)
			w := l.watch(user, "INBOX", d.Truth)
			sent := l.Once(step, func() { w.Write("DONE", "x1 UID FETCH 1:* (FLAGS)") })
			w.BeginIdle()
			l.happens(sent, "the step")
			w.UntilOK("w1")
			w.Model.Begin("UID FETCH")
			w.UntilOK("x1")
			l.OnUp(nil)
			w.BeginIdle()
			l.parked(w.Client)
			d.Expunge(2)
			w.Told("EXPUNGE", 1)
			w.EndIdle()
			w.Agrees(d.Truth)
			w.MustOK("LOGOUT")
		})
	}
	// Hints can't be had, so DONE needs a backend, which comes back a little later.
	t.Run("needs a resume", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, s, labOptions{})
		user := l.newUser()
		d := l.writer(user, "INBOX", 3)
		w := l.watch(user, "INBOX", d.Truth)
		w.BeginIdle()
		l.parked(w.Client)
		l.Down(true)
		d.Expunge(1)
		w.Write("DONE", "x1 UID FETCH 1:* (FLAGS)", "x2 NOOP")
		must(t, l.attachment(t.Context(), w.Conn, "resuming"))
		l.Down(false)
		w.UntilOK("w1")
		w.Model.Begin("UID FETCH")
		w.UntilOK("x1")
		w.Model.Begin("NOOP")
		w.UntilOK("x2")
		w.Agrees(d.Truth)
		w.MustOK("LOGOUT")
	})
	t.Run("and more during the resume", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, s, labOptions{})
		user := l.newUser()
		d := l.writer(user, "INBOX", 3)
		w := l.watch(user, "INBOX", d.Truth)
		w.BeginIdle()
		l.parked(w.Client)
		sent := l.Once("SELECT", func() { w.Write("x1 NOOP") })
		l.CutAll()
		d.Append(1)
		w.Write("DONE", "x0 SELECT INBOX")
		w.UntilOK("w1")
		w.Model.Begin("SELECT")
		l.happens(sent, "the step")
		w.UntilOK("x0")
		w.Model.Begin("NOOP")
		w.UntilOK("x1")
		w.Agrees(d.Truth)
		w.MustOK("LOGOUT")
	})
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, s, labOptions{})
		user := l.newUser()
		d := l.writer(user, "INBOX", 3)
		w := l.watch(user, "INBOX", d.Truth)
		w.BeginIdle()
		l.parked(w.Client)
		must(t, w.Reset())
		must(t, eventually(t.Context(), "the session's end", func() error {
			if l.app.Hub().Wanted(user) {
				return errors.New("somebody wants hints")
			}
			return nil
		}))
	})
}
