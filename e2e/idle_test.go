package e2e

import (
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Cyrus doesn't see a DONE that it has read together with IDLE, and answers once the client sends more. The proxy passes on both
// one after the other, also where both have waited for a connection.
func TestCyrusAnswersADoneThatHasComeWithIdle(t *testing.T) {
	servers.Real(t)
	t.Parallel()
	s := servers.StartCyrusWith(t, servers.CyrusOptions{Users: 1})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", s.Addr}}})
	c := imaptest.Dial(t, p.Plain)
	c.Login(s.User(1), servers.Password)
	c.MustOK("SELECT INBOX")
	for range 2 {
		c.Write("i IDLE", "DONE")
		c.Expect("+{*}")
		c.Expect("i OK{*}")
	}
	c.MustOK("LOGOUT")
}
