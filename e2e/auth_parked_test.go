package e2e

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// Users who log in without a password, by a token that the proxy checks, SCRAM or a certificate, have sessions as good as others': parked while they idle, told of new
// mail, and at work again after their server has been restarted.
func TestSessionsWithoutAPasswordAreParked(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	provider := startProvider(t)
	folder := servers.Folder(t)
	ca, cert := imaptest.NewCA(t, "users"), servers.NewCertificate(t)
	caFile, users, secret := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "users"), filepath.Join(folder, "scram.secret")
	writeFile(t, caFile, string(ca.CertPEM))
	writeFile(t, users, servers.User(2)+":"+scramKeys(t, "SCRAM-SHA-256", rightPassword, "doveadm", "pw", "-s", "SCRAM-SHA-256", "-p")+"\n"+servers.User(3)+":"+bcryptOfRight+"\n")
	writeFile(t, secret, "of-the-proxies-0123456789abcdefghij\n")
	address, _ := servers.FreeAddr(t)
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, Master: true, Linger: "1s", Further: oauthSource(t, provider, fmt.Sprintf("issuer = %q", provider.URL), "10s") + fmt.Sprintf(`
users {
  scram_secret_file = %q
}
auth "passwd_file" {
  path  = %q
  scram = ["SCRAM-SHA-256"]
}
`, secret, users) + certListener(address, cert, caFile, "common_name")})
	byToken, byScram := imaptest.Dial(t, p.Plain), imaptest.Dial(t, p.Plain)
	config := cert.Client.Clone()
	config.Certificates = []tls.Certificate{newUserCert(t, ca, servers.User(3)).Certificate}
	byCert := imaptest.DialTLS(t, address, config)
	answers := []imaptest.Answer{
		tokenMechanisms["OAUTHBEARER"](byToken, servers.User(1), provider.token(t, servers.User(1), "imap", time.Hour)),
		scramLogin(byScram, servers.User(2), rightPassword),
		byCert.Cmd("AUTHENTICATE EXTERNAL ="),
	}
	clients := []*imaptest.Client{byToken, byScram, byCert}
	for i, c := range clients {
		if !answers[i].OK() {
			t.Fatal(answers[i].Tagged)
		}
		c.MustOK("SELECT INBOX")
		c.Write("i IDLE")
		c.Expect("+{*}")
	}
	p.eventually(t, "three parked sessions", func() error {
		var page struct {
			Sessions []struct {
				User, Attachment string
				NotParked        string `json:"not_parked"`
			}
		}
		if err := p.get("/v1/sessions", &page); err != nil {
			return err
		}
		for _, s := range page.Sessions {
			if s.Attachment != "parked" {
				return fmt.Errorf("%+v", s)
			}
		}
		if len(page.Sessions) != len(clients) {
			return fmt.Errorf("%+v", page)
		}
		return nil
	})
	dovecot.Process.Stop()
	dovecot.StartAgain(t)
	for i, c := range clients {
		own := imaptest.Dial(t, dovecot.Addr)
		own.Login(servers.User(i+1), servers.Password)
		own.Literal("APPEND INBOX ", message("new"), "")
		if r := behindAlive(c); !strings.HasSuffix(r.Text, "1 EXISTS") {
			t.Errorf("%s hears %s", servers.User(i+1), r)
		}
		c.Write("DONE")
		for r := c.Read(); r.Tag() != "i"; r = c.Read() { // RECENT
			if r.Status() == "BYE" {
				t.Fatal(r)
			}
		}
		c.MustOK("FETCH 1 (FLAGS)")
	}
	p.toldNoSecrets(t)
}
