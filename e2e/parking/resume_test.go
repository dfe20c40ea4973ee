package parking

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
)

// The backend is gone at a resume, for a while.
func TestABackendThatIsGoneAtAResume(t *testing.T) {
	onEach(t, "sdbox-idle cyrus-idle", func(t *testing.T, s *site) {
		l := newLab(t, s, labOptions{warmFor: -1})
		user := l.newUser()
		d := l.writer(user, "INBOX", 3)
		w := l.watch(user, "INBOX", d.truth)
		w.idle()
		l.parked(w.Client)
		w.done()
		l.Down(true)
		d.expunge(1)
		w.model.Begin("UID FETCH")
		w.Write("x1 UID FETCH 1:* (FLAGS)")
		w.Quiet(time.Second)
		l.Down(false)
		w.until("x1")
		w.agrees(d.truth)
	})
}

// It is gone for good.
func TestABackendThatStaysAwayEndsTheSession(t *testing.T) {
	onEach(t, "sdbox-idle", func(t *testing.T, s *site) { // nothing of it is the server's
		l := newLab(t, s, labOptions{warmFor: -1, resumeWithin: 2 * time.Second})
		user := l.newUser()
		d := l.writer(user, "INBOX", 3)
		w := l.watch(user, "INBOX", d.truth)
		w.idle()
		l.parked(w.Client)
		w.done()
		l.Down(true)
		w.Write("x1 UID FETCH 1:* (FLAGS)")
		w.byed()
		l.Down(false)
		must(t, eventually(t.Context(), "the session's end", func() error {
			if page, _ := l.srv.Sessions(proxy.Filter{User: user}); len(page) > 0 {
				return errors.New("it is there")
			}
			return nil
		}))
	})
}

// A resume hangs at one of its steps until its time is over; the next attempt comes
// through, and what the first was waiting for comes afterwards, to nobody.
func TestAResumeThatTimesOutAndLaterSucceeds(t *testing.T) {
	onEach(t, "sdbox-idle cyrus-idle", func(t *testing.T, s *site) {
		for _, step := range []string{"AUTHENTICATE", `SELECT "INBOX"`, "NOOP", "UID SEARCH"} {
			t.Run(step, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, s, labOptions{warmFor: -1, resumeTry: time.Second})
				user := l.newUser()
				d := l.writer(user, "INBOX", 3)
				w := l.watch(user, "INBOX", d.truth)
				w.idle()
				l.parked(w.Client)
				w.done()
				var hung atomic.Bool
				release := make(chan struct{})
				l.OnUp(func(_ *imaptest.Tapped, line string) bool {
					if strings.Contains(line, step) && hung.CompareAndSwap(false, true) {
						<-release
					}
					return true
				})
				w.model.Begin("UID FETCH")
				w.Write("x1 UID FETCH 1:* (FLAGS)")
				w.until("x1")
				d.expunge(2)
				close(release)
				w.agrees(d.truth)
				w.idle()
				l.parked(w.Client)
				d.expunge(1)
				w.told("EXPUNGE", 2)
				w.done()
				w.agrees(d.truth)
			})
		}
	})
}
