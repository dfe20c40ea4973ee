package parking

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy"
)

// The backend is gone at a resume, for a while.
func aBackendThatIsGoneAtAResume(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{warmFor: -1})
	user := l.newUser()
	d := l.writer(user, "INBOX", 3)
	w := l.watch(user, "INBOX", d.Truth)
	w.BeginIdle()
	l.parked(w.Client)
	w.EndIdle()
	l.Down(true)
	d.Expunge(1)
	w.Model.Begin("UID FETCH")
	w.Write("x1 UID FETCH 1:* (FLAGS)")
	refused := l.Opened() + 2
	must(t, eventually(t.Context(), "attempts to resume", func() error {
		if n := l.Opened(); n < refused {
			return fmt.Errorf("%d to come", refused-n)
		}
		return nil
	}))
	l.Down(false)
	w.UntilOK("x1")
	w.Agrees(d.Truth)
}

// It is gone for good.
func aBackendThatStaysAwayEndsTheSession(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{warmFor: -1, resumeWithin: 2 * time.Second})
	user := l.newUser()
	d := l.writer(user, "INBOX", 3)
	w := l.watch(user, "INBOX", d.Truth)
	w.BeginIdle()
	l.parked(w.Client)
	w.EndIdle()
	l.Down(true)
	w.Write("x1 UID FETCH 1:* (FLAGS)")
	w.ExpectBye()
	l.Down(false)
	must(t, eventually(t.Context(), "the session's end", func() error {
		if page, _ := l.srv.Sessions(proxy.Filter{User: user}); len(page) > 0 {
			return errors.New("it is there")
		}
		return nil
	}))
}

// A resume hangs at one of its steps until its time is over; the next attempt comes
// through, and what the first was waiting for comes afterwards, when no attempt waits for it.
func aResumeThatTimesOutAndLaterSucceeds(t *testing.T, s *site) {
	for _, step := range []string{"AUTHENTICATE", `SELECT "INBOX"`, "UID SEARCH"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, s, labOptions{warmFor: -1, resumeTry: time.Second})
			user := l.newUser()
			d := l.writer(user, "INBOX", 3)
			w := l.watch(user, "INBOX", d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			w.EndIdle()
			var hung atomic.Bool
			release := make(chan struct{})
			letGo := sync.OnceFunc(func() { close(release) })
			t.Cleanup(letGo)
			l.OnUp(func(_ *imaptest.Tapped, line string) bool {
				if strings.Contains(line, step) && hung.CompareAndSwap(false, true) {
					<-release
				}
				return true
			})
			w.Model.Begin("UID FETCH")
			w.Write("x1 UID FETCH 1:* (FLAGS)")
			w.UntilOK("x1")
			d.Expunge(2)
			letGo()
			w.Agrees(d.Truth)
			w.BeginIdle()
			l.parked(w.Client)
			d.Expunge(1)
			w.Told("EXPUNGE", 2)
			w.EndIdle()
			w.Agrees(d.Truth)
		})
	}
}
