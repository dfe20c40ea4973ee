package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// documentedHeader is the block of docs/backends.md about the PROXY protocol, for a listener on port.
func documentedHeader(t testing.TB, port string) string {
	t.Helper()
	return strings.NewReplacer("10.0.0.5 10.0.0.6", "127.0.0.1", "port = 10143", "port = "+port).Replace(documented(t, "dovecot-proxy"))
}

// Dovecot knows each client by the header alone: its address, and whether its connection is safe enough for a password.
func TestDovecotIsToldTheClientByTheHeader(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	addr, port := servers.FreeAddr(t)
	onlyTLS := "disable_plaintext_auth = yes\n"
	if servers.DovecotRelease(t) == "2.4" {
		onlyTLS = "auth_allow_cleartext = no\nssl = required\n" // with ssl = yes every connection with the header counts as secured
	}
	// No address is trusted (Stock), so that ID counts for nothing.
	d := servers.StartDovecot(t, servers.DovecotOptions{Stock: true, Extra: documentedHeader(t, port) + onlyTLS})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "b1", Address: addr}}, SendProxy: "v2"})
	p.eventually(t, "up", func() error {
		if b := p.backendOne(t); b.State != "up" { // a busy machine answers probes late
			return fmt.Errorf("%+v", b)
		}
		return nil
	})

	c := imaptest.DialWith(t, p.TLS, imaptest.DialOptions{TLS: p.Cert.Client, Source: "127.4.4.4"})
	c.Login(servers.User(1), servers.Password)
	c.MustOK("SELECT INBOX")
	logged := regexp.MustCompile(`user=<` + servers.User(1) + `>.* rip=127\.4\.4\.4,`)
	p.eventually(t, "in Dovecot's log", func() error {
		text, err := os.ReadFile(d.Log)
		if err == nil && !logged.Match(text) {
			err = fmt.Errorf("no line %s in\n%s", logged, text)
		}
		return err
	})
	// The proxy permits a login without TLS here (cleartext_from); this Dovecot doesn't, as it would without a proxy.
	if _, answer := attempt(p.Plain, "127.4.4.5", servers.User(1), servers.Password); !strings.HasPrefix(answer, "a NO [") {
		t.Errorf("without TLS: %s", answer)
	}
	c.MustOK("LOGOUT")
}

// A listener that expects the header and one that doesn't are told apart, and no login is sent to the wrong one.
func TestAHeaderWhereNoneIsExpectedIsNoticed(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	addr, port := servers.FreeAddr(t)
	d := servers.StartDovecot(t, servers.DovecotOptions{Extra: documentedHeader(t, port)})
	p := startProxy(t, proxyOptions{Backends: []backend{{ID: "right", Address: addr}, {ID: "wrong", Address: d.Addr}}, SendProxy: "v2"})
	p.eventually(t, "one up, one down", func() error {
		var all struct {
			Backends []struct{ ID, State, Reason string }
		}
		if err := p.get("/v1/backends", &all); err != nil {
			return err
		}
		states := map[string]string{}
		for _, b := range all.Backends {
			states[b.ID] = b.State + " " + b.Reason
		}
		if !strings.HasPrefix(states["right"], "up") || !strings.HasPrefix(states["wrong"], "down") || !strings.Contains(states["wrong"], "send_proxy") {
			return fmt.Errorf("%v", states)
		}
		return nil
	})
	for i := range 3 { // some belong to the wrong one
		imaptest.Dial(t, p.Plain).Login(servers.User(i+1), servers.Password)
	}

	for name, c := range map[string]struct{ from, to, want string }{
		"a port that expects none":     {addr, d.Addr, `send_proxy = "none", or`},
		"a port that expects a header": {`send_proxy = "v2"`, `send_proxy = "none"`, `send_proxy = "v2", or`},
		"as it should be":              {"\x00", "", "ok    backend right"},
	} {
		text, err := os.ReadFile(p.Config)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(servers.Folder(t), "config.hcl")
		writeFile(t, file, strings.ReplaceAll(string(text), c.from, c.to))
		said, _ := exec.Command(os.Getenv(proxyBinary), "check", "--config", file, "--timeout", "20s").CombinedOutput()
		if !strings.Contains(string(said), c.want) {
			t.Errorf("%s: check doesn't say %q:\n%s", name, c.want, said)
		}
	}
}
