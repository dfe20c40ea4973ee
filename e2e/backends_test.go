package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
	"imapproxy/internal/imaptest"
)

// documented is a block of docs/backends.md.
func documented(t testing.TB, name string) string {
	t.Helper()
	return documentedIn(t, "backends.md", name)
}

// documentedIn is a block of a page of docs/, without the indentation that it has in a list.
func documentedIn(t testing.TB, page, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?ms)^( *)```" + regexp.QuoteMeta(name) + "\n(.*?)^ *```$").FindSubmatch(text)
	if m == nil {
		t.Fatalf("docs/%s has no block %s", page, name)
	}
	return strings.ReplaceAll("\n"+string(m[2]), "\n"+string(m[1]), "\n")[1:]
}

// eventsToken is the token of the backends' events.
const eventsToken = "0123456789abcdef0123"

// eventsAddress takes events; each one's is told to the channel.
func eventsAddress(t testing.TB) (url string, came <-chan string) {
	t.Helper()
	authorized := make(chan string, 64)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case authorized <- r.Header.Get("Authorization"):
		default: // more than the test asks for
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/v1/events", authorized
}

// docDovecot is an untouched Dovecot with what the page tells its operators to add, and the
// paths and addresses of a test in the place of those of the page.
func docDovecot(t testing.TB, events string) *servers.Server {
	t.Helper()
	dir := servers.Folder(t)
	lua, err := os.ReadFile(filepath.Join("..", "contrib", "dovecot", "push.lua"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "push.lua"), string(lua))
	writeFile(t, filepath.Join(dir, "imapproxy.token"), eventsToken+"\n")
	writeFile(t, filepath.Join(dir, "imapproxy.masters"), "imapproxy:{PLAIN}"+servers.MasterPassword+"\n")
	for _, f := range []string{"push.lua", "imapproxy.token", "imapproxy.masters"} {
		if err := os.Chmod(filepath.Join(dir, f), 0o644); err != nil { // Dovecot's processes are other users'
			t.Fatal(err)
		}
	}
	release := servers.DovecotRelease(t)
	ours := strings.NewReplacer(
		"10.0.0.5 10.0.0.6", "127.0.0.1", "http://10.0.0.5:8143/v1/events http://10.0.0.6:8143/v1/events", events,
		"/etc/dovecot/", dir+"/",
	)
	return servers.StartDovecot(t, servers.DovecotOptions{
		Stock: true, Extra: ours.Replace(documented(t, "dovecot-"+release) + documented(t, "dovecot-"+release+"-push")),
	})
}

// docCyrus is an untouched Cyrus with what the page says.
func docCyrus(t testing.TB, events string) *servers.Server {
	t.Helper()
	dir := servers.Folder(t)
	notify := filepath.Join(dir, "imapproxy-notify")
	script, err := os.ReadFile(filepath.Join("..", "contrib", "cyrus", "notify"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(notify, script, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(notify+".d", 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(notify+".d", "proxy.conf")
	if err := os.WriteFile(conf, []byte("url = \""+events+"\"\nheader = \"Authorization: Bearer "+eventsToken+"\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(documented(t, "cyrus-imapd")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("cyrus-imapd: %q", line)
		}
		settings[name] = value
	}
	settings["proxyservers"] += " " + servers.MasterUser
	settings["notify_external"] = notify
	services := documented(t, "cyrus-services")
	m := regexp.MustCompile(`(?m)^imap cmd="imapd( .*?)" .* maxchild=(\d+)$`).FindStringSubmatch(services)
	if m == nil || !strings.Contains(services, "\nnotify cmd=") || !strings.Contains(documented(t, "cyrus-daemon"), `idled cmd="idled"`) {
		t.Fatalf("cyrus-services: %s", services)
	}
	maxChild, err := strconv.Atoi(m[2])
	if err != nil {
		t.Fatal(err)
	}
	return servers.StartCyrusWith(t, servers.CyrusOptions{Users: 3, Stock: true, Settings: settings, Notify: notify, Flags: m[1], MaxChild: maxChild})
}

// The configurations of docs/backends.md, each added to a server with its distribution's limits:
// check finds nothing to mend, and a change is told by an event.
func TestBackendsAsDocumented(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	for _, c := range []struct {
		name   string
		start  func(testing.TB, string) *servers.Server
		master string
		says   []string
	}{
		{"dovecot", docDovecot, "imapproxy", []string{"it takes the clients' addresses from this proxy"}},
		{"cyrus", docCyrus, servers.MasterUser, []string{"a Cyrus sees all clients at the proxy's address"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url, came := eventsAddress(t)
			s := c.start(t, url)
			out, well := checkOf(t, s, c.master)
			for _, want := range append(c.says, "a login as "+c.master+" yields the intended user", "All is well.") {
				if !strings.Contains(out, want) {
					t.Errorf("doesn't say %q", want)
				}
			}
			if !well || t.Failed() {
				t.Errorf("imapproxy check:\n%s", out)
			}
			client := imaptest.Dial(t, s.Addr)
			client.Login(s.User(2), servers.Password)
			client.Literal("APPEND INBOX ", message("told"), "")
			select {
			case got := <-came:
				if got != "Bearer "+eventsToken {
					t.Errorf("an event came with %q", got)
				}
			case <-time.After(20 * time.Second):
				t.Error("no event has come")
			}
		})
	}
}

// A Dovecot that was told nothing of the proxy takes all users for one address: check
// says so, and what to write for this release, with the address that it has to be.
func TestCheckFindsADovecotThatDoesntTrustTheProxy(t *testing.T) {
	t.Parallel()
	s := servers.StartDovecot(t, servers.DovecotOptions{Stock: true})
	out, well := checkOf(t, s, servers.MasterUser)
	wants := []string{"warn  trust b1", "login_trusted_networks = 127.0.0.1 (", "mail_max_userip_connections = 50"}
	if servers.DovecotRelease(t) == "2.4" {
		wants = append(wants, "restart_request_count = unlimited", "acl_user = %{user}", "with ssl = required")
	} else {
		wants = append(wants, "service_count = 0", "plugin { acl_user = %u }")
	}
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("doesn't say %q", want)
		}
	}
	if !well || t.Failed() {
		t.Errorf("imapproxy check:\n%s", out)
	}
}

// A Cyrus from 3.10 on offers no STARTTLS by itself; check names the setting.
func TestCheckOfABackendWithoutStartTLS(t *testing.T) {
	t.Parallel()
	s := servers.StartCyrusWith(t, servers.CyrusOptions{Users: 1, Settings: map[string]string{"allowstarttls": "no", "tls_server_cert": "disabled", "tls_server_key": "disabled"}})
	p := checkConfig(t, s, servers.MasterUser)
	text, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, p.Config, strings.Replace(string(text), `tls = "none"`, `tls = "starttls"`, 1))
	if out, well := p.check(); well || !strings.Contains(out, "allowstarttls: yes") {
		t.Errorf("imapproxy check:\n%s", out)
	}
}

// checkOf runs imapproxy check on one backend with a master login, as its first user.
func checkOf(t testing.TB, s *servers.Server, master string) (out string, well bool) {
	t.Helper()
	return checkConfig(t, s, master).check("--user", s.User(1))
}

// checkConfig is a configuration for check alone: no proxy runs.
func checkConfig(t testing.TB, s *servers.Server, master string) *runningProxy {
	t.Helper()
	dir := servers.Folder(t)
	for name, text := range map[string]string{"password": servers.MasterPassword, "users": s.User(1) + ":{PLAIN}" + userPassword} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "config.hcl")
	writeFile(t, config, `
hostname = "localhost"
listener "plain" {
  address        = "127.0.0.1:0"
  tls            = "none"
  cleartext_from = ["127.0.0.0/8"]
}
auth "passwd_file" {
  path = "`+dir+`/users"
}
backend_login {
  mode          = "master"
  username      = "`+master+`"
  password_file = "`+dir+`/password"
}
backend_defaults {
  tls = "none"
}
discovery "static" {
  backend "b1" {
    address = "`+s.Addr+`"
  }
}
routing {
  storage = "shared"
}
`)
	return &runningProxy{Config: config}
}
