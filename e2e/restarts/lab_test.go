package restarts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

// patience is how long a part may take to do what it is asked to, on a busy machine.
const patience = 2 * time.Minute

var errNotYet = errors.New("not yet")

// eventually tries until there is no error.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	for late := time.Now().Add(patience); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("not in %v: %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond) // between two tries
	}
}

// run runs a command and fails the test when it fails.
func run(t testing.TB, input, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// proxy is an imapproxy serve in front of some servers.
type proxy struct {
	*servers.Process
	addr   string // in the clear
	tls    string // implicit TLS
	cert   servers.Certificate
	admin  string
	config string
	logs   []string // of the servers behind it
}

// adminToken is what /debug/pprof asks for.
const adminToken = "the-token-of-the-restarts-tests"

const proxyConfig = `
hostname = "imap.test"
listener "plain" {
  address        = "%s"
  tls            = "none"
  cleartext_from = ["127.0.0.0/8"]
  compress       = true
}
listener "tls" {
  address  = "%s"
  tls      = "implicit"
  compress = true
  certificate {
    cert_file = "%s"
    key_file  = "%s"
  }
}
auth "backend" {}
backend_login {
  mode = "user"
}
discovery "static" {
%s
  probe {
    interval = "500ms"
    timeout  = "3s"
    rise     = 1
  }
}
routing {
  storage = "shared"
}
park {
  linger = "%s"
}
telemetry {
  log {
    level = "%s"
  }
}
admin {
  address    = "%s"
  token_file = "%s"
}
shutdown {
  drain = "1s"
}
`

func startProxy(t testing.TB, backends ...*servers.Server) *proxy {
	t.Helper()
	p := configure(t, backends...)
	p.serve(t)
	return p
}

// configure writes the configuration of a proxy that doesn't run yet.
func configure(t testing.TB, backends ...*servers.Server) *proxy {
	t.Helper()
	p := &proxy{}
	p.addr, _ = servers.FreeAddr(t)
	p.tls, _ = servers.FreeAddr(t)
	p.cert = servers.NewCertificate(t)
	admin, _ := servers.FreeAddr(t)
	p.admin = "http://" + admin
	var all strings.Builder
	for i, s := range backends {
		fmt.Fprintf(&all, "  backend \"b%d\" {\n    address = \"%s\"\n  }\n", i+1, s.Addr)
		if s.Log != "" {
			p.logs = append(p.logs, s.Log)
		}
	}
	level, linger := "debug", "1s"
	if long() {
		level, linger = "info", "10s" // longer than its clients think
	}
	p.config = filepath.Join(servers.Folder(t), "config.hcl")
	token := filepath.Join(filepath.Dir(p.config), "token")
	for path, text := range map[string]string{p.config: fmt.Sprintf(proxyConfig, p.addr, p.tls, p.cert.CertFile, p.cert.KeyFile, all.String(), linger, level, admin, token), token: adminToken + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// serve starts the proxy and waits until it is ready.
func (p *proxy) serve(t testing.TB) {
	t.Helper()
	cmd := exec.Command(os.Getenv(servers.ProxyBinary), "serve", "--config", p.config)
	// A race that the detector sees ends the process, and so the test.
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	p.Process = servers.Start(t, "imapproxy", cmd)
	eventually(t, "the proxy is ready", func() error { _, err := p.get("/readyz"); return err })
}

// ways are how the i-th client connects: in the clear and under TLS, without and with COMPRESS, and with the extensions that change what it is told.
func (p *proxy) ways(i int) (how way) {
	if i%2 == 1 {
		how.tls = p.cert.Client
	}
	how.compress = i%4 >= 2
	how.enable = []string{"", "QRESYNC", "CONDSTORE", ""}[i%5%4]
	return how
}

func (p *proxy) get(path string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, p.admin+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}

// metric sums a metric's values over all label sets that contain the labels.
func (p *proxy) metric(t testing.TB, name string, labels ...string) (sum float64) {
	t.Helper()
	page, err := p.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(page) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		fits := strings.HasPrefix(series, name+"{")
		for _, label := range labels {
			fits = fits && strings.Contains(series, label)
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && fits {
			sum += v
		}
	}
	return sum
}

// drops has the firewall drop all packets to and from a server, without an answer, until heal is called.
func drops(t testing.TB, s *servers.Server) (heal func()) { return firewall(t, s, "drop") }

// resets has the firewall answer each packet to and from a server by a reset.
func resets(t testing.TB, s *servers.Server) (heal func()) {
	return firewall(t, s, "reject with tcp reset")
}

func firewall(t testing.TB, s *servers.Server, verdict string) (heal func()) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	run(t, fmt.Sprintf("table ip port%[1]s {\n chain in {\n type filter hook input priority 0;\n tcp flags rst accept\n tcp dport %[1]s %[2]s\n tcp sport %[1]s %[2]s\n }\n}\n", port, verdict), "nft", "-f", "-")
	return func() { run(t, "", "nft", "delete", "table", "ip", "port"+port) }
}

// children finds the processes that one has started; name is their program's, "" all.
func children(t testing.TB, parent int, name string) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		pid, rest, _ := bytes.Cut(b, []byte(" ("))
		program, rest, _ := bytes.Cut(rest, []byte(") "))
		f := bytes.Fields(rest)
		if len(f) < 2 || name != "" && string(program) != name || string(f[1]) != strconv.Itoa(parent) {
			continue
		}
		n, err := strconv.Atoi(string(pid))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}
	return pids
}
