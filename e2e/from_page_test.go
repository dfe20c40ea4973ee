package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A pageProxy runs with a configuration of a page of docs/, in which the addresses and paths are the test's.
type pageProxy struct {
	*runningProxy
	Lookups string // the address of route
	dir     string
	ours    []string // of the page and of the test, in turn
}

// startFromPage runs a proxy with a page's configuration. further are more pairs of what the page has and what the test has in
// its place.
func startFromPage(t *testing.T, config string, further ...string) *pageProxy {
	t.Helper()
	servers.Real(t)
	p := &pageProxy{runningProxy: &runningProxy{Cert: servers.NewCertificate(t)}, dir: servers.Folder(t)}
	p.Config = filepath.Join(p.dir, "config.hcl")
	p.StartTLS, _ = servers.FreeAddr(t)
	p.TLS, _ = servers.FreeAddr(t)
	p.Lookups, _ = servers.FreeAddr(t)
	admin, _ := servers.FreeAddr(t)
	p.Admin = "http://" + admin
	writeFile(t, filepath.Join(p.dir, "admin.token"), "of-the-admin\n")
	p.ours = append(further, "127.0.0.1:8143", admin, "127.0.0.1:10143", p.Lookups,
		`":1143"`, `"`+p.StartTLS+`"`, `":1993"`, `"`+p.TLS+`"`, `":143"`, `"`+p.StartTLS+`"`, `":993"`, `"`+p.TLS+`"`,
		"/etc/imapproxy/fullchain.pem", p.Cert.CertFile, "/etc/imapproxy/privkey.pem", p.Cert.KeyFile, "/etc/imapproxy/", p.dir+"/")
	p.write(t, config)
	p.start(t)
	return p
}

// write replaces the configuration by one of the page.
func (p *pageProxy) write(t *testing.T, config string) {
	t.Helper()
	writeFile(t, p.Config, strings.NewReplacer(p.ours...).Replace(config))
}

// start runs the proxy, again after its Stop.
func (p *pageProxy) start(t *testing.T) {
	t.Helper()
	p.Process = servers.Start(t, "imapproxy", p.serveCommand())
	p.waitReady(t)
}

// reload has the proxy use another configuration of the page.
func (p *pageProxy) reload(t *testing.T, config string) {
	t.Helper()
	before := strings.Count(p.Output(), "msg=reloaded")
	p.write(t, config)
	p.signal(t, syscall.SIGHUP)
	p.eventually(t, "the reload", func() error {
		if strings.Count(p.Output(), "msg=reloaded") == before {
			return fmt.Errorf("not reloaded:\n%s", config)
		}
		return nil
	})
}

// verb runs another verb against the proxy as an operator does.
func (p *pageProxy) verb(t *testing.T, args ...string) string {
	t.Helper()
	return p.command(t, append(args, "--token-file", filepath.Join(p.dir, "admin.token"))...)
}

// refused tries a login that must fail.
func (p *pageProxy) refused(t *testing.T, user, password string) {
	t.Helper()
	if a := imaptest.DialTLS(t, p.TLS, p.Cert.Client).TryLogin(user, password); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
		t.Errorf("%s with %q: %s", user, password, a.Tagged)
	}
}

// login connects by TLS and logs in.
func (p *pageProxy) login(t *testing.T, user, password string) *imaptest.Client {
	t.Helper()
	c := imaptest.DialTLS(t, p.TLS, p.Cert.Client)
	c.Login(user, password)
	return c
}

// Mail servers, by their names in the page's configuration.
type mailServers map[string]*servers.Server

// startMailServers runs two Dovecots with the same mail, which have IMAP and LMTP on the ports of the page.
func startMailServers(t *testing.T, hosts ...string) (m mailServers) {
	t.Helper()
	m = mailServers{}
	mail := servers.DovecotMail(t)
	for i, host := range hosts {
		name := fmt.Sprintf("imap%d", i+1)
		_, lmtp := servers.FreeAddr(t) // with it the server takes names with a domain
		m[name] = servers.StartDovecot(t, servers.DovecotOptions{Name: name, Host: host, Mail: mail, LMTPPort: lmtp,
			Extra: fmt.Sprintf("service lmtp {\n  inet_listener lmtp-page {\n    %s = %s\n    port = 24\n  }\n}\n",
				map[string]string{"2.3": "address", "2.4": "listen"}[servers.DovecotRelease(t)], host)})
	}
	return m
}

// of are the servers at which the user has connections.
func (m mailServers) of(t *testing.T, user string) (names []string) {
	t.Helper()
	user, _, _ = strings.Cut(user, "@")
	for name, s := range m {
		if strings.Contains(s.Doveadm(t, "who", "-1", user), user) {
			names = append(names, name)
		}
	}
	return names
}

// at waits until the user has connections at one server alone, and returns its name.
func (m mailServers) at(t *testing.T, p *runningProxy, user string) (name string) {
	t.Helper()
	p.eventually(t, user+" at one mail server", func() error {
		names := m.of(t, user)
		if len(names) != 1 {
			return fmt.Errorf("%s is at %v", user, names)
		}
		name = names[0]
		return nil
	})
	return name
}

// inboxCount is the number of messages in INBOX.
func inboxCount(c *imaptest.Client) string {
	a := c.MustOK("STATUS INBOX (MESSAGES)")
	for _, r := range a.Untagged {
		if _, n, ok := strings.Cut(r.String(), "(MESSAGES "); ok {
			return strings.TrimSuffix(n, ")")
		}
	}
	return a.String()
}

// shell runs a command of a page, in which the paths are the test's.
func shell(t *testing.T, command string, ours ...string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", strings.NewReplacer(ours...).Replace(command)).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// publicFile is a file that other users' processes may read.
func publicFile(t *testing.T, path, content string) {
	t.Helper()
	writeFile(t, path, content)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
}
