package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"imapproxy/e2e/servers"
)

// proxyOptions are the settings in which the proxies of the tests differ. The zero
// value of a field is the ordinary thing.
type proxyOptions struct {
	Backends   []backend // static discovery
	Consul     string    // or the agent's address
	Service    string    // in Consul
	ConsulACL  string    // the file with a token for it; "" = none
	Master     bool      // backend_login mode master
	PasswdFile string    // auth "passwd_file", before auth "backend"
	AsUser     bool      // neither a master nor auth "backend": Further has the sources
	Storage    string    // "" = shared
	BackendTLS string    // "" = none
	BackendCA  string
	SendProxy  string // "" = none
	Compress   bool   // clients are offered COMPRESS
	Stays      bool   // sessions keep their backend connections
	Routing    string // further lines of routing
	Limits     string // further lines of limits
	Linger     string // before a session is parked; "" = the default
	AdminToken string // the file with it
	Sources    string // source_addresses, in HCL; "" = none
	Shutdown   string // further lines of shutdown
	Telemetry  string // further lines of telemetry
	LogFile    string // "" = standard error
	Further    string // blocks, in HCL
	Delay      string // auth_failure_delay; "" = 100ms
	Guesses    bool   // wrong passwords from 127.0.0.0/8 delay further logins
	Patient    bool   // logins wait for sources for 30 s in place of a second
	Hasty      bool   // logins wait for backends for a second
}

// timeout is that of a source on another machine.
func (o proxyOptions) timeout() string {
	if o.Patient {
		return "30s"
	}
	return "1s"
}

// withoutParking has every proxy here keep sessions attached, if it is set.
const withoutParking = "E2E_WITHOUT_PARKING"

// A backend is one of static discovery's.
type backend struct {
	ID, Address string
}

// A runningProxy is an imapproxy serve.
type runningProxy struct {
	*servers.Process
	Plain    string // in clear, LOGIN allowed
	StartTLS string
	TLS      string
	Admin    string // http://…
	Cert     servers.Certificate
	Config   string // the file
}

const proxyConfig = `
hostname = "imap.test"
listener "plain" {
  address        = "{{.Plain}}"
  tls            = "none"
  cleartext_from = ["127.0.0.0/8"]
  compress       = {{.Compress}}
}
listener "imap" {
  address = "{{.StartTLS}}"
  tls     = "starttls"
  compress = {{.Compress}}
  certificate {
    cert_file = "{{.Cert.CertFile}}"
    key_file  = "{{.Cert.KeyFile}}"
  }
}
listener "imaps" {
  address = "{{.TLS}}"
  tls     = "implicit"
  compress = {{.Compress}}
  certificate {
    cert_file = "{{.Cert.CertFile}}"
    key_file  = "{{.Cert.KeyFile}}"
  }
}
{{with .PasswdFile}}
auth "passwd_file" {
  path = "{{.}}"
}
{{end}}
{{if .Master}}
backend_login {
  mode          = "master"
  username      = "{{.MasterUser}}"
  password_file = "{{.MasterFile}}"
}
{{else if not .AsUser}}
auth "backend" {}
backend_login {
  mode = "user"
}
{{end}}
backend_defaults {
  tls = "{{or .BackendTLS "none"}}"
  send_proxy = "{{or .SendProxy "none"}}"
{{if .Hasty}}
  connect_timeout = "1s"
  login_timeout   = "1s"
{{end}}
{{with .Sources}}
  source_addresses = {{.}}
{{end}}
{{with .BackendCA}}
  ca_file     = "{{.}}"
  server_name = "localhost"
{{end}}
}
{{if .Consul}}
discovery "consul" {
  address = "{{.Consul}}"
  service = "{{.Service}}"
{{with .ConsulACL}}
  token_file = "{{.}}"
{{end}}
}
{{else}}
discovery "static" {
{{range .Backends}}
  backend "{{.ID}}" {
    address = "{{.Address}}"
  }
{{end}}
  probe {
    interval = "200ms"
    timeout  = "200ms"
    rise     = 1
  }
}
{{end}}
routing {
  storage = "{{or .Storage "shared"}}"
  {{.Routing}}
}
limits {
  auth_failure_delay = "{{or .Delay "100ms"}}"
{{if not .Guesses}}
  guess_trusted = ["127.0.0.0/8"]
{{end}}
  {{.Limits}}
}
telemetry {
  log {
    level = "debug"
{{with .LogFile}}
    file = "{{.}}"
{{end}}
  }
  {{.Telemetry}}
}
admin {
  address = "{{.AdminAddress}}"
{{with .AdminToken}}
  token_file = "{{.}}"
{{end}}
}
shutdown {
  drain = "1s"
  {{.Shutdown}}
}
{{if .Stays}}
park {
  enabled = false
}
{{else}}{{with .Linger}}
park {
  linger = "{{.}}"
}
{{end}}{{end}}
{{.Further}}
`

// startProxy runs imapproxy serve and waits until it is ready.
func startProxy(t testing.TB, o proxyOptions) *runningProxy {
	t.Helper()
	p := configureProxy(t, o)
	p.Process = servers.Start(t, "imapproxy", p.serveCommand())
	p.waitReady(t)
	return p
}

// configureProxy writes the configuration of a proxy that doesn't run yet.
func configureProxy(t testing.TB, o proxyOptions) *runningProxy {
	t.Helper()
	servers.Real(t)
	dir := servers.Folder(t)
	p := &runningProxy{Config: filepath.Join(dir, "config.hcl"), Cert: servers.NewCertificate(t)}
	p.Plain, _ = servers.FreeAddr(t)
	p.StartTLS, _ = servers.FreeAddr(t)
	p.TLS, _ = servers.FreeAddr(t)
	admin, _ := servers.FreeAddr(t)
	p.Admin = "http://" + admin
	master := filepath.Join(dir, "master.password")
	writeFile(t, master, servers.MasterPassword+"\n")
	o.Stays = o.Stays || os.Getenv(withoutParking) != ""
	var conf strings.Builder
	err := template.Must(template.New("config").Parse(proxyConfig)).Execute(&conf, struct {
		*runningProxy
		proxyOptions
		AdminAddress, MasterUser, MasterFile string
	}{p, o, admin, servers.MasterUser, master})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, p.Config, conf.String())
	return p
}

// serveCommand is one that serves the proxy's configuration.
func (p *runningProxy) serveCommand() *exec.Cmd {
	cmd := exec.Command(os.Getenv(proxyBinary), "serve", "--config", p.Config)
	// A race that the detector sees ends the process, and so the test.
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	return cmd
}

// waitReady asks /readyz until it says yes.
func (p *runningProxy) waitReady(t testing.TB) {
	t.Helper()
	p.eventually(t, "ready", func() error {
		resp, err := http.Get(p.Admin + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(resp.Body)
			return fmt.Errorf("/readyz: %s: %s", resp.Status, body)
		}
		return nil
	})
}

// eventually tries until there's no error, the proxy has ended or a minute is over.
func (p *runningProxy) eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-p.Done():
			t.Fatalf("the proxy ended before it was %s (%v)", what, err)
		case <-ctx.Done():
			t.Fatalf("not %s in a minute: %v", what, err)
		case <-time.After(20 * time.Millisecond): // between two tries
		}
	}
}

// get reads JSON from the admin API.
func (p *runningProxy) get(path string, into any) error {
	resp, err := http.Get(p.Admin + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w in %s", path, err, body)
	}
	return nil
}

// command runs another verb of the command against this proxy, e.g. "status".
func (p *runningProxy) command(t testing.TB, args ...string) string {
	t.Helper()
	args = append(args, "--admin", strings.TrimPrefix(p.Admin, "http://"))
	out, err := exec.Command(os.Getenv(proxyBinary), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("imapproxy %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// signal sends the proxy a signal.
func (p *runningProxy) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.Pid(), s); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
