package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Dovecot refuses a user with a reason of the administrator's, and one who has as many connections
// as are allowed: the client hears the same by way of the proxy as from Dovecot itself.
func TestWhatDovecotSaysOfAUserReachesTheClient(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	closed := filepath.Join(servers.Folder(t), "closed")
	writeFile(t, closed, "closed:pw::::::nologin=y reason=Closed_until_Monday\n")
	extra := "passdb {\n  driver = passwd-file\n  args = scheme=PLAIN username_format=%u " + closed + "\n}\n"
	if servers.DovecotRelease(t) != "2.3" {
		extra = "passdb closed {\n  driver = passwd-file\n  passwd_file_path = " + closed + "\n  default_password_scheme = PLAIN\n}\n"
	}
	server := servers.StartDovecot(t, servers.DovecotOptions{Extra: extra + "protocol imap {\n  mail_max_userip_connections = 1\n}\n"})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Stays: true})

	direct := imaptest.Dial(t, server.Addr).TryLogin("closed", "pw")
	proxied := imaptest.Dial(t, p.Plain).TryLogin("closed", "pw")
	if direct.OK() || !strings.Contains(direct.Tagged.Text, "Closed_until_Monday") {
		t.Fatalf("Dovecot itself says %s", direct)
	}
	if proxied.Tagged.Code() != direct.Tagged.Code() || !strings.Contains(proxied.Tagged.Text, "Closed_until_Monday") {
		t.Errorf("Dovecot says %s, the proxy %s", direct.Tagged, proxied.Tagged)
	}

	imaptest.Dial(t, p.Plain).Login(servers.User(1), servers.Password)
	second := imaptest.Dial(t, p.Plain).TryLogin(servers.User(1), servers.Password)
	if second.OK() || second.Tagged.Code() != "LIMIT" || !strings.Contains(second.Tagged.Text, "connections") {
		t.Errorf("at Dovecot's limit the proxy says %s", second.Tagged)
	}
	if a := imaptest.Dial(t, p.Plain).TryLogin(servers.User(1), "wrong"); a.Tagged.Code() != "AUTHENTICATIONFAILED" {
		t.Errorf("a wrong password: %s", a.Tagged)
	}
}

func TestCyrussLimitIsNoWrongPassword(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	server := servers.StartCyrusWith(t, servers.CyrusOptions{Settings: map[string]string{"maxlogins_per_user": "1"}, Users: 3})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}, Stays: true})
	first := imaptest.Dial(t, p.Plain)
	first.Login(servers.User(1), servers.Password)
	first.MustOK("SELECT INBOX") // with it Cyrus has written down who it is
	second := imaptest.Dial(t, p.Plain).TryLogin(servers.User(1), servers.Password)
	if second.OK() || second.Tagged.Code() != "LIMIT" {
		t.Errorf("at Cyrus's limit the proxy says %s; Cyrus itself %s", second.Tagged, imaptest.Dial(t, server.Addr).TryLogin(servers.User(1), servers.Password).Tagged)
	}
}
