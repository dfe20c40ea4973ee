package parking

import (
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
)

// Transcript 3: a resync is asked for, more comes, a second device parks, whose
// snapshot has that, and the resync's answer, of before, is delivered late: it is
// nothing to the second device.
func TestAResyncThatIsDeliveredLate(t *testing.T) {
	onEach(t, "-idle", func(t *testing.T, s *site) {
		l := newLab(t, s, labOptions{})
		user := l.newUser()
		d := l.writer(user, "INBOX", 6)
		a := l.watch(user, "INBOX", d.truth)
		a.idle()
		l.parked(a.Client)
		b := l.watch(user, "INBOX", d.truth)

		var held atomic.Pointer[imaptest.Tapped]
		sent, release := make(chan struct{}), make(chan struct{})
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
		d.append(1)
		l.happens(sent, "a resync")
		d.append(1)
		d.expunge(2)
		b.idle()
		b.told("EXISTS", 1)
		for b.model.Count() < len(d.truth.Messages) || b.heard["EXPUNGE"] == 0 {
			b.hear(b.Read())
		}
		l.parked(b.Client)
		close(release)
		for _, w := range []*watcher{a, b} {
			for w.heard["EXPUNGE"] < 1 || w.model.Count() < len(d.truth.Messages) {
				w.hear(w.Read())
			}
		}
		l.OnUp(nil)
		l.OnDown(nil)
		d.expunge(1)
		d.append(1)
		for _, w := range []*watcher{a, b} {
			for w.heard["EXPUNGE"] < 2 || w.model.Count() < len(d.truth.Messages) {
				w.hear(w.Read())
			}
			w.done()
			w.agrees(d.truth)
		}
	})
}
