package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/internal/imaptest/consultest"
)

// hasStayed checks that a user has never had a connection at any other backend.
func (r *referee) hasStayed(user, backend string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if all := r.made[user]; len(all) != 1 || all[backend] == 0 {
		r.t.Errorf("%s was to stay at %s, and had connections at %v", user, backend, all)
	}
}

// stableIDs are the backends' IDs, by the names that are shown.
func (k *agreeing) stableIDs(p *runningProxy) map[string]string {
	k.several.t.Helper()
	var all struct {
		Backends []struct {
			ID       string
			StableID string `json:"stable_id"`
			State    string
		}
	}
	if err := json.Unmarshal([]byte(k.must(p, "backends", "--json")), &all); err != nil {
		k.several.t.Fatal(err)
	}
	ids := map[string]string{}
	for _, b := range all.Backends {
		if b.State == "up" {
			ids[b.ID] = b.StableID
		}
	}
	return ids
}

// shows waits until all proxies have these backends up, and returns their IDs.
func (k *agreeing) shows(names ...string) (ids map[string]string) {
	t := k.several.t
	t.Helper()
	for _, p := range k.proxies {
		p.eventually(t, "shows "+strings.Join(names, " and "), func() error {
			ids = k.stableIDs(p)
			for _, name := range names {
				if ids[name] == "" {
					return fmt.Errorf("up are %v", ids)
				}
			}
			return nil
		})
	}
	return ids
}

// The machine of a backend gets another name: its agent leaves, and comes back under that name with the node's UUID. The backend keeps its ID and
// its users, with their sessions, also where two machines' backends have the same service ID.
func TestAMachineGetsAnotherName(t *testing.T) {
	t.Parallel()
	k := newAgreeing(t, "20m")
	agents := map[string]*consultest.Agent{}
	for _, node := range []string{"n1", "n2"} {
		agents[node] = k.consul.Join(node)
		_, port, _ := strings.Cut(k.addBackend(node), ":")
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		agents[node].Register(consultest.Service{ID: "mail", Name: service, Port: number, Check: &consultest.Check{TTL: "30m", Status: "passing"}})
	}
	for range 2 {
		k.proxies = append(k.proxies, k.startWith("", proxyOptions{Consul: k.consul.Address(), Routing: "flap_damp = \"0s\"\nfailover_after = \"10m\""}))
	}
	k.agreed()
	before := k.shows("mail@n1", "mail@n2")
	first, second := k.proxies[0], k.proxies[1]
	user := k.usersAt(first, "n1", 1)[0]
	quiet, idles := login(t, first, user), login(t, second, user)
	done := idles.Idle()
	k.isAt(first, user, "n1")

	agents["n1"].Leave()
	for _, p := range k.proxies {
		p.eventually(t, "without the backend", func() error {
			if up := k.stableIDs(p); len(up) != 1 {
				return fmt.Errorf("up are %v", up)
			}
			return nil
		})
	}
	quiet.MustOK("NOOP")
	agents["n1"].Rename("renamed")
	agents["n1"].StartAgain()
	agents["n1"].TTL("service:mail", "passing") // the agent begins with critical

	after := k.shows("mail@renamed", "mail@n2")
	if after["mail@renamed"] != before["mail@n1"] || after["mail@n2"] != before["mail@n2"] {
		t.Errorf("the backends' IDs were %v, and are %v", before, after)
	}
	k.agreed()
	if a := done(); !a.OK() {
		t.Errorf("DONE: %s", a.Tagged)
	}
	for _, c := range []*imaptest.Client{quiet, idles} {
		c.MustOK("FETCH 1 (FLAGS)")
	}
	k.hasStayed(user, "n1")
	if out := k.must(first, "user", user); !strings.Contains(out, "mail@renamed") || strings.Contains(out, "mail@n1") {
		t.Errorf("user says\n%s", out)
	}
}

// A proxy's agent leaves, which ends the proxy's session in Consul, and another node's agent takes its place at the same address. No client notices,
// logins go on meanwhile, and what Consul says then is followed.
func TestAProxysAgentIsReplaced(t *testing.T) {
	t.Parallel()
	k := newAgreeing(t, "20m")
	agents := []*consultest.Agent{k.consul.Join("p1"), k.consul.Join("p2")}
	for _, id := range []string{"d1", "d2"} {
		registerBackend(t, k.consul, id, k.addBackend(id))
	}
	for _, a := range agents {
		k.proxies = append(k.proxies, k.startWith("", proxyOptions{Consul: a.Address(), Routing: "flap_damp = \"0s\"\nfailover_after = \"1s\""}))
	}
	k.agreed()
	first, second := k.proxies[0], k.proxies[1]
	users := k.usersAt(first, "d1", 2)
	quiet, idles := login(t, first, users[0]), login(t, second, users[0])
	done := idles.Idle()

	agents[0].Leave()
	quiet.MustOK("NOOP")
	login(t, first, users[1]).MustOK("LOGOUT")
	agents[0].Replace("another")
	agents[0].StartAgain()
	k.agreed()
	quiet.MustOK("NOOP")
	if a := done(); !a.OK() {
		t.Errorf("DONE: %s", a.Tagged)
	}
	k.hasStayed(users[0], "d1")
	k.followsMaintenance(users[0], quiet, idles)
}

// Consul is restored from a snapshot, so that its indexes go back. No client notices, the proxies agree again, and what Consul says then
// is followed.
func TestConsulIsRestored(t *testing.T) {
	t.Parallel()
	k := startAgreeing(t, 2, 2, "")
	first, second := k.proxies[0], k.proxies[1]
	user := k.usersAt(first, "d1", 1)[0]
	quiet, idles := login(t, first, user), login(t, second, user)
	done := idles.Idle()
	snapshot, was := k.consul.Snapshot(), k.index()
	for _, state := range []string{"critical", "passing"} { // a fleet each
		k.consul.TTL("service:d2", state)
		for _, p := range k.proxies {
			p.eventually(t, "aware that d2 is "+state, func() error {
				if up := len(k.stableIDs(p)); (up == 2) != (state == "passing") {
					return fmt.Errorf("%d are up", up)
				}
				return nil
			})
		}
	}
	k.agreed()
	high := k.index()
	k.consul.Restore(snapshot)
	if is := k.index(); high <= was || is >= high {
		t.Errorf("Consul's index was %d, then %d, and is %d", was, high, is)
	}
	quiet.MustOK("NOOP")
	noticed := map[*runningProxy]bool{}
	first.eventually(t, "aware of it with the other", func() error {
		for _, p := range k.proxies {
			noticed[p] = noticed[p] || k.agreement(p).State != "joined"
		}
		if !noticed[first] || !noticed[second] {
			return fmt.Errorf("%v", noticed)
		}
		return nil
	})
	k.agreed()
	quiet.MustOK("NOOP")
	if a := done(); !a.OK() {
		t.Errorf("DONE: %s", a.Tagged)
	}
	k.hasStayed(user, "d1")
	k.followsMaintenance(user, quiet, idles)
}

// index is Consul's, of the backends.
func (k *agreeing) index() uint64 {
	k.several.t.Helper()
	n, err := k.consul.Index("/v1/health/service/" + service)
	if err != nil {
		k.several.t.Fatal(err)
	}
	return n
}

// followsMaintenance puts d1 into maintenance: a user who is there goes to d2 with their sessions.
func (k *agreeing) followsMaintenance(user string, sessions ...*imaptest.Client) {
	t := k.several.t
	t.Helper()
	k.isAt(k.proxies[0], user, "d1")
	k.consul.Maintain("d1", "kernel")
	k.isAt(k.proxies[0], user, "d2")
	for _, c := range sessions {
		c.MustOK("FETCH 1 (FLAGS)")
	}
	if at := k.backendOf(user); at != "d2" {
		t.Errorf("the user is at %q", at)
	}
}
