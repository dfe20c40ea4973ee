package model

import (
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A user is moved between two Dovecots that have the same mail, with a session that idles, one that is parked, and one that says one command after
// the other: each stays, has right numbers, and is told what has happened meanwhile.
func TestAUserIsMovedBetweenTwoDovecots(t *testing.T) {
	for _, watch := range []string{"idle", "notify"} {
		t.Run(watch, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labOptions{pair: dovecots("maildir"), watch: watch, linger: 20 * time.Minute})
			user := l.user()
			direct := imaptest.Dial(t, l.server.Addr)
			direct.Login(user, servers.Password)
			d := imaptest.NewModelWriter(direct, "box", 6)
			direct.MustOK("STATUS box (HIGHESTMODSEQ)") // from then on SELECT shows one, which a session that leaves needs
			client := func() *imaptest.ModelWatcher {
				c := imaptest.Dial(t, l.addr)
				c.Login(user, servers.Password)
				w := imaptest.NewModelWatcher(c, imaptest.ModelPlain, d.Truth)
				w.MustOK("SELECT box")
				return w
			}
			parked, idle, busy := client(), client(), client()
			parked.BeginIdle()
			l.moving.letGo(user)
			idle.BeginIdle()
			uid, count := uint32(1), 6
			for round := range 4 {
				to := []string{"b2", "b1"}[round%2]
				l.moving.Move(user, to)
				d.Expunge(uid)
				l.moving.letGo(user)
				over := time.AfterFunc(turn, func() { l.moving.GiveUp(user) }) // a connection that was being made stays until the next turn
				d.Append(2)
				uid++
				count++
				for range 3 {
					busy.Say("UID FETCH 1:* (UID FLAGS)")
				}
				over.Stop()
				l.moving.leads(t, user, to)
				idle.Counts(count)
				parked.Counts(count)
				busy.Say("UID SEARCH ALL")
				busy.Say("NOOP")
			}
			parked.EndIdle()
			idle.EndIdle()
			for _, w := range []*imaptest.ModelWatcher{parked, idle, busy} {
				w.Say("FETCH %d (UID)", count)
				w.Agrees(d.Truth)
			}
		})
	}
}
