package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
)

// readiness asks /readyz; it may not fail.
func (p *runningProxy) readiness(t testing.TB) (status int, reason string) {
	t.Helper()
	resp, err := http.Get(p.Admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// After SIGTERM load balancers and Consul hear that the proxy will stop, and clients that come nevertheless are served, until the lame duck has ended. Then
// the listeners close, and the sessions get a BYE.
func TestClientsAreAcceptedWhileTheProxyIsTakenOut(t *testing.T) {
	t.Parallel()
	server, consul := servers.StartDovecot(t, servers.DovecotOptions{}), consultest.Start(t)
	registerBackend(t, consul, "b1", server.Addr)
	p := startProxy(t, proxyOptions{Consul: consul.Address(), Service: service, Further: "register {\n}\n",
		Shutdown: "lame_duck = \"15s\"\n  " + handingOver(t, "1m")})
	check := func() (status, output string) {
		text, ok := consul.Get("/v1/health/service/imapproxy")
		var entries []struct {
			Checks []struct{ CheckID, Status, Output string }
		}
		if err := json.Unmarshal([]byte(text), &entries); err != nil || !ok {
			t.Fatalf("%v: %s", err, text)
		}
		for _, e := range entries {
			for _, c := range e.Checks {
				if strings.HasPrefix(c.CheckID, "service:") {
					status, output = c.Status, c.Output
				}
			}
		}
		return status, output
	}
	p.eventually(t, "registered", func() error {
		if s, _ := check(); s != "passing" {
			return fmt.Errorf("the check is %q", s)
		}
		return nil
	})
	before := imaptest.Dial(t, p.Plain)
	before.Login(servers.User(1), servers.Password)
	before.MustOK("SELECT INBOX")
	if status, reason := p.readiness(t); status != http.StatusOK {
		t.Fatal(status, reason)
	}

	p.signal(t, syscall.SIGTERM)
	p.says(t, "stopping soon")
	if status, reason := p.readiness(t); status != http.StatusServiceUnavailable || !strings.Contains(reason, "lame_duck") {
		t.Errorf("/readyz: %d %s", status, reason)
	}
	if resp, err := http.Get(p.Admin + "/healthz"); err != nil {
		t.Errorf("/healthz: %v", err)
	} else {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("/healthz: %s", resp.Status)
		}
	}
	p.eventually(t, "critical in consul", func() error {
		if s, output := check(); s != "critical" || !strings.HasPrefix(output, "stopping") {
			return fmt.Errorf("the check is %q: %s", s, output)
		}
		return nil
	})
	if out := p.command(t, "status"); !strings.Contains(out, "lame_duck") {
		t.Error(out)
	}
	// What isn't possible any more.
	if out, err := exec.Command(os.Getenv(proxyBinary), "upgrade", "--config", p.Config).CombinedOutput(); err == nil || !strings.Contains(string(out), "this process is ending") {
		t.Errorf("an upgrade: %v\n%s", err, out)
	}
	// Clients are served as before.
	after := imaptest.DialTLS(t, p.TLS, p.Cert.Client)
	after.Login(servers.User(2), servers.Password)
	after.MustOK("SELECT INBOX")
	before.MustOK("NOOP")
	if strings.Contains(p.Output(), "msg=stopping ") {
		t.Fatal("the lame duck has ended before the test has seen it: its time is too short for this machine")
	}

	for _, c := range []*imaptest.Client{before, after} {
		bye := false
		for _, r := range c.ExpectEOF() {
			bye = bye || r.Status() == "BYE"
		}
		if !bye {
			t.Error("cut off without a BYE")
		}
		_ = c.Close() // the server has closed already
	}
	<-p.Done()
	if c, err := net.Dial("tcp", p.Plain); err == nil {
		_ = c.Close()
		t.Error("the listener is there")
	}
	if text, _ := consul.Get("/v1/agent/services"); strings.Contains(text, `"imapproxy"`) {
		t.Errorf("the entry is left in consul: %s", text)
	}
}

// A process that has handed over accepts no clients: it stops without a lame duck, and so doesn't keep a stop of the whole unit waiting.
func TestAProcessThatHasHandedOverHasNoLameDuck(t *testing.T) {
	t.Parallel()
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Shutdown: "lame_duck = \"10m\"\n  " + handingOver(t, "1h")})
	c := imaptest.Dial(t, p.Plain)
	c.Login(servers.User(1), servers.Password)
	old := p.succeed(t)
	p.eventually(t, "alone", func() error {
		if !strings.Contains(old.Output(), "a new process has taken over") {
			return errors.New("the old process hasn't handed over")
		}
		return nil
	})
	if err := syscall.Kill(old.Pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.ExpectEOF()
	_ = c.Close()
	<-old.Done()
	if strings.Contains(old.Output(), "stopping soon") {
		t.Error(old.Output())
	}
	if status, reason := p.readiness(t); status != http.StatusOK {
		t.Error(status, reason)
	}
}
