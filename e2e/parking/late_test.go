package parking

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
)

// Transcript 3: a resync is asked for, more comes, a second device parks, whose
// snapshot has that, and the resync's answer, of before, is delivered late: it is
// nothing to the second device.
func aResyncThatIsDeliveredLate(t *testing.T, s *site) {
	l := newLab(t, s, labOptions{})
	user := l.newUser()
	d := l.writer(user, "INBOX", 6)
	a := l.watch(user, "INBOX", d.Truth)
	a.BeginIdle()
	l.parked(a.Client)
	b := l.watch(user, "INBOX", d.Truth)

	var held atomic.Pointer[imaptest.Tapped]
	sent, release := make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo)
	l.OnUp(func(c *imaptest.Tapped, line string) bool {
		if strings.Contains(line, "EXAMINE") && held.CompareAndSwap(nil, c) {
			close(sent)
		}
		return true
	})
	l.OnDown(func(c *imaptest.Tapped, line string) bool {
		if held.Load() == c {
			<-release
		}
		return true
	})
	d.Append(1)
	l.happens(sent, "a resync")
	d.Append(1)
	d.Expunge(2)
	b.BeginIdle()
	b.Told("EXISTS", 1)
	for b.Model.Count() < len(d.Truth.Messages) || b.Heard["EXPUNGE"] == 0 {
		b.Hear(b.Read())
	}
	l.parked(b.Client)
	letGo()
	for _, w := range []*imaptest.ModelWatcher{a, b} {
		for w.Heard["EXPUNGE"] < 1 || w.Model.Count() < len(d.Truth.Messages) {
			w.Hear(w.Read())
		}
	}
	l.OnUp(nil)
	l.OnDown(nil)
	d.Expunge(1)
	d.Append(1)
	for _, w := range []*imaptest.ModelWatcher{a, b} {
		for w.Heard["EXPUNGE"] < 2 || w.Model.Count() < len(d.Truth.Messages) {
			w.Hear(w.Read())
		}
		w.EndIdle()
		w.Agrees(d.Truth)
	}
}
