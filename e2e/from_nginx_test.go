package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

const fromNginx = "from-nginx-mail.md"

// startAuthService runs the service of docs/authentication.md, with the test's users.
func startAuthService(t *testing.T, users string) (addr string) {
	t.Helper()
	page := readFile(t, filepath.Join("..", "docs", "authentication.md"))
	m := regexp.MustCompile(`(?m)^    # the service, in Python: python3 auth.py\n((    .*)?\n)+`).FindString(page)
	if !strings.Contains(m, "\n    users = {") || !strings.Contains(m, `("127.0.0.1", 9000)`) {
		t.Fatalf("docs/authentication.md has no service: %q", m)
	}
	text := regexp.MustCompile(`(?m)^users = .*$`).ReplaceAllLiteralString(strings.ReplaceAll(m, "\n    ", "\n"), "users = {"+users+"}")
	addr, port := servers.FreeAddr(t)
	file := filepath.Join(servers.Folder(t), "auth.py")
	writeFile(t, file, strings.ReplaceAll(text, "9000", port))
	servers.Start(t, "auth.py", exec.Command("python3", file)).WaitAccepts("tcp", addr)
	return addr
}

// The migration of docs/from-nginx-mail.md, with its configurations.
func TestFromNginx(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	hosts := []string{"10.0.0.11", "127.0.80.1", "10.0.0.12", "127.0.80.2"}
	mail := startMailServers(t, hosts[1], hosts[3])
	users, host := "", map[string]string{}
	for i := 1; i <= 4; i++ {
		user := servers.User(i) + "@example.org"
		host[user] = hosts[1+i%2*2]
		users += fmt.Sprintf("%q: (%q, %q, \"143\"), ", user, servers.Password, host[user])
	}
	service := startAuthService(t, users)
	ours := append(hosts, "127.0.0.1:9000", service)

	dir, cert := servers.Folder(t), servers.NewCertificate(t)
	plain, _ := servers.FreeAddr(t)
	addr, _ := servers.FreeAddr(t)
	conf := strings.NewReplacer(append(ours, "10.0.0.5:143", plain, "10.0.0.5:993", addr, "/run/nginx.pid", dir+"/pid", "/var/log/nginx/error.log", dir+"/log",
		"/etc/ssl/mail/fullchain.pem", cert.CertFile, "/etc/ssl/mail/privkey.pem", cert.KeyFile)...).Replace(documentedIn(t, fromNginx, "nginx.conf"))
	nginx := servers.StartNginxConf(t, dir, conf, addr)
	config := documentedIn(t, fromNginx, "nginx-config")
	p := startFromPage(t, config, append(ours, `":143"`, `"`+plain+`"`, `":993"`, `"`+addr+`"`)...)
	if out, well := p.check(); !well {
		t.Errorf("imapproxy check:\n%s", out)
	}

	through := map[string]func() *imaptest.Client{
		"nginx":              func() *imaptest.Client { return imaptest.DialTLS(t, addr, cert.Client) },
		"nginx, STARTTLS":    func() *imaptest.Client { return imaptest.DialStartTLS(t, plain, cert.Client) },
		"imapproxy":          func() *imaptest.Client { return imaptest.DialTLS(t, p.TLS, p.Cert.Client) },
		"imapproxy,STARTTLS": func() *imaptest.Client { return imaptest.DialStartTLS(t, p.StartTLS, p.Cert.Client) },
	}
	letIn := func(names ...string) { // who is let in, and where they are
		t.Helper()
		for user, h := range host {
			var clients []*imaptest.Client
			for _, name := range names {
				c := through[name]()
				c.Login(user, servers.Password)
				clients = append(clients, c)
				if at := mail.at(t, p.runningProxy, user); mail[at].Addr != net.JoinHostPort(h, "143") {
					t.Errorf("%s: %s is at %s", name, user, at)
				}
			}
			for _, c := range clients {
				c.MustOK("LOGOUT")
			}
		}
		for _, name := range names {
			for user, password := range map[string]string{servers.User(1) + "@example.org": "wrong", "nobody@example.org": servers.Password, servers.User(2): servers.Password} {
				if a := through[name]().TryLogin(user, password); a.Tagged.Status() != "NO" {
					t.Errorf("%s: %s with %q: %s", name, user, password, a.Tagged)
				}
			}
		}
	}
	letIn("nginx", "nginx, STARTTLS", "imapproxy", "imapproxy,STARTTLS")

	// The switch. A client of nginx stays.
	user := servers.User(1) + "@example.org"
	stays := through["nginx"]()
	stays.Login(user, servers.Password)
	p.Stop()
	trialTLS, trialStart := p.TLS, p.StartTLS
	p.write(t, strings.NewReplacer(":1143", ":143", ":1993", ":993").Replace(config))
	if err := syscall.Kill(nginx.Pid(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	nginx.WaitRefuses(addr)
	p.TLS, p.StartTLS = addr, plain
	p.start(t)
	letIn("imapproxy", "imapproxy,STARTTLS")
	stays.MustOK("NOOP")
	stays.MustOK("LOGOUT")
	<-nginx.Done()

	// Back.
	ends := through["imapproxy"]()
	ends.Login(user, servers.Password)
	p.Stop()
	ends.Expect("* BYE {*}")
	p.TLS, p.StartTLS = trialTLS, trialStart
	p.write(t, config)
	p.start(t)
	servers.StartNginxConf(t, dir, conf, addr)
	letIn("nginx", "imapproxy")
	if strings.Contains(p.Output(), servers.Password) || strings.Contains(p.Output(), "a-long-secret") {
		t.Error("a password is in the log")
	}
}
