package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// checked is the passwd-file of a Dovecot that checks passwords. The field nologin locks a user; more are the
// lines of further users.
func checked(more ...string) string {
	return servers.PasswdLine(servers.User(1), rightPassword) + servers.PasswdLine(servers.User(2), wideA) +
		servers.PasswdLine(servers.User(3), lockedPassword, "nologin", "reason=pw-Reason") + strings.Join(more, "")
}

// checkedProxy is a proxy that asks a Dovecot's auth process at an address.
func checkedProxy(t *testing.T, address string, o proxyOptions) *runningProxy {
	t.Helper()
	o.Further += fmt.Sprintf("auth \"dovecot\" {\n  address = %q\n  timeout = %q\n}\n", address, o.timeout())
	return startProxy(t, o)
}

func TestAuthDovecot(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	other := servers.StartDovecot(t, servers.DovecotOptions{Name: "dovecot-other", Mail: dovecot.Mail})
	host, port, err := net.SplitHostPort(other.Addr)
	if err != nil {
		t.Fatal(err)
	}
	users := checked(
		servers.PasswdLine("alias", rightPassword, "user="+servers.User(4), "backend=b2"),
		servers.PasswdLine("proxied", rightPassword, "proxy=y", "host="+host, "port="+port, "destuser="+servers.User(5), "pass="+servers.Password),
		servers.PasswdLine("local", rightPassword, "allow_nets=127.0.0.0/8", "user="+servers.User(6)),
		servers.PasswdLine("far", rightPassword, "allow_nets=192.0.2.0/24"),
		servers.PasswdLine("starred", rightPassword, "user=a*b"),
	)
	auth := servers.StartDovecotAuth(t, "plain", users)
	for name, address := range map[string]string{"unix": auth.Socket, "TCP": auth.Addr} {
		t.Run(name, func(t *testing.T) {
			p := checkedProxy(t, address, proxyOptions{Master: true, Backends: []backend{{"b1", dovecot.Addr}, {"b2", other.Addr}}})
			if name == "TCP" { // the rest is alike
				imaptest.Dial(t, p.Plain).Login("alias", rightPassword)
				p.cell(t, "dovecot", "LOGIN", cell{"wrong", servers.User(1), wrongPassword, "AUTHENTICATIONFAILED", "bad_password"}, mechanisms["LOGIN"])
				if out, well := p.check("--user", servers.User(1)); !well || !strings.Contains(out, "ok    auth dovecot") {
					t.Errorf("imapproxy check:\n%s", out)
				}
				return
			}
			p.sourceTable(t, "dovecot", "bad_password", "alice'--", "x=y", "%u", "a=b", "a*"+servers.User(1))
			for user, as := range map[string]string{"alias": servers.User(4), "proxied": servers.User(5)} {
				c := imaptest.Dial(t, p.Plain)
				c.Login(user, rightPassword)
				_ = c.Close()
				if said := p.Output(); !strings.Contains(said, "user="+as+" backend=b2") || !strings.Contains(said, "login="+user) {
					t.Errorf("%s: Dovecot's name and backend don't count:\n%s", user, said)
				}
			}
			imaptest.Dial(t, p.Plain).Login("local", rightPassword) // Dovecot knows the client's address
			p.cell(t, "dovecot", "PLAIN", cell{"from elsewhere", "far", rightPassword, "AUTHENTICATIONFAILED", "bad_password"}, mechanisms["PLAIN"])
			p.cell(t, "dovecot", "PLAIN", cell{"a name with a separator", "starred", rightPassword, "UNAVAILABLE", "unavailable"}, mechanisms["PLAIN"])
			p.hangs(t, "dovecot", auth.Process)
			auth.Stop()
			p.unavailable(t, "dovecot", "down")
			auth.Start()
			p.comesBack(t, "restarted")
			if out, well := p.check("--user", servers.User(1)); !well || !strings.Contains(out, "ok    auth dovecot") {
				t.Errorf("imapproxy check:\n%s", out)
			}
			p.toldNoSecrets(t, "pw-Reason")
		})
	}
}

func TestAuthDovecotLocksAUserOut(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	auth := servers.StartDovecotAuth(t, "plain", checked())
	token := filepath.Join(servers.Folder(t), "admin.token")
	writeFile(t, token, "of-the-admin\n")
	p := checkedProxy(t, auth.Socket, proxyOptions{Master: true, Backends: []backend{{"b1", dovecot.Addr}}, Linger: "1s", AdminToken: token, Further: recheckSoon})
	p.locksOut(t, token, func() {
		auth.Write(servers.PasswdLine(servers.User(1), rightPassword, "nologin") + servers.PasswdLine(servers.User(2), wideA))
	})
}

// Without a master the proxy logs in to the backend with the password that Dovecot gives, else with the client's.
func TestAuthDovecotWithoutAMaster(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	auth := servers.StartDovecotAuth(t, "plain", servers.PasswdLine(servers.User(1), rightPassword, "proxy=y", "host=127.0.0.1", "pass="+servers.Password, "backend=b1")+
		servers.PasswdLine(servers.User(2), servers.Password, "proxy=y", "host=127.0.0.1", "backend=b1"))
	p := checkedProxy(t, auth.Socket, proxyOptions{AsUser: true, Backends: []backend{{"b1", dovecot.Addr}}})
	imaptest.Dial(t, p.Plain).Login(servers.User(1), rightPassword)
	imaptest.Dial(t, p.Plain).Login(servers.User(2), servers.Password) // the client's own password is the backend's
	p.toldNoSecrets(t, servers.Password)
}

// check says what is wrong with the listener, and logins are UNAVAILABLE meanwhile.
func TestAuthDovecotMistakes(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	auth := servers.StartDovecotAuth(t, "login", checked())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, address, want string }{
		{"without PLAIN", auth.Socket, "add plain to Dovecot's auth_mechanisms"},
		{"a server of another protocol", dovecot.Addr, "correct address: a listener of service auth"},
		{"no socket", auth.Socket + ".none", "start Dovecot"},
		{"nothing listens", free, "start Dovecot"},
	} {
		p := checkedProxy(t, c.address, proxyOptions{Master: true, Backends: []backend{{"b1", dovecot.Addr}}})
		if out, well := p.check(); well || !strings.Contains(out, c.want) {
			t.Errorf("%s: check doesn't say %q:\n%s", c.what, c.want, out)
		}
		p.cell(t, "dovecot", "PLAIN", cell{c.what, servers.User(1), rightPassword, "UNAVAILABLE", "unavailable"}, mechanisms["PLAIN"])
		p.toldNoSecrets(t)
		p.Stop()
	}
}
