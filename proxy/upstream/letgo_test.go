package upstream

import (
	"testing"
	"time"
)

// A user who is let go of has no warm connections any more, and those that were lent before aren't kept; later ones are.
func TestTheConnectionsOfAUserWhoIsLetGoOf(t *testing.T) {
	for name, who := range map[string]string{"one user": "u", "all": ""} {
		t.Run(name, func(t *testing.T) {
			l := newPoolLab(t, PoolOptions{WarmFor: time.Minute})
			l.warm("u", "p")
			l.warm("other", "p")
			lent, _ := l.login("u", "p")
			l.LetGo(who)
			l.takes(false, l.key("u", "p"), Verified)
			l.takes(who != "", l.key("other", "p"), Verified)
			if l.Give(l.key("u", "p"), lent, Condition{}) {
				t.Error("a connection of before is kept")
			}
			l.clock.add(time.Second)
			l.warm("u", "p")
			l.takes(true, l.key("u", "p"), Verified)
		})
	}
}
