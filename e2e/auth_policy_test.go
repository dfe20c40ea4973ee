package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// policyServer does what weakforced's documentation says of its commands: allow is answered with a status, report with "ok".
type policyServer struct {
	mu     sync.Mutex // guards what follows
	told   []policyRequest
	denied map[string]bool // users
}

// A policyRequest is a request to such a server.
type policyRequest struct {
	client, command string
	said            map[string]any
}

const policyHeader = "Basic d2ZvcmNlOnNlY3JldA=="

func (s *policyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	said := map[string]any{}
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil || r.Method != http.MethodPost || r.Header.Get("Authorization") != policyHeader || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "not one of ours", http.StatusUnauthorized)
		return
	}
	client, _, _ := strings.Cut(r.UserAgent(), "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	command := r.URL.Query().Get("command")
	s.told = append(s.told, policyRequest{client, command, said})
	switch login, _ := said["login"].(string); {
	case command == "report":
		fmt.Fprint(w, `{"status":"ok"}`)
	case s.denied[login]:
		fmt.Fprint(w, `{"status":-1,"msg":"diffFailedPasswords","r_attrs":{}}`)
	default:
		fmt.Fprint(w, `{"status":0,"msg":"","r_attrs":{}}`)
	}
}

// of returns what a client has told so far, in its order, once that has n requests.
func (s *policyServer) of(t *testing.T, client string, n int) (all []policyRequest) {
	t.Helper()
	imaptest.Eventually(t, fmt.Sprintf("%s tells %d times", client, n), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		all = slices.DeleteFunc(slices.Clone(s.told), func(r policyRequest) bool { return r.client != client })
		return len(all) >= n
	})
	return all
}

// Dovecot's own client and the proxy tell a policy server the same of the same logins, and do the same after its answers.
func TestDovecotAndWeTellAPolicyServerTheSame(t *testing.T) {
	t.Parallel()
	s := &policyServer{denied: map[string]bool{servers.User(3): true}}
	clear, secure := httptest.NewServer(s), httptest.NewTLSServer(s)
	t.Cleanup(clear.Close)
	t.Cleanup(secure.Close)
	const nonce = "nonce-of-the-fleet"
	extra := fmt.Sprintf("auth_policy_server_url = %s/\nauth_policy_server_api_header = Authorization: %s\nauth_policy_hash_nonce = %s\n", clear.URL, policyHeader, nonce)
	names := servers.DovecotRelease(t) == "2.3" // 2.4.1 sends an empty device_id
	if names {
		extra += "imap_id_retain = yes\n"
	}
	asks := servers.StartDovecot(t, servers.DovecotOptions{Extra: extra})
	folder := servers.Folder(t)
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		writeFile(t, path, text+"\n")
		return path
	}
	ca := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", servers.StartDovecot(t, servers.DovecotOptions{}).Addr}}, Further: fmt.Sprintf(
		"auth_policy {\n  server_url = \"%s/\"\n  ca_file = %q\n  server_api_header_file = %q\n  hash_nonce_file = %q\n}\n",
		secure.URL, ca, file("policy.header", "Authorization: "+policyHeader), file("policy.nonce", nonce))})

	n := map[string]int{}
	compared := 0
	for _, login := range []struct {
		what, user, password, code string
		told                       string
	}{
		{"right", servers.User(1), servers.Password, "", "allow allow report"},
		{"wrong", servers.User(1), "pw-Wrong", "AUTHENTICATIONFAILED", "allow report"},
		{"unknown", "nobody", "pw-Wrong", "AUTHENTICATIONFAILED", "allow report"},
		{"refused", servers.User(3), servers.Password, "", "allow report"},
		{"upper case", strings.ToUpper(servers.User(2)), servers.Password, "", "allow allow report"},
	} {
		for mechanism, by := range mechanisms {
			steps := strings.Fields(login.told)
			told := map[string][]policyRequest{}
			for client, addr := range map[string]string{"dovecot": asks.Addr, "imapproxy": p.Plain} {
				c := imaptest.Dial(t, addr)
				c.MustOK(`ID ("name" "Thunderbird" "version" "128.0")`)
				a := by(c, login.user, login.password)
				_ = c.Close()
				n[client] += len(steps)
				all := s.of(t, client, n[client])
				told[client] = all[n[client]-len(steps):]
				want := login.code == "" && login.what != "refused"
				if client == "imapproxy" && login.what == "refused" && a.Tagged.Code() != "AUTHENTICATIONFAILED" || a.OK() != want {
					t.Errorf("%s by %s at %s: %s", login.what, mechanism, client, a.Tagged)
				}
			}
			for i, step := range steps {
				dovecots, ours := told["dovecot"][i], told["imapproxy"][i]
				if dovecots.command != step || ours.command != step {
					t.Fatalf("%s by %s: step %d is %s and %s, want %s", login.what, mechanism, i, dovecots.command, ours.command, step)
				}
				for key, value := range ours.said {
					if key == "device_id" && !names {
						continue
					}
					if other, ok := dovecots.said[key]; !ok || key != "session_id" && other != value {
						t.Errorf("%s by %s, %s: %s is %v, Dovecot says %v", login.what, mechanism, step, key, value, other)
					}
					compared++
				}
				for key := range dovecots.said {
					if _, ok := ours.said[key]; !ok && key != "fail_type" { // 2.4 has it
						t.Errorf("%s by %s, %s: only Dovecot tells %s", login.what, mechanism, step, key)
					}
				}
			}
		}
	}
	if compared == 0 {
		t.Error("nothing was compared")
	}
	if out, well := p.check(); !well || !strings.Contains(out, "ok    auth_policy") {
		t.Errorf("imapproxy check:\n%s", out)
	}

	// Down: logins go on, and an operator is told; then well again.
	addr := secure.Listener.Addr().String()
	secure.CloseClientConnections()
	_ = secure.Listener.Close()
	for range 3 {
		c := imaptest.Dial(t, p.Plain)
		c.Login(servers.User(3), servers.Password)
		_ = c.Close()
	}
	var status struct {
		Problems []struct{ Kind, Text string }
	}
	if err := p.get("/v1/status", &status); err != nil || len(status.Problems) != 1 || status.Problems[0].Kind != "policy_silent" || !strings.Contains(status.Problems[0].Text, "logins go on without it") {
		t.Errorf("/v1/status: %+v, %v", status, err)
	}
	if out, well := p.check(); well || !strings.Contains(out, "start the policy server") {
		t.Errorf("imapproxy check of a server that is down:\n%s", out)
	}
	startAgain(t, addr, s)
	p.eventually(t, "the server is asked again", func() error {
		c := imaptest.Dial(t, p.Plain)
		defer c.Close()
		if a := c.TryLogin(servers.User(3), servers.Password); a.OK() {
			return fmt.Errorf("%s", a.Tagged)
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	secrets := []string{nonce, policyHeader}
	for _, r := range s.told {
		if hash, _ := r.said["pwhash"].(string); r.client == "imapproxy" && !slices.Contains(secrets, `"`+hash+`"`) {
			secrets = append(secrets, `"`+hash+`"`, "="+hash+" ")
		}
	}
	p.toldNoSecrets(t, secrets...)
}
