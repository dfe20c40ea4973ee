package discovery

import (
	"testing"

	"github.com/hashicorp/consul/api"

	"imapproxy/routing"
)

func TestChecksBecomeStates(t *testing.T) {
	check := func(id, status string) *api.HealthCheck {
		return &api.HealthCheck{CheckID: id, Name: id, Status: status}
	}
	var (
		passing     = check("tcp", "passing")
		warning     = check("load", "warning")
		critical    = check("tcp", "critical")
		serf        = check("serfHealth", "critical")
		service     = check("_service_maintenance:b1", "critical")
		node        = check("_node_maintenance", "critical")
		typed       = &api.HealthCheck{CheckID: "renamed", Type: "maintenance", Status: "critical", Notes: "disks"}
		unknownWord = check("x", "splendid")
	)
	for name, test := range map[string]struct {
		checks  api.HealthChecks
		state   routing.State
		warning bool
		reason  string
	}{
		"no checks":                 {nil, routing.Up, false, ""},
		"passing":                   {api.HealthChecks{passing}, routing.Up, false, ""},
		"a warning":                 {api.HealthChecks{passing, warning}, routing.Up, true, `check "load" is a warning`},
		"critical":                  {api.HealthChecks{warning, critical}, routing.Down, false, `check "tcp" is critical`},
		"the node is gone":          {api.HealthChecks{passing, serf}, routing.Down, false, `check "serfHealth" is critical`},
		"the first of two":          {api.HealthChecks{critical, serf}, routing.Down, false, `check "serfHealth" is critical`},
		"maintenance":               {api.HealthChecks{passing, service}, routing.Draining, false, "maintenance"},
		"maintenance of the node":   {api.HealthChecks{node, passing}, routing.Draining, false, "maintenance"},
		"maintenance by its type":   {api.HealthChecks{typed}, routing.Draining, false, "maintenance: disks"},
		"maintenance and a warning": {api.HealthChecks{service, warning}, routing.Draining, true, "maintenance"},
		"maintenance, and stopped":  {api.HealthChecks{service, critical}, routing.Down, false, `check "tcp" is critical`},
		"holes and unknown words":   {api.HealthChecks{nil, unknownWord}, routing.Up, false, ""},
	} {
		state, warn, reason := classify(test.checks)
		if state != test.state || warn != test.warning || reason != test.reason {
			t.Errorf("%s: %v %v %q", name, state, warn, reason)
		}
	}
}

func TestOneIdOnSeveralNodes(t *testing.T) {
	entry := func(node, id string) *api.ServiceEntry {
		return &api.ServiceEntry{Node: &api.Node{Node: node, Address: "192.0.2.1"}, Service: &api.AgentService{ID: id, Service: "imap", Port: 143}}
	}
	for want, entries := range map[string][]*api.ServiceEntry{
		"n3 mail@n1 mail@n2 own": {entry("n2", "mail"), entry("n1", "mail"), entry("n3", "imap"), entry("n4", "own"), nil, {}},
		// an id that is another's node
		"imap@n1 n1@n2": {entry("n2", "n1"), entry("n1", "imap")},
		// an id that looks like the qualified name of a doubled one
		"mail@n1 mail@n1@n3 mail@n2": {entry("n1", "mail"), entry("n2", "mail"), entry("n3", "mail@n1")},
	} {
		all := fleet(entries, "imap")
		if got := describe(all); got != want {
			t.Errorf("the fleet is %q, want %q", got, want)
		}
	}
	e := entry("n1", "own")
	e.Node.Address, e.Service.Port = "2001:db8::1", 0
	b := backend(e)
	if b.Address != "[2001:db8::1]:0" || b.State != routing.Down {
		t.Errorf("an instance without a port is %+v", b)
	}
}

func TestAnAddressInBrackets(t *testing.T) {
	for registered, want := range map[string]string{
		"::1": "[::1]:143", "[::1]": "[::1]:143", "[2001:db8::1]": "[2001:db8::1]:143", "fe80::1%eth0": "[fe80::1%eth0]:143",
		"192.0.2.1": "192.0.2.1:143", "imap1.example.org": "imap1.example.org:143",
		"[imap1]": "", "imap1:143": "", "[::1]:143": "", "imap 1": "", "imap://imap1": "",
	} {
		for _, ofNode := range []bool{false, true} {
			e := &api.ServiceEntry{Node: &api.Node{Node: "n1", Address: "192.0.2.9"}, Service: &api.AgentService{ID: "b1", Port: 143, Address: registered}}
			if ofNode {
				e.Node.Address, e.Service.Address = registered, ""
			}
			b := backend(e)
			switch {
			case want == "" && (b.State != routing.Down || b.Reason == ""):
				t.Errorf("%q can't be dialled, and is %v at %s", registered, b.State, b.Address)
			case want != "" && (b.State != routing.Up || b.Address != want):
				t.Errorf("%q is %v at %s: %s", registered, b.State, b.Address, b.Reason)
			}
		}
	}
}
