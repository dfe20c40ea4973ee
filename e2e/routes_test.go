package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// A user's POP3, through nginx's mail proxy, and the LMTP that Postfix is told of go to the backend of the user's IMAP sessions.
func TestOtherProtocolsGoToTheBackendOfIMAP(t *testing.T) {
	t.Parallel()
	mail := servers.DovecotMail(t)
	backends, at := map[string]*servers.Server{}, []backend{}
	for i, id := range []string{"b1", "b2"} {
		host := fmt.Sprintf("127.0.77.%d", i+1)
		_, lmtp := servers.FreeAddr(t) // with it the server takes names with a domain
		backends[id] = servers.StartDovecot(t, servers.DovecotOptions{Name: id, Mail: mail, Host: host, POP3Port: "1110", LMTPPort: lmtp})
		at = append(at, backend{id, backends[id].Addr})
	}
	dir := servers.Folder(t)
	token := filepath.Join(dir, "admin.token")
	writeFile(t, token, "of-the-admin\n")
	postfixFolder(t, dir)
	lookups, port := servers.FreeAddr(t)
	p := startProxy(t, proxyOptions{Backends: at, AdminToken: token, Further: fmt.Sprintf(`
users {
  default_domain = "example.org"
}
route {
  address   = %q
  domains   = ["example.org"]
  pop3_port = 1110
  lmtp_port = 2424
  sieve_port = 4191
  delimiter = "-"
  ttl       = "1s"
}
`, lookups)})
	nginx := servers.StartNginxFor(t, "pop3", strings.TrimPrefix(p.Admin, "http://")+"/v1/route/nginx", `Authorization "Bearer of-the-admin"`)

	seen := map[string]bool{}
	for i := 1; i <= 6; i++ {
		user := servers.User(i)
		c := imaptest.Dial(t, p.Plain)
		c.Login(user, servers.Password)
		c.MustOK("SELECT INBOX")
		r := p.route(t, user)
		if all := p.sessionsOf(t, token, user+"@example.org"); len(all) != 1 {
			t.Fatalf("%s has the sessions %v", user, all)
		}
		b := backends[r.Backend]
		if b == nil || r.User != user+"@example.org" || r.Host+":143" != b.Addr || r.Ports["pop3"] != 1110 || r.Ports["sieve"] != 4191 || r.TTLSeconds != 1 {
			t.Fatalf("%s: %+v", user, r)
		}
		pop3(t, nginx, user, servers.Password)
		logins := regexp.MustCompile(`(?s)imap-login: Info: Log(in|ged in): user=<` + user + `>.*pop3-login: Info: Log(in|ged in): user=<` + user + `>`)
		p.eventually(t, "both logins in the backend's log", func() error {
			if log := readFile(t, b.Log); !logins.MatchString(log) {
				return fmt.Errorf("%s at %s: %s", user, r.Backend, log)
			}
			return nil
		})
		transport := fmt.Sprintf("lmtp:inet:[%s]:2424", r.Host)
		for _, table := range []string{"tcp:127.0.0.1:" + port, "socketmap:inet:127.0.0.1:" + port + ":transport"} {
			keys := map[string]string{user + "@example.org": transport}
			if i == 1 {
				keys = map[string]string{
					strings.ToUpper(user) + "@Example.ORG": transport, user + "-news@example.org": transport,
					"example.org": "", user + "@example.com": "", user: "", "*": "",
				}
			}
			for key, want := range keys {
				if got := postmap(t, dir, table, key); got != want {
					t.Errorf("Postfix is told %q of %s by %s, want %q", got, key, table, want)
				}
			}
		}
		seen[r.Backend] = true
	}
	if len(seen) != 2 {
		t.Errorf("all users are at the same backend: %v", seen)
	}
	for header, want := range map[string]int{"": http.StatusUnauthorized, "Bearer wrong": http.StatusUnauthorized, "Bearer of-the-admin": http.StatusOK} {
		req, _ := http.NewRequest(http.MethodGet, p.Admin+"/v1/route?user=alice", nil)
		req.Header.Set("Authorization", header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("with %q: %s", header, resp.Status)
		}
	}
}

type routeAnswer struct {
	User, Backend, Host string
	Ports               map[string]int
	TTLSeconds          float64 `json:"ttl_seconds"`
}

// route asks the admin API for a user's route.
func (p *runningProxy) route(t *testing.T, user string) (r routeAnswer) {
	t.Helper()
	req, _ := http.NewRequest(http.MethodGet, p.Admin+"/v1/route?user="+user, nil)
	req.Header.Set("Authorization", "Bearer of-the-admin")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// pop3 logs in and out.
func pop3(t *testing.T, addr, user, password string) {
	t.Helper()
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, say := range []string{"", "USER " + user, "PASS " + password, "STAT", "QUIT"} {
		if say != "" {
			if err := c.PrintfLine("%s", say); err != nil {
				t.Fatal(err)
			}
		}
		if line, err := c.ReadLine(); err != nil || !strings.HasPrefix(line, "+OK") {
			t.Fatalf("behind %q: %q %v", say, line, err)
		}
	}
}

// postfixFolder makes a folder one that Postfix's programs take for that of their configuration.
func postfixFolder(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "main.cf")
	writeFile(t, file, "compatibility_level = 3.6\nmyhostname = localhost\n")
	old := time.Now().Add(-time.Hour) // Postfix waits for a file that has just been written
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
}

// postmap asks a table as Postfix does; "": the key isn't found.
func postmap(t *testing.T, dir, table, key string) string {
	t.Helper()
	cmd := exec.Command("postmap", "-c", dir, "-q", key, table)
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) > 0 {
		t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return strings.TrimSpace(string(out))
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
