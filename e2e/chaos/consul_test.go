package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapproxy/e2e/servers"
)

const datacenter = "chaos"

// An agent is a Consul agent on a machine: a server, or a client of the servers.
type agent struct {
	*servers.Process
	t      testing.TB
	on     *machine
	server bool
	args   []string
}

// startAgent runs an agent that joins the servers at these addresses.
func startAgent(t testing.TB, on *machine, server bool, all ...string) *agent {
	t.Helper()
	settings := map[string]any{
		"node_name": on.name, "datacenter": datacenter, "data_dir": filepath.Join(servers.Folder(t), "data"),
		"bind_addr": on.addr, "client_addr": "0.0.0.0", "disable_host_node_id": true, "disable_update_check": true, "retry_join": all,
		"retry_interval": "1s", "ports": map[string]int{"dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
		"performance": map[string]int{"raft_multiplier": 1}, "enable_script_checks": false, "log_level": "warn",
		"limits": map[string]int{"http_max_conns_per_client": 1000},
	}
	if server {
		settings["server"], settings["bootstrap_expect"] = true, len(all)
	}
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(servers.Folder(t), "consul.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, on: on, server: server, args: []string{"agent", "-config-file=" + file}}
	a.start()
	return a
}

func (a *agent) start() {
	a.t.Helper()
	binary := os.Getenv("CONSUL_BIN")
	if binary == "" {
		var err error
		if binary, err = exec.LookPath("consul"); err != nil {
			a.t.Fatal(err)
		}
	}
	a.Process = servers.Start(a.t, "consul at "+a.on.name, a.on.command(binary, a.args...))
}

// A request to Consul takes so long at most.
var consulClient = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (a *agent) do(method, path string, body any) (string, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return "", err
		}
	}
	r, err := http.NewRequest(method, "http://"+a.on.addr+":8500"+path, bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	resp, err := consulClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("%s %s at %s: %s: %s", method, path, a.on.name, resp.Status, answer)
	}
	return string(answer), nil
}

// put makes a change, again until Consul takes it.
func (a *agent) put(path string, body any) {
	a.t.Helper()
	eventually(a.t, path, func() error {
		_, err := a.do(http.MethodPut, path, body)
		return err
	})
}

// leader is the server that leads, as one of the servers says.
func (l *lab) leader() (*agent, error) {
	var last error
	for _, s := range l.servers {
		answer, err := s.do(http.MethodGet, "/v1/status/leader", nil)
		if err != nil {
			last = err
			continue
		}
		for _, s := range l.servers {
			if strings.HasPrefix(strings.Trim(answer, "\"\n"), s.on.addr+":") {
				return s, nil
			}
		}
		last = fmt.Errorf("the leader is %s", answer)
	}
	return nil, last
}
