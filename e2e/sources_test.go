package e2e

import (
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// mox takes 30 connections of an address. A proxy that comes from one address gets no more
// sessions than that; with several it serves all of its users.
func TestSourceAddressesAtABackendThatCountsThem(t *testing.T) {
	t.Parallel()
	s := servers.StartMox(t)
	const users = 60
	login := func(t *testing.T, sources string) (in int) {
		p := startProxy(t, proxyOptions{Backends: []backend{{"b1", s.Direct}}, Stays: true, Sources: sources})
		for i := 1; i <= users; i++ {
			if a := imaptest.Dial(t, p.Plain).TryLogin(s.User(i), servers.Password); a.OK() {
				in++
			} else if in == i-1 {
				t.Logf("user %d: %s", i, a)
			}
		}
		return in
	}
	t.Run("one", func(t *testing.T) {
		if in := login(t, `["127.0.64.1"]`); in == 0 || in > 30 {
			t.Errorf("%d users were let in: mox's limit isn't 30 any more, and the other half shows nothing", in)
		}
	})
	t.Run("several", func(t *testing.T) {
		if in := login(t, `["127.0.72.1", "127.0.80.1", "127.0.88.1", "127.0.96.1"]`); in != users {
			t.Errorf("%d of %d users were let in", in, users)
		}
	})
}
