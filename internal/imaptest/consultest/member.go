package consultest

import (
	"fmt"
	"net/http"
	"syscall"
)

// Join runs a client agent of this server on free loopback ports, with a node of its own, waits until the
// node is in the catalogue, and ends it with the test.
func (a *Agent) Join(name string) *Agent {
	a.t.Helper()
	c := &Agent{t: a.t, binary: a.binary, name: name, node: nodeID(), token: a.token, client: newClient(), mode: []string{
		"-data-dir=" + a.t.TempDir(), // it keeps its services there
		fmt.Sprintf("-retry-join=127.0.0.1:%d", a.ports[1]), "-retry-interval=1s",
		`-hcl=gossip_lan { gossip_interval = "100ms", probe_interval = "100ms", probe_timeout = "100ms" }`,
	}}
	c.begin()
	return c
}

// Leave ends the process as a service manager does. A client leaves the others, and its node is taken out
// of the catalogue with all that is registered there.
func (a *Agent) Leave() {
	a.t.Helper()
	p := a.proc
	a.signal(syscall.SIGTERM)
	<-p.exited
	a.proc = nil
}

// Rename gives the node of an agent that doesn't run another name. It keeps its UUID.
func (a *Agent) Rename(name string) { a.name = name }

// Replace makes an agent that doesn't run another node's, with nothing registered. It keeps its address.
func (a *Agent) Replace(name string) {
	a.name, a.node, a.mode[0] = name, nodeID(), "-data-dir="+a.t.TempDir()
}

// Snapshot returns all of the servers' state.
func (a *Agent) Snapshot() string {
	a.t.Helper()
	all, err := a.do(http.MethodGet, "/v1/snapshot", nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}

// Restore puts a snapshot in place of the servers' state, with the indexes of that time.
func (a *Agent) Restore(snapshot string) {
	a.t.Helper()
	a.must(http.MethodPut, "/v1/snapshot", []byte(snapshot))
}
