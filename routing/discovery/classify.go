package discovery

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"imapproxy/routing"
)

// fleet converts Consul's answer to backends. The order of the answer differs between versions, so the result
// is sorted by id.
func fleet(entries []*api.ServiceEntry, service string) []routing.Backend {
	var all []routing.Backend
	for _, e := range entries {
		if !complete(e) {
			continue
		}
		b := backend(e)
		b.ID, b.Service, b.Name = identity(e), e.Service.ID, instanceName(e, service)
		all = append(all, b)
	}
	for _, by := range []func(*routing.Backend) string{(*routing.Backend).Qualified, func(b *routing.Backend) string { return b.ID }} {
		named := make(map[string]int) // how many instances have a name
		for _, b := range all {
			named[b.Name]++
		}
		for i := range all {
			if b := &all[i]; named[b.Name] > 1 {
				b.Name = by(b)
			}
		}
	}
	slices.SortFunc(all, func(a, b routing.Backend) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// complete says whether an entry has all parts.
func complete(e *api.ServiceEntry) bool { return e != nil && e.Node != nil && e.Service != nil }

// identity returns the part of an instance that stays the same when its node is renamed, its address or its
// port changes, or another instance appears with the same service id: the service id and the UUID of its
// node. A node that was registered without a UUID, which is possible for external ones, is identified by its
// name.
func identity(e *api.ServiceEntry) string {
	node := e.Node.ID
	if node == "" {
		node = e.Node.Node
	}
	return e.Service.ID + "@" + node
}

// instanceName returns the name of an instance: its service id. A service id is unique on its agent only;
// without one in the registration Consul uses the service's name, which is the same on every machine, and
// then instanceName is the node's name.
func instanceName(e *api.ServiceEntry, service string) string {
	if e.Service.ID == "" || e.Service.ID == service {
		return e.Node.Node
	}
	return e.Service.ID
}

// backend converts an instance, without id and names.
func backend(e *api.ServiceEntry) routing.Backend {
	host := e.Service.Address
	if host == "" {
		host = e.Node.Address
	}
	host = unbracketed(host)
	b := routing.Backend{
		Address:    net.JoinHostPort(host, strconv.Itoa(e.Service.Port)),
		Tags:       slices.Sorted(slices.Values(e.Service.Tags)),
		TLS:        e.Service.Meta["tls"],
		ServerName: e.Service.Meta["server_name"],
		Datacenter: e.Node.Datacenter,
		Node:       e.Node.Node,
	}
	warning := false
	b.State, warning, b.Reason = classify(e.Checks)
	b.Weight = e.Service.Weights.Passing
	if warning {
		b.Weight = e.Service.Weights.Warning
	}
	switch {
	case e.Service.Port <= 0:
		b.State, b.Reason = routing.Down, "registered without a port"
	case !isHost(host):
		b.State, b.Reason = routing.Down, fmt.Sprintf("registered with the address %q, which is neither a name nor an IP address (the port is a field of its own)", clip(host, 60))
	case !slices.Contains([]string{"", "none", "starttls", "implicit"}, b.TLS):
		b.State, b.Reason = routing.Down, fmt.Sprintf("meta tls=%q is none of none, starttls, implicit", clip(b.TLS, 40))
	}
	return b
}

// unbracketed removes the brackets of an IPv6 address in URL form. Registrations may have either form.
func unbracketed(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		if inner = strings.TrimSuffix(inner, "]"); strings.Contains(inner, ":") {
			return inner
		}
	}
	return host
}

// classify evaluates the checks of an instance and of its node. Maintenance alone means draining: the server
// works, and its operator wants it empty. Maintenance with another critical check means that the server was
// stopped: down. A warning means up, with the weight for warnings.
func classify(checks api.HealthChecks) (state routing.State, warning bool, reason string) {
	var maintenance, critical, warn *api.HealthCheck
	for _, c := range checks {
		switch {
		case c == nil:
		case isMaintenance(c):
			maintenance = c
		case c.Status == api.HealthCritical:
			critical = firstOf(critical, c)
		case c.Status == api.HealthWarning:
			warn = firstOf(warn, c)
		}
	}
	switch {
	case critical != nil:
		return routing.Down, false, "check " + checkName(critical) + " is critical"
	case maintenance != nil:
		reason = "maintenance"
		if maintenance.Notes != "" {
			reason += ": " + clip(maintenance.Notes, 120)
		}
		return routing.Draining, warn != nil, reason
	case warn != nil:
		return routing.Up, true, "check " + checkName(warn) + " is a warning"
	}
	return routing.Up, false, ""
}

// firstOf returns the check with the lower id, so that the reason doesn't depend on the order of an answer.
func firstOf(a, b *api.HealthCheck) *api.HealthCheck {
	if a == nil || b.CheckID < a.CheckID {
		return b
	}
	return a
}

func checkName(c *api.HealthCheck) string {
	if c.Name != "" {
		return fmt.Sprintf("%q", clip(c.Name, 60))
	}
	return clip(c.CheckID, 60)
}

// isMaintenance says whether a check is one of Consul's maintenance checks.
func isMaintenance(c *api.HealthCheck) bool {
	return c.Type == "maintenance" || c.CheckID == api.NodeMaint || strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix)
}
