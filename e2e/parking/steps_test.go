package parking

import (
	"testing"
)

// Transcript 1: expunge and append just before each command by which a session
// is parked. Whatever the step, the client is told, and counts what is there.
func changesAtEachStepOfParking(t *testing.T, s *site) {
	for _, step := range []string{"ENABLE QRESYNC", "EXAMINE", "IDLE", "DONE", "NOOP", "UID SEARCH", "UNSELECT"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{})
			user := l.newUser()
			d := l.writer(user, "INBOX", 6)
			w := l.watch(user, "INBOX", d.Truth)
			w.Say("FETCH 1:* (UID FLAGS)")
			if step == "IDLE" { // the watch's, not the client's own
				w.BeginIdle()
			}
			done := l.Once(step, func() {
				d.Expunge(2, 5)
				d.Append(2)
				d.Flag(3, `\Flagged`)
			})
			if step != "IDLE" {
				w.BeginIdle()
			}
			l.happens(done, "the step")
			l.parked(w.Client)
			l.OnUp(nil)
			w.Told("EXPUNGE", 2)
			// and the next change, by number, from the view that it has now
			d.Expunge(1)
			w.Told("EXPUNGE", 3)
			d.Append(1)
			w.Counts(len(d.Truth.Messages))
			w.EndIdle()
			w.Agrees(d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			d.Expunge(4)
			w.EndIdle()
			w.Agrees(d.Truth)
			w.MustOK("LOGOUT")
		})
	}
}

// The same at each step of coming back.
func changesAtEachStepOfAResume(t *testing.T, s *site) {
	for name, o := range map[string]labOptions{"warm": {}, "cold": {warmFor: -1}} {
		for _, step := range []string{"SELECT", "UID SEARCH", "EXAMINE", "STORE 3"} {
			t.Run(name+" "+step, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, s, o)
				user := l.newUser()
				d := l.writer(user, "INBOX", 6)
				w := l.watch(user, "INBOX", d.Truth)
				w.Say("FETCH 1:* (UID FLAGS)")
				w.BeginIdle()
				l.parked(w.Client)
				w.EndIdle()
				uid := w.Model.UID(3)
				happened := l.Once(step, func() {
					d.Expunge(2)
					d.Append(1)
				})
				// Said by number of what it counts now: UID 3, whatever happens meanwhile.
				w.Model.Begin("STORE")
				w.Write(`s1 STORE 3 +FLAGS (\Answered)`)
				w.UntilOK("s1")
				l.OnUp(nil)
				d.Truth.Store(uid, `\Answered`)
				w.Agrees(d.Truth)
				w.MustOK("LOGOUT")
				select {
				case <-happened:
				default:
					if step != "EXAMINE" { // only where there is something to be resynced
						t.Errorf("there was no %s", step)
					}
				}
			})
		}
	}
}
