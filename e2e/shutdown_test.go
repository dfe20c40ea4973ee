package e2e

import (
	"syscall"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// SIGTERM: all clients get a BYE within the drain time (1 s here), also those in IDLE, no new client is
// accepted, and the process ends.
func TestTerminationSaysByeToEverybody(t *testing.T) {
	t.Parallel()
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
	var quiet, idle []*imaptest.Client
	for i := 1; i <= 5; i++ {
		c := imaptest.DialTLS(t, p.TLS, p.Cert.Client)
		c.Login(servers.User(i), servers.Password)
		c.MustOK("SELECT INBOX")
		quiet = append(quiet, c)
		c = imaptest.Dial(t, p.Plain)
		c.Login(servers.User(i), servers.Password)
		c.MustOK("SELECT INBOX")
		c.Idle()
		idle = append(idle, c)
	}
	began := time.Now()
	p.signal(t, syscall.SIGTERM)
	for _, c := range append(quiet, idle...) {
		bye := false
		for _, r := range c.ExpectEOF() {
			bye = bye || r.Status() == "BYE"
		}
		if !bye {
			t.Error("cut off without a BYE")
		}
		_ = c.Close() // the server has closed already
	}
	select {
	case <-p.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the process is still there")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("that took %v with a drain of 1 s", took)
	}
}
