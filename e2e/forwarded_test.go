package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Dovecot tells one proxy what has changed, and sessions that are parked at the others hear of it at once:
// no sweep comes within the test. A proxy that stands still holds up none, and hears of it when it goes on.
func TestAPushEventReachesTheSessionsOfAllProxies(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	events, _ := servers.FreeAddr(t)
	dir := servers.Folder(t)
	lua, err := os.ReadFile(filepath.Join("..", "contrib", "dovecot", "push.lua"))
	if err != nil {
		t.Fatal(err)
	}
	script, token := filepath.Join(dir, "push.lua"), filepath.Join(dir, "token")
	writeFile(t, script, string(lua))
	writeFile(t, token, "0123456789abcdef-of-events\n")
	for _, path := range []string{script, token} {
		if err := os.Chmod(path, 0o644); err != nil { // Dovecot's mail processes read them
			t.Fatal(err)
		}
	}
	k := startSeveralBefore(t, 3, servers.DovecotOptions{Name: "d1", Push: &servers.DovecotPush{Script: script, TokenFile: token, URLs: []string{"http://" + events + "/v1/events"}}},
		func(n int) proxyOptions {
			address := ""
			if n == 0 {
				address = fmt.Sprintf("address = %q", events)
			}
			return proxyOptions{Further: fmt.Sprintf("park {\n  linger = \"50ms\"\n  watch = \"push\"\n  sweep_every = \"1h\"\n  events {\n    token_file = %q\n    %s\n  }\n}\n", token, address)}
		})
	sender := imaptest.Dial(t, k.backend.Addr)
	sender.Login(servers.User(1), servers.Password)
	sender.MustOK("SELECT INBOX")
	var clients []*imaptest.Client
	for _, p := range k.proxies[1:] {
		c := imaptest.Dial(t, p.Plain)
		c.Login(servers.User(1), servers.Password)
		c.MustOK("SELECT INBOX")
		c.Write("i IDLE")
		c.Expect("+ {*}")
		p.eventually(t, "without a connection to the backend", func() error {
			s := k.status(p)
			if s.Attachments["parked"] != 1 || s.Parking.Mailboxes["push"] != 1 || s.Parking.WatchConnections != 0 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		clients = append(clients, c)
	}
	told := func(c *imaptest.Client, exists int) {
		t.Helper()
		for want := fmt.Sprintf("* %d EXISTS", exists); ; {
			if r := c.Read(); r.Text == want {
				return
			} else if r.Tag() != "*" {
				t.Fatalf("not %q, but %q", want, r.Text)
			}
		}
	}
	sender.Literal("APPEND INBOX ", imaptest.GeneratedMessage(300, 1), "")
	told(clients[0], 1)
	told(clients[1], 1)

	third := k.proxies[2]
	third.signal(t, syscall.SIGSTOP)
	stopped := true
	t.Cleanup(func() {
		if stopped {
			third.signal(t, syscall.SIGCONT)
		}
	})
	sender.Literal("APPEND INBOX ", imaptest.GeneratedMessage(300, 1), "")
	told(clients[0], 2)
	third.signal(t, syscall.SIGCONT)
	stopped = false
	told(clients[1], 2)

	// What was sent on goes no further.
	if s := k.status(k.proxies[0]).Parking.Forwarded; s["sent"] < 4 || s["received"] != 0 || s["lost"] != 0 {
		t.Errorf("the first: %v", s)
	}
	for _, p := range k.proxies[1:] {
		if s := k.status(p).Parking.Forwarded; s["sent"] != 0 || s["received"] < 2 || s["lost"] != 0 {
			t.Errorf("another: %v", s)
		}
	}
}

// proxyStatus has the fields of /v1/status that this test reads.
type proxyStatus struct {
	Attachments map[string]int64
	Parking     struct {
		Mailboxes        map[string]int64
		WatchConnections int64 `json:"watch_connections"`
		Forwarded        map[string]int64
	}
}

func (k *several) status(p *runningProxy) (s proxyStatus) {
	k.t.Helper()
	if err := p.get("/v1/status", &s); err != nil {
		k.t.Fatal(err)
	}
	return s
}
