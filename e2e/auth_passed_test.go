package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// takesTokens is a Dovecot's configuration for the tokens of a provider, which it asks about each.
func takesTokens(t *testing.T, p *tokenProvider) string {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(p.serve)) // what is between Dovecot and the provider isn't ours
	t.Cleanup(web.Close)
	return asksAt(t, "http://dovecot:"+providerSecret+"@"+web.Listener.Addr().String()+"/introspect")
}

// asksAt is the configuration of a Dovecot that asks about tokens at a URL.
func asksAt(t *testing.T, url string) string {
	t.Helper()
	settings := fmt.Sprintf("introspection_url = %s\nintrospection_mode = post\nusername_attribute = preferred_username\nactive_attribute = active\nactive_value = true\n"+
		"openid_configuration_url = https://id.example.org/.well-known/openid-configuration\n", url)
	if servers.DovecotRelease(t) == "2.4" {
		return "auth_mechanisms {\n  oauthbearer = yes\n  xoauth2 = yes\n}\noauth2 {\n" + settings + "}\n"
	}
	path := filepath.Join(servers.Folder(t), "oauth2.conf")
	writeFile(t, path, settings)
	return "auth_mechanisms = $auth_mechanisms oauthbearer xoauth2\npassdb {\n  driver = oauth2\n  mechanisms = oauthbearer xoauth2\n  args = " + path + "\n}\n"
}

// challenged logs in with a token, and returns the challenge, "" if there is none, and the answer.
func challenged(t *testing.T, addr, mechanism, user, token string) (challenge string, answer imaptest.Response) {
	t.Helper()
	c := imaptest.Dial(t, addr)
	defer c.Close()
	message, dummy := "n,a="+user+",\x01auth=Bearer "+token+"\x01\x01", "AQ=="
	if mechanism == "XOAUTH2" {
		message, dummy = "user="+user+"\x01auth=Bearer "+token+"\x01\x01", ""
	}
	c.Write("x AUTHENTICATE " + mechanism)
	c.Expect("+{*}")
	c.Write(base64Of(message))
	r := c.Read()
	if r.Tag() == "+" {
		challenge = r.Text
		c.Write(dummy)
		r = c.Read()
	}
	return challenge, r
}

// Real Dovecot checks the tokens that the proxy passes on; what it says of a bad one reaches the client as it is.
func TestTokensArePassedOnToDovecot(t *testing.T) {
	t.Parallel()
	provider := startProvider(t)
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{Extra: takesTokens(t, provider)})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, AsUser: true, Linger: "1s", Further: "auth \"backend\" {\n  mechanisms = [\"OAUTHBEARER\", \"XOAUTH2\"]\n}\n"})
	user, hour := servers.User(1), time.Hour
	good := provider.token(t, user, "imap", hour)
	long := provider.token(t, user, strings.Repeat("imap.", 800), hour) // of 5.5 KB
	revoked := provider.token(t, user, "imap", hour)
	provider.set(func() { provider.revoked[revoked] = true })
	for mechanism, login := range tokenMechanisms {
		for _, c := range []cell{
			{"right", user, good, "", ""},
			{"right, upper case", strings.ToUpper(user), good, "", ""},
			{"right, long", user, long, "", ""},
			{"right, for another user", servers.User(2), good, "AUTHENTICATIONFAILED", "backend_refused"},
			{"revoked", user, revoked, "AUTHENTICATIONFAILED", "backend_refused"},
			{"forged", user, good[:len(good)-10] + "AAAAAAAAAA", "AUTHENTICATIONFAILED", "backend_refused"},
			{"opaque", user, "2YotnFZFEjr1zCsicMWpAA", "AUTHENTICATIONFAILED", "backend_refused"},
			{"forged, and over", user, provider.token(t, user, "imap", -hour) + "AAAA", "AUTHENTICATIONFAILED", "expired_token"},
			{"too long", user, strings.Repeat("A", 16<<10), "AUTHENTICATIONFAILED", "backend_refused"},
			{"NUL", user, good + "\x00", "AUTHENTICATIONFAILED", "malformed"},
			{"injection", user, good + "\x01auth=Bearer " + good, "AUTHENTICATIONFAILED", "malformed"},
			{"empty", user, "", "AUTHENTICATIONFAILED", "malformed"},
		} {
			p.cell(t, "backend", mechanism, c, login)
		}
		direct, _ := challenged(t, dovecot.Addr, mechanism, user, revoked)
		passed, answer := challenged(t, p.Plain, mechanism, user, revoked)
		if direct == "" || passed != direct || answer.Code() != "AUTHENTICATIONFAILED" {
			t.Errorf("by %s Dovecot challenges with %q, the proxy with %q, then %s", mechanism, direct, passed, answer)
		}
		client(t, t.TempDir(), "curl", "--silent", "--show-error", "--cacert", p.Cert.CertFile, "--user", user+":", "--login-options", "AUTH="+mechanism, "imaps://localhost:"+port(p.TLS)+"/INBOX", "--request", "NOOP", "--oauth2-bearer", good)
		wrong := exec.Command("curl", "--silent", "--cacert", p.Cert.CertFile, "--user", user+":", "--login-options", "AUTH="+mechanism, "imaps://localhost:"+port(p.TLS)+"/INBOX", "--request", "NOOP", "--oauth2-bearer", "wrong")
		if err := wrong.Run(); wrong.ProcessState.ExitCode() != 67 { // login denied
			t.Errorf("curl with a wrong token by %s: %v", mechanism, err)
		}
	}
	p.cell(t, "backend", "PLAIN", cell{"a password", user, servers.Password, "", ""}, mechanisms["PLAIN"])
	p.cell(t, "backend", "PLAIN", cell{"a token as a password", user, revoked, "AUTHENTICATIONFAILED", "backend_refused"}, mechanisms["PLAIN"])
	if out, well := p.check(); !well {
		t.Errorf("imapproxy check:\n%s", out)
	}
	none := startProxy(t, proxyOptions{Backends: []backend{{"b1", servers.StartDovecot(t, servers.DovecotOptions{}).Addr}}, AsUser: true, Further: "auth \"backend\" {\n  mechanisms = [\"XOAUTH2\"]\n}\n"})
	if out, well := none.check(); well || !strings.Contains(out, "doesn't offer AUTH=XOAUTH2") {
		t.Errorf("imapproxy check of a backend without tokens:\n%s", out)
	}
	p.toldNoSecrets(t, good[len(good)-40:], long[len(long)-40:], revoked[len(revoked)-40:], providerSecret)
}

// Sessions with tokens of their clients' at the backend: parked while the token is good for long, attached otherwise; after a loss they log in
// with the token again, as long as the backend takes it.
func TestSessionsWithPassedTokens(t *testing.T) {
	t.Parallel()
	provider := startProvider(t)
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{Extra: takesTokens(t, provider)})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", dovecot.Addr}}, AsUser: true, Linger: "1s", Further: "auth \"backend\" {\n  mechanisms = [\"OAUTHBEARER\"]\n}\n"})
	state := func(user, what string) {
		t.Helper()
		p.eventually(t, user+" is "+what, func() error {
			var page struct {
				Sessions []struct {
					Attachment string
					NotParked  string `json:"not_parked"`
				}
			}
			if err := p.get("/v1/sessions?user="+user, &page); err != nil || len(page.Sessions) != 1 {
				return fmt.Errorf("%+v, %w", page, err)
			}
			if s := page.Sessions[0]; strings.TrimSpace(s.Attachment+" "+s.NotParked) != what {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	}
	tokens, clients := map[string]string{}, map[string]*imaptest.Client{}
	for user, in := range map[string]time.Duration{servers.User(1): time.Hour, servers.User(2): 5 * time.Minute} {
		tokens[user] = provider.token(t, user, "imap", in)
		c := imaptest.Dial(t, p.Plain)
		c.Write("x AUTHENTICATE OAUTHBEARER " + base64Of("n,a="+user+",\x01auth=Bearer "+tokens[user]+"\x01\x01"))
		if r := c.Read(); r.Status() != "OK" {
			t.Fatalf("%s", r)
		}
		c.MustOK("SELECT INBOX")
		c.Write("i IDLE")
		c.Expect("+{*}")
		clients[user] = c
	}
	state(servers.User(1), "parked")
	state(servers.User(2), "attached token")
	for _, c := range clients {
		c.Write("DONE")
		c.Expect("i OK{*}")
	}
	clients[servers.User(1)].MustOK("STATUS Sent (MESSAGES)") // resumes
	dovecot.Process.Stop()
	dovecot.StartAgain(t)
	for _, c := range clients {
		c.MustOK("STATUS Sent (MESSAGES)")
	}
	provider.set(func() { provider.revoked[tokens[servers.User(2)]] = true })
	dovecot.Process.Stop()
	dovecot.StartAgain(t)
	clients[servers.User(1)].MustOK("STATUS Sent (MESSAGES)")
	p.eventually(t, "the session with the revoked token has ended", func() error {
		if n := p.metric(t, "imapproxy_sessions_closed_total", `reason="credentials"`); n != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	for _, token := range tokens {
		p.toldNoSecrets(t, token[len(token)-40:])
	}
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
