package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// tokenProvider makes tokens, publishes its keys, and says which of its tokens are active.
type tokenProvider struct {
	*httptest.Server
	key *ecdsa.PrivateKey

	mu      sync.Mutex // guards what follows
	revoked map[string]bool
	hang    chan struct{} // requests wait until it is closed; nil: they don't
}

const providerSecret = "of-the-provider"

func startProvider(t *testing.T) *tokenProvider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &tokenProvider{key: key, revoked: map[string]bool{}}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *tokenProvider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	hang := p.hang
	p.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer = map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys"}
	case "/keys":
		answer = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}}
	case "/introspect":
		if _, secret, _ := r.BasicAuth(); secret != providerSecret {
			http.Error(w, "not one of ours", http.StatusUnauthorized)
			return
		}
		said := map[string]any{}
		token, err := jwt.ParseSigned(r.PostFormValue("token"), []jose.SignatureAlgorithm{jose.ES256})
		p.mu.Lock()
		if err == nil && token.Claims(p.key.Public(), &said) == nil && !p.revoked[r.PostFormValue("token")] {
			said["active"] = true
		} else {
			said = map[string]any{"active": false}
		}
		p.mu.Unlock()
		answer = said
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// token makes one for a user, which expires so long after now.
func (p *tokenProvider) token(t *testing.T, user, audience string, in time.Duration, groups ...string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": p.URL, "aud": audience, "preferred_username": user, "exp": time.Now().Add(in).Unix(), "jti": rand.Text(), "groups": groups,
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// oauthSource is an auth "oauth" of the provider, in HCL: settings are further ones of it.
func oauthSource(t *testing.T, p *tokenProvider, settings, timeout string) string {
	t.Helper()
	folder := servers.Folder(t)
	ca, secret := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "oauth.secret")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
	writeFile(t, secret, providerSecret+"\n")
	if strings.Contains(settings, "introspection_url") {
		settings += fmt.Sprintf("\n  client_id = \"imapproxy\"\n  client_secret_file = %q\n  cache_for = \"0s\"", secret)
	}
	return fmt.Sprintf("auth \"oauth\" {\n  %s\n  ca_file = %q\n  audience = [\"imap\"]\n  user_claim = \"preferred_username\"\n  timeout = %q\n}\n", settings, ca, timeout)
}

// tokenMechanisms are the ways to log in with a token. A challenge is answered as clients do.
var tokenMechanisms = map[string]func(c *imaptest.Client, user, token string) imaptest.Answer{
	"OAUTHBEARER": func(c *imaptest.Client, user, token string) imaptest.Answer {
		return sendToken(c, "OAUTHBEARER", "n,a="+user+",\x01auth=Bearer "+token+"\x01\x01", "AQ==")
	},
	"XOAUTH2": func(c *imaptest.Client, user, token string) imaptest.Answer {
		return sendToken(c, "XOAUTH2", "user="+user+"\x01auth=Bearer "+token+"\x01\x01", "")
	},
}

func sendToken(c *imaptest.Client, mechanism, message, dummy string) imaptest.Answer {
	c.Write("x AUTHENTICATE " + mechanism + " " + base64.StdEncoding.EncodeToString([]byte(message)))
	r := c.Read()
	if r.Tag() == "+" {
		c.Write(dummy)
		r = c.Read()
	}
	return imaptest.Answer{Tagged: r}
}

func TestAuthOAuth(t *testing.T) {
	t.Parallel()
	dovecot := servers.StartDovecot(t, servers.DovecotOptions{})
	for name, settings := range map[string]string{
		"signed":       "issuer = %q",
		"introspected": "issuer = %[1]q\n  introspection_url = \"%[1]s/introspect\"",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			provider := startProvider(t)
			p := startProxy(t, proxyOptions{
				Backends: []backend{{"b1", dovecot.Addr}}, Master: true,
				Further: oauthSource(t, provider, fmt.Sprintf(settings, provider.URL), "1s") + "auth \"backend\" {}\n",
			})
			user, hour := servers.User(1), time.Hour
			good := provider.token(t, user, "imap", hour)
			long := provider.token(t, user, "imap", hour, strings.Repeat("groups.", 1500)) // of 14 KB
			told := []string{good[len(good)-40:], long[len(long)-40:], providerSecret}
			cells := []cell{
				{"right", user, good, "", ""},
				{"right, for another user", servers.User(2), good, "AUTHENTICATIONFAILED", "bad_token"},
				{"for another service", user, provider.token(t, user, "calendar", hour), "AUTHENTICATIONFAILED", "bad_token"},
				{"expired", user, provider.token(t, user, "imap", -hour), "AUTHENTICATIONFAILED", "expired_token"},
				{"forged", user, good[:len(good)-10] + "AAAAAAAAAA", "AUTHENTICATIONFAILED", "bad_token"},
				{"opaque", user, "2YotnFZFEjr1zCsicMWpAA", "AUTHENTICATIONFAILED", "bad_token"},
				{"injection", user, good + "\x01auth=Bearer " + good, "AUTHENTICATIONFAILED", "malformed"},
				{"NUL", user, good + "\x00", "AUTHENTICATIONFAILED", "malformed"},
				{"8-bit", user, good + "\xfc", "AUTHENTICATIONFAILED", "malformed"},
				{"empty", user, "", "AUTHENTICATIONFAILED", "malformed"},
				{"line break", user, good + "\r\nx", "AUTHENTICATIONFAILED", "malformed"},
				{"injection by the name", "x\"}{\"active\":true}", good, "AUTHENTICATIONFAILED", "bad_token"},
				{"unknown", "nobody", good, "AUTHENTICATIONFAILED", "bad_token"},
				{"long, right", user, long, "", ""},
				{"long, forged", user, long[:len(long)-10] + "AAAAAAAAAA", "AUTHENTICATIONFAILED", "bad_token"},
			}
			for mechanism, login := range tokenMechanisms {
				for _, c := range cells {
					p.cell(t, "oauth", mechanism, c, login)
				}
			}
			// A password isn't a token, and no other way.
			p.cell(t, "backend", "PLAIN", cell{"a token as a password", user, good, "AUTHENTICATIONFAILED", "backend_refused"}, mechanisms["PLAIN"])
			p.tooLong(t)
			for mechanism := range tokenMechanisms {
				c := imaptest.Dial(t, p.Plain)
				_ = c.Send("x AUTHENTICATE " + mechanism + " " + strings.Repeat("QUFB", 1<<18)) // the proxy hangs up meanwhile
				if said := c.ExpectEOF(); !slices.ContainsFunc(said, func(r imaptest.Response) bool { return strings.Contains(r.Text, "BYE [TOOBIG]") }) {
					t.Errorf("1 MB by %s: %v", mechanism, said)
				}
			}

			// curl, under TLS.
			for _, mechanism := range []string{"OAUTHBEARER", "XOAUTH2"} {
				args := []string{"--silent", "--show-error", "--cacert", p.Cert.CertFile, "--user", user + ":", "--login-options", "AUTH=" + mechanism, "imaps://localhost:" + port(p.TLS) + "/INBOX", "--request", "NOOP"}
				client(t, t.TempDir(), "curl", append(args, "--oauth2-bearer", good)...)
				wrong := exec.Command("curl", append(args, "--oauth2-bearer", "wrong")...)
				if err := wrong.Run(); wrong.ProcessState.ExitCode() != 67 { // login denied
					t.Errorf("curl with a wrong token by %s: %v", mechanism, err)
				}
			}
			if out, well := p.check(); !well {
				t.Errorf("imapproxy check:\n%s", out)
			}

			switch name {
			case "introspected":
				revoked := provider.token(t, user, "imap", hour)
				p.cell(t, "oauth", "XOAUTH2", cell{"right", user, revoked, "", ""}, tokenMechanisms["XOAUTH2"])
				provider.set(func() { provider.revoked[revoked] = true })
				p.cell(t, "oauth", "XOAUTH2", cell{"revoked", user, revoked, "AUTHENTICATIONFAILED", "bad_token"}, tokenMechanisms["XOAUTH2"])
				hang := make(chan struct{})
				provider.set(func() { provider.hang = hang })
				away := cell{"hangs", user, good, "UNAVAILABLE", "unavailable"}
				p.cell(t, "oauth", "XOAUTH2", away, tokenMechanisms["XOAUTH2"])
				provider.set(func() { provider.hang = nil })
				close(hang)
				p.cell(t, "oauth", "XOAUTH2", cell{"well again", user, good, "", ""}, tokenMechanisms["XOAUTH2"])
				addr := provider.Listener.Addr().String()
				provider.CloseClientConnections()
				_ = provider.Listener.Close()
				p.cell(t, "oauth", "OAUTHBEARER", away, tokenMechanisms["OAUTHBEARER"])
				startAgain(t, addr, http.HandlerFunc(provider.serve))
				p.cell(t, "oauth", "OAUTHBEARER", cell{"restarted", user, good, "", ""}, tokenMechanisms["OAUTHBEARER"])
			case "signed":
				provider.CloseClientConnections()
				_ = provider.Listener.Close()
				p.cell(t, "oauth", "XOAUTH2", cell{"down, by known keys", user, good, "", ""}, tokenMechanisms["XOAUTH2"])
				if out, well := p.check(); well || !strings.Contains(out, "start the provider") {
					t.Errorf("imapproxy check of a provider that is down:\n%s", out)
				}
			}
			p.toldNoSecrets(t, told...)
		})
	}
}

func (p *tokenProvider) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// startAgain starts a server under TLS at the address of an earlier one.
func startAgain(t *testing.T, addr string, h http.Handler) {
	t.Helper()
	again := httptest.NewUnstartedServer(h)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Listener.Close()
	again.Listener = l
	again.StartTLS()
	t.Cleanup(again.Close)
}
