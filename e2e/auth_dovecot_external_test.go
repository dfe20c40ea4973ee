package e2e

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A Dovecot's auth process says which users may log in by certificates, with their names and backends there.
func TestAuthDovecotByCertificates(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	folder := servers.Folder(t)
	ca := imaptest.NewCA(t, "users")
	caFile := filepath.Join(folder, "ca.pem")
	writeFile(t, caFile, string(ca.CertPEM))
	cert := servers.NewCertificate(t)
	address, _ := servers.FreeAddr(t)
	entry := func(user string, fields string) string { return user + ":::::::nopassword " + fields + "\n" }
	auth := servers.StartDovecotAuth(t, "plain external\nauth_ssl_username_from_cert = yes", entry(servers.User(1), "")+entry("alias", "user="+servers.User(2))+entry(servers.User(3), "nologin")+servers.PasswdLine(servers.User(4), rightPassword))
	p := checkedProxy(t, auth.Socket, proxyOptions{Master: true, Backends: []backend{{"b1", dovecot.Addr}}, Further: certListener(address, cert, caFile, "common_name")})
	for _, c := range []struct{ user, code, reason string }{
		{servers.User(1), "", ""}, {"alias", "", ""},
		{servers.User(3), "AUTHENTICATIONFAILED", "account_disabled"},
		{servers.User(4), "AUTHENTICATIONFAILED", "unknown_user"}, // has a password, which isn't asked for
		{"nobody", "AUTHENTICATIONFAILED", "unknown_user"},
	} {
		config := cert.Client.Clone()
		config.Certificates = []tls.Certificate{newUserCert(t, ca, c.user).Certificate}
		n, in := p.failures(t, c.reason), p.counted(t, "dovecot", "EXTERNAL", "ok")
		client := imaptest.DialTLS(t, address, config)
		a := client.Cmd("AUTHENTICATE EXTERNAL =")
		_ = client.Close()
		switch {
		case a.OK() != (c.code == ""), c.code != "" && a.Tagged.Code() != c.code:
			t.Errorf("%s: %s", c.user, a.Tagged)
		case c.code == "" && p.counted(t, "dovecot", "EXTERNAL", "ok") != in+1, c.code != "" && p.failures(t, c.reason) != n+1:
			t.Errorf("%s isn't counted", c.user)
		}
	}
	for user, says := range map[string]string{
		servers.User(1): "dovecot lets " + servers.User(1) + " in by a certificate", servers.User(4): "dovecot lets " + servers.User(4) + " in by no certificate: unknown_user",
	} {
		if out, well := p.check("--user", user); !well || !strings.Contains(out, says) || !strings.Contains(out, "takes names from certificates (EXTERNAL), and refuses that of a user that doesn't exist") {
			t.Errorf("imapproxy check --user %s doesn't say %q:\n%s", user, says, out)
		}
	}
	text, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	for settings, says := range map[string]string{
		"plain":          "-> add external to Dovecot's auth_mechanisms",
		"plain external": "-> write auth_ssl_username_from_cert = yes in Dovecot's configuration",
	} {
		other := servers.StartDovecotAuth(t, settings, entry(servers.User(1), ""))
		writeFile(t, p.Config, strings.Replace(string(text), auth.Socket, other.Socket, 1))
		if out, well := p.check(); well || !strings.Contains(out, says) {
			t.Errorf("imapproxy check of a Dovecot with %q:\n%s", settings, out)
		}
	}
	auth.Stop()
	config := cert.Client.Clone()
	config.Certificates = []tls.Certificate{newUserCert(t, ca, servers.User(1)).Certificate}
	if a := imaptest.DialTLS(t, address, config).Cmd("AUTHENTICATE EXTERNAL ="); a.Tagged.Code() != "UNAVAILABLE" {
		t.Errorf("while it is down: %s", a.Tagged)
	}
}
