package e2e

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// backendStatus is a backend in /v1/backends.
type backendStatus struct {
	State       string `json:"state"`
	Suspect     bool   `json:"suspect"`
	Failures    int    `json:"failures"`
	LastError   string `json:"last_error"`
	Connections int    `json:"connections"`
	Bound       int    `json:"bound"`
}

// backendOne returns a proxy's only backend, from /v1/backends.
func (p *runningProxy) backendOne(t *testing.T) backendStatus {
	t.Helper()
	var all struct {
		Backends []backendStatus `json:"backends"`
	}
	if err := p.get("/v1/backends", &all); err != nil || len(all.Backends) != 1 {
		t.Fatalf("%v, %+v", err, all)
	}
	return all.Backends[0]
}

// Twelve users log in, select and log out, one after another, at a backend with room for
// eight connections. All of them get in, as they do without parking: what the first ones
// left in the pool makes way. The backend stays up.
func TestConnectionsThatWaitDontFillABackend(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	for name, start := range map[string]func() *servers.Server{
		"cyrus with maxchild = 8": func() *servers.Server {
			return servers.StartCyrusWith(t, servers.CyrusOptions{Stock: true, MaxChild: 8})
		},
		"dovecot with process_limit = 8": func() *servers.Server {
			return servers.StartDovecot(t, servers.DovecotOptions{Extra: "service imap {\n  process_limit = 8\n}\n"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, proxyOptions{Backends: []backend{{"b1", start().Addr}}})
			for i := 1; i <= 12; i++ {
				c := imaptest.Dial(t, p.Plain)
				c.Login(servers.User(i), servers.Password)
				c.MustOK("SELECT INBOX")
				c.MustOK("LOGOUT")
				_ = c.Conn.Close()
			}
			b := p.backendOne(t)
			if b.State != "up" || b.Suspect || b.Failures > 0 {
				t.Errorf("%+v", b)
			}
			t.Logf("%d connections, bound %d", b.Connections, b.Bound)
		})
	}
}

// A client sends a password for the victim that is longer than Dovecot takes, again and
// again. The victim's sessions live, and nothing counts against the backend. The longest
// that Dovecot takes works.
func TestATooLongPasswordIsNotTheBackendsFault(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	long := strings.Repeat("x", 6000)
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
	victim := imaptest.Dial(t, p.Plain)
	victim.Login(servers.User(1), servers.Password)
	for _, n := range []int{6000, 6133, 6140, 7000, 8000} {
		c := imaptest.Dial(t, p.Plain)
		c.Write(fmt.Sprintf("a LOGIN %s {%d}", servers.User(1), n))
		c.Expect("+{*}")
		c.Write(long + strings.Repeat("y", n-len(long)))
		c.Expect("a NO [AUTHENTICATIONFAILED]{*}")
		_ = c.Conn.Close()
	}
	if b := p.backendOne(t); b.Failures > 0 || b.Suspect {
		t.Errorf("%+v", b)
	}
	victim.MustOK("NOOP")
}
