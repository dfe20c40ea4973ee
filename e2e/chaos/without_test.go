package chaos

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

// Two proxies that don't agree put users on two backends as soon as one is drained, and the verdict sees it in the backends'
// logs. A verdict that didn't would prove nothing.
func TestProxiesThatDoNotAgreeAreSeen(t *testing.T) {
	servers.Real(t)
	l := startLab(t, labOptions{backends: 2, proxies: 2})
	clients := startSwarm(t, l.proxies, 20, 60, 1)
	eventually(t, "users are on both backends", func() error {
		if n := clients.online.Load(); n < 40 {
			return fmt.Errorf("%d sessions", n)
		}
		return nil
	})
	l.backends[0].drain(true)
	eventually(t, "a user on two backends", func() error {
		sessions, _ := l.sessions()
		for _, o := range overlaps(sessions, time.Now()) {
			if o.length() > resolution {
				t.Logf("seen for %v", o)
				return nil
			}
		}
		return errors.New("no overlap yet")
	})
	clients.stop()
}
