// Package consultest runs a real Consul agent for a test, and makes it fail as agents do: by restarts that
// lose all state, stops, and emptied catalogues.
//
// Nothing that ships may import it. It speaks HTTP to the agent by itself instead of
// through consul/api, which only routing/discovery uses.
//
// Imports none of our packages. Imported by the end-to-end tests and the tests of
// all packages.
package consultest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	startTimeout = 60 * time.Second // a busy machine with the race detector
	callTimeout  = 30 * time.Second
	startTries   = 3 // another process may take a port between choosing and binding
)

// Agent is a Consul agent on loopback. One that Start runs is in -dev mode: a server with its state in
// memory, gone when its process is. One that Join runs is a client with a folder. Its methods fail the test.
type Agent struct {
	t      testing.TB
	binary string
	log    string // file
	name   string // its node's
	node   string // its UUID
	client *http.Client
	mode   []string // the arguments that make it a server or a client
	token  string   // of the management, where there are ACLs; else ""
	ports  [3]int   // HTTP, Serf, RPC
	proc   *process
}

// process is one run of the agent.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed by the goroutine that waits for it
	err    error         // of Wait; read after exited
}

// Start runs an agent on free loopback ports, waits until it leads, and ends
// it (it alone) when the test does. The binary is CONSUL_BIN's, or the consul
// on PATH; without one the test fails: a skipped test proves nothing.
func Start(t testing.TB) *Agent {
	t.Helper()
	return start(t, "")
}

// StartWithACLs is Start with ACLs: a request without a token may do nothing. The Agent's own methods may do
// all; NewToken makes others.
func StartWithACLs(t testing.TB) *Agent {
	t.Helper()
	return start(t, nodeID())
}

func start(t testing.TB, token string) *Agent {
	t.Helper()
	binary, err := findBinary(os.Getenv("CONSUL_BIN"))
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{t: t, binary: binary, name: "dev1", node: nodeID(), token: token, client: newClient(), mode: []string{"-dev"}}
	a.begin()
	return a
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: callTimeout}
}

// begin starts the agent for the first time, on free ports.
func (a *Agent) begin() {
	a.t.Helper()
	log, err := os.CreateTemp(a.t.TempDir(), "consul-*.log")
	if err != nil {
		a.t.Fatal(err)
	}
	a.log = log.Name()
	log.Close()
	a.t.Cleanup(a.Kill)
	for try := 1; ; try++ {
		if a.ports, err = freePorts(); err == nil {
			err = a.run()
		}
		if err == nil {
			return
		}
		a.Kill()
		if try == startTries {
			a.t.Fatalf("consul doesn't start: %v\n%s", err, a.logTail())
		}
	}
}

// findBinary returns a consul that runs. configured is CONSUL_BIN's value.
func findBinary(configured string) (string, error) {
	binary := configured
	if binary == "" {
		found, err := exec.LookPath("consul")
		if err != nil {
			return "", errors.New("this test needs a real Consul: run ./test, which provides one, or put consul on PATH, or name it in CONSUL_BIN")
		}
		binary = found
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, binary, "version").CombinedOutput(); err != nil {
		if configured != "" {
			return "", fmt.Errorf("CONSUL_BIN is set, but %q doesn't run (%w: %s): unset it or name a working consul",
				configured, err, bytes.TrimSpace(out))
		}
		return "", fmt.Errorf("the consul on PATH, %s, doesn't run: %w: %s", binary, err, bytes.TrimSpace(out))
	}
	return binary, nil
}

// nodeID is a UUID such as a node keeps in its data directory: a dev agent has none, and would
// be another node at each start.
func nodeID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// NodeID is the UUID of the agent's node; it stays over restarts.
func (a *Agent) NodeID() string { return a.node }

// freePorts returns ports that were free a moment ago, for TCP and UDP.
func freePorts() (ports [3]int, err error) {
	for i := range ports {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return ports, err
		}
		defer tcp.Close() // all held until the end, so that they differ
		ports[i] = tcp.Addr().(*net.TCPAddr).Port
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			return ports, err
		}
		defer udp.Close()
	}
	return ports, nil
}

// run starts the process and waits until it has a leader and its own node.
func (a *Agent) run() error {
	log, err := os.OpenFile(a.log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"agent", "-node=" + a.name, "-bind=127.0.0.1", "-client=127.0.0.1",
		fmt.Sprintf("-http-port=%d", a.ports[0]), fmt.Sprintf("-serf-lan-port=%d", a.ports[1]),
		fmt.Sprintf("-server-port=%d", a.ports[2]), "-serf-wan-port=-1", "-dns-port=-1", "-grpc-port=-1",
		"-grpc-tls-port=-1", "-node-id=" + a.node, "-hcl=disable_update_check=true"}
	args = append(args, a.mode...)
	if a.token != "" {
		args = append(args, fmt.Sprintf(`-hcl=acl { enabled = true, default_policy = "deny", tokens { initial_management = %q, agent = %q } }`, a.token, a.token))
	}
	cmd := exec.Command(a.binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = endWithParent()
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	a.proc = p
	go func() { // ends with the process, which Kill ends and waits for
		p.err = cmd.Wait()
		close(p.exited)
	}()

	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-p.exited:
			return fmt.Errorf("the agent ended: %w", p.err)
		case <-deadline.C:
			return errors.New("no leader in time")
		case <-poll.C:
			leader, err1 := a.do(http.MethodGet, "/v1/status/leader", nil)
			nodes, err2 := a.do(http.MethodGet, "/v1/catalog/nodes", nil)
			if err1 == nil && err2 == nil && strings.Contains(leader, ":") && strings.Contains(nodes, `"`+a.name+`"`) {
				return nil
			}
		}
	}
}

// Address is the agent's HTTP address, host:port; it stays over restarts.
func (a *Agent) Address() string { return fmt.Sprintf("127.0.0.1:%d", a.ports[0]) }

// Stop freezes the agent (SIGSTOP): its sockets stay open, nothing answers.
func (a *Agent) Stop() {
	a.signal(syscall.SIGSTOP)
	for !stopped(a.proc.cmd.Process.Pid) {
		runtime.Gosched() // the kernel stops one thread after the other
	}
}

// stopped says whether all threads of a process are, as far as /proc tells.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range threads {
		stat, err := os.ReadFile(name)
		if i := bytes.LastIndexByte(stat, ')'); err == nil && i >= 0 && !bytes.HasPrefix(stat[i:], []byte(") T")) {
			return false
		}
	}
	return true
}

// Continue ends Stop.
func (a *Agent) Continue() { a.signal(syscall.SIGCONT) }

// Kill ends the agent's process at once, if it runs, and waits for its end.
func (a *Agent) Kill() {
	p := a.proc
	if p == nil {
		return
	}
	a.proc = nil
	_ = p.cmd.Process.Kill() // an error means that it has ended by itself
	<-p.exited
}

// Restart kills the agent and starts it on the same ports. As a dev agent
// keeps nothing, it has forgotten services and keys; its indexes start over.
func (a *Agent) Restart() {
	a.t.Helper()
	a.Kill()
	a.StartAgain()
}

// StartAgain starts a killed agent on the same ports.
func (a *Agent) StartAgain() {
	a.t.Helper()
	var err error
	for range startTries {
		if err = a.run(); err == nil {
			return
		}
		a.Kill()
	}
	a.t.Fatalf("consul doesn't start again: %v\n%s", err, a.logTail())
}

func (a *Agent) signal(s syscall.Signal) {
	a.t.Helper()
	if err := a.proc.cmd.Process.Signal(s); err != nil {
		a.t.Fatalf("%v to consul: %v", s, err)
	}
}

// do makes one request and returns the body of a 200.
func (a *Agent) do(method, path string, body []byte) (string, error) {
	req, err := http.NewRequest(method, "http://"+a.Address()+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if a.token != "" {
		req.Header.Set("X-Consul-Token", a.token)
	}
	res, err := a.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s: %s: %s", method, path, res.Status, bytes.TrimSpace(text))
	}
	return string(text), nil
}

// logTail is the end of what the agent logged.
func (a *Agent) logTail() string {
	text, err := os.ReadFile(a.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4096):])
}
