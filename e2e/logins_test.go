package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// userPassword is the password in the passwd-file, which no backend knows.
const userPassword = "pw-Of.The.Proxy"

// masterProxy is a proxy that checks passwords itself and logs in as a master.
func masterProxy(t *testing.T, s *servers.Server) *runningProxy {
	t.Helper()
	return masterProxyWith(t, s, func(*proxyOptions) {})
}

// masterProxyWith is such a proxy with further options.
func masterProxyWith(t *testing.T, s *servers.Server, change func(*proxyOptions)) *runningProxy {
	t.Helper()
	passwd := filepath.Join(servers.Folder(t), "users.passwd")
	var lines strings.Builder
	for i := 1; i <= 3; i++ {
		lines.WriteString(servers.User(i) + ":{PLAIN}" + userPassword + "\n")
	}
	writeFile(t, passwd, lines.String())
	o := proxyOptions{Backends: []backend{{"b1", s.Addr}}, Master: true, PasswdFile: passwd}
	change(&o)
	return startProxy(t, o)
}

// check runs imapproxy check and returns what it printed and whether all is well.
func (p *runningProxy) check(args ...string) (string, bool) {
	args = append([]string{"check", "--config", p.Config}, args...)
	out, err := exec.Command(os.Getenv(proxyBinary), args...).CombinedOutput()
	return string(out), err == nil
}

func TestMasterLoginYieldsTheIntendedUser(t *testing.T) {
	t.Parallel()
	for _, start := range []func(testing.TB) *servers.Server{
		func(t testing.TB) *servers.Server { return servers.StartDovecot(t, servers.DovecotOptions{}) },
		servers.StartCyrus,
	} {
		server := start(t)
		t.Run(server.Name, func(t *testing.T) {
			for i := 1; i <= 2; i++ {
				c := imaptest.Dial(t, server.Addr)
				c.Login(servers.User(i), servers.Password)
				for range i { // one message for the first, two for the second
					c.Literal("APPEND INBOX ", message("direct"), "")
				}
			}
			p := masterProxy(t, server)
			for i := 1; i <= 2; i++ {
				c := imaptest.Dial(t, p.Plain)
				c.Login(servers.User(i), userPassword)
				r, _ := c.MustOK("STATUS INBOX (MESSAGES)").Find("STATUS")
				want := fmt.Sprintf("* STATUS INBOX (MESSAGES %d)", i)
				if ok, _ := imaptest.Match(want, r); !ok {
					t.Errorf("as %s: %s, want %s", servers.User(i), r, want)
				}
				c.MustOK("SELECT INBOX")
				c.MustOK(`STORE 1 +FLAGS (\Flagged)`)
				c.MustOK("LOGOUT")
			}
			for _, wrong := range []string{servers.Password, servers.MasterPassword, ""} {
				a := imaptest.Dial(t, p.Plain).TryLogin(servers.User(1), wrong)
				if a.OK() || a.Tagged.Code() != "AUTHENTICATIONFAILED" {
					t.Errorf("password %q: %s", wrong, a.Tagged)
				}
			}
			if a := imaptest.Dial(t, p.Plain).TryLogin(servers.MasterUser, servers.MasterPassword); a.OK() {
				t.Error("the master logged in from outside")
			}
			if out, well := p.check("--user", servers.User(1)); !well {
				t.Errorf("imapproxy check:\n%s", out)
			}
		})
	}
}

// Courier ignores the authorization id: with a master login all users would see the master's mailbox. No user
// may be let in, and check says why.
func TestMasterLoginToCourierIsRefused(t *testing.T) {
	t.Parallel()
	server := servers.StartCourier(t)
	p := masterProxy(t, server)
	for i := 1; i <= 2; i++ {
		a := imaptest.Dial(t, p.Plain).TryLogin(servers.User(i), userPassword)
		if a.OK() || a.Tagged.Code() != "UNAVAILABLE" {
			t.Errorf("%s: %s", servers.User(i), a)
		}
	}
	out, well := p.check("--user", servers.User(1))
	if well || !strings.Contains(out, "ignores the authorization identity") {
		t.Errorf("imapproxy check finds nothing wrong:\n%s", out)
	}
}

func TestBackendsAreReachedByVerifiedTLS(t *testing.T) {
	t.Parallel()
	cert := servers.NewCertificate(t)
	server := servers.StartDovecot(t, servers.DovecotOptions{Certificate: cert})
	for mode, addr := range map[string]string{"starttls": server.Addr, "implicit": server.TLSAddr} {
		t.Run(mode, func(t *testing.T) {
			o := proxyOptions{Backends: []backend{{"b1", addr}}, BackendTLS: mode, BackendCA: cert.CertFile}
			c := imaptest.Dial(t, startProxy(t, o).Plain)
			c.Login(servers.User(1), servers.Password)
			c.MustOK("SELECT INBOX")
			c.MustOK("LOGOUT")

			o.BackendCA = servers.NewCertificate(t).CertFile
			p := startProxy(t, o)
			a := imaptest.Dial(t, p.Plain).TryLogin(servers.User(1), servers.Password)
			if a.OK() || a.Tagged.Code() != "UNAVAILABLE" {
				t.Errorf("with a certificate that nobody we trust has signed: %s", a.Tagged)
			}
			if out, well := p.check(); well || !strings.Contains(out, "ca_file") {
				t.Errorf("imapproxy check:\n%s", out)
			}
		})
	}
}
