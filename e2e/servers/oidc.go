package servers

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// OIDCSecret is the secret of an OpenID provider's clients.
const OIDCSecret = "pw-Client.1"

// The clients of an OpenID provider: the tokens of the first say nothing by themselves, those of the second are JSON Web Tokens whose "sub" is the user.
const (
	OIDCOpaque = "mail"
	OIDCSigned = "mail-signed"
)

// OIDC is a running OpenID provider: zitadel/oidc's example server, with the users of all servers and their passwords.
type OIDC struct {
	*Process
	URL, Issuer string // the same provider without TLS, and with it
	Cert        Certificate
}

// StartOIDC runs an OpenID provider. An access token lives for five minutes, and until its refresh token is used.
func StartOIDC(t testing.TB) *OIDC {
	t.Helper()
	Real(t)
	bin := os.Getenv("OIDC_BIN")
	if bin == "" {
		t.Fatal("OIDC_BIN isn't set: ./test builds the provider and sets it")
	}
	dir := Folder(t)
	plain, _ := FreeAddr(t)
	secure, port := FreeAddr(t)
	p := &OIDC{URL: "http://" + plain, Issuer: "https://localhost:" + port, Cert: newCertificate(t, dir)}
	users := map[string]map[string]any{}
	for i := 1; i <= Users; i++ {
		users[User(i)] = map[string]any{"ID": User(i), "Username": User(i), "Password": Password, "Email": User(i) + "@example.org", "EmailVerified": true}
	}
	all, err := json.Marshal(users)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "users.json")
	write(t, file, string(all))
	p.Process = Start(t, "oidc", exec.Command(bin, "-http", plain, "-https", secure, "-issuer", p.Issuer, "-cert", p.Cert.CertFile, "-key", p.Cert.KeyFile, "-users", file, "-secret", OIDCSecret, "-redirect", p.URL+"/back"))
	p.WaitAccepts("tcp", plain)
	p.WaitAccepts("tcp", secure)
	return p
}

// Tokens logs a user in at the provider as a browser does, and exchanges the code for the client's tokens.
func (p *OIDC) Tokens(t testing.TB, client, user string) (access, refresh string) {
	t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	goes := func(where string, form url.Values) *url.URL {
		t.Helper()
		to, err := url.Parse(p.URL)
		if err != nil {
			t.Fatal(err)
		}
		if to, err = to.Parse(where); err != nil {
			t.Fatal(err)
		}
		var r *http.Response
		if form == nil {
			r, err = browser.Get(to.String())
		} else {
			r, err = browser.PostForm(to.String(), form)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		next, err := r.Location()
		if err != nil {
			body, _ := io.ReadAll(r.Body) // it is only shown
			t.Fatalf("%s: %s, %v: %.500s", where, r.Status, err, body)
		}
		return next
	}
	back := p.URL + "/back"
	form := goes("/auth?"+url.Values{"client_id": {client}, "redirect_uri": {back}, "response_type": {"code"}, "scope": {"openid profile email offline_access"}, "state": {"s"}}.Encode(), nil)
	end := goes(form.RequestURI(), url.Values{"id": {form.Query().Get("authRequestID")}, "username": {user}, "password": {Password}})
	code := goes(end.RequestURI(), nil).Query().Get("code")
	return p.token(t, client, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {back}})
}

// token asks the provider's token endpoint.
func (p *OIDC) token(t testing.TB, client string, form url.Values) (access, refresh string) {
	t.Helper()
	var answer struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	body := p.post(t, client, "/oauth/token", form)
	if err := json.Unmarshal(body, &answer); err != nil || answer.Access == "" || answer.Refresh == "" {
		t.Fatalf("the provider gives no tokens: %v, %s", err, body)
	}
	return answer.Access, answer.Refresh
}

// Revoke has the provider revoke a client's token.
func (p *OIDC) Revoke(t testing.TB, client, token string) {
	t.Helper()
	p.post(t, client, "/revoke", url.Values{"token": {token}})
}

func (p *OIDC) post(t testing.TB, client, path string, form url.Values) []byte {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, p.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(client, OIDCSecret)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", path, answer.Status, err, body)
	}
	return body
}

// TokenRequest is the URL at which clients get tokens, with the client's name and secret in it.
func (p *OIDC) TokenRequest(client string) string {
	return strings.Replace(p.URL, "://", fmt.Sprintf("://%s:%s@", client, OIDCSecret), 1) + "/oauth/token"
}
