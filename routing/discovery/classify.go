package discovery

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"imapproxy/routing"
)

// fleet turns Consul's answer into backends. Its order is nothing to rely on
// (it differs between versions), so the result is sorted by id.
func fleet(entries []*api.ServiceEntry, service string, log *slog.Logger) []routing.Backend {
	named := make(map[string]int) // how many instances have an id
	for _, e := range entries {
		if complete(e) {
			named[instanceID(e, service)]++
		}
	}
	var all []routing.Backend
	for _, e := range entries {
		if !complete(e) {
			continue
		}
		b := backend(e)
		b.ID = instanceID(e, service)
		if named[b.ID] > 1 {
			log.Error("several instances have one id; give each its own, users of these are routed by id@node",
				"id", b.ID, "node", b.Node)
			b.ID += "@" + b.Node
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b routing.Backend) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// complete guards against an answer with holes.
func complete(e *api.ServiceEntry) bool { return e != nil && e.Node != nil && e.Service != nil }

// instanceID is the service id. It is unique on its agent only, and without
// one in the registration Consul takes the service's name, the same on every
// machine: then the node's name is the id.
func instanceID(e *api.ServiceEntry, service string) string {
	if e.Service.ID == "" || e.Service.ID == service {
		return e.Node.Node
	}
	return e.Service.ID
}

// backend is an instance without its id.
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
		b.State, b.Reason = routing.Down, fmt.Sprintf("registered with the address %q, which is neither a name nor an IP address (the port stands apart)", clip(host, 60))
	case !slices.Contains([]string{"", "none", "starttls", "implicit"}, b.TLS):
		b.State, b.Reason = routing.Down, fmt.Sprintf("meta tls=%q is none of none, starttls, implicit", clip(b.TLS, 40))
	}
	return b
}

// unbracketed is an IPv6 address without the brackets that it has in a URL: registrations
// have both forms, and Consul takes both.
func unbracketed(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.HasSuffix(inner, "]") {
		if inner = strings.TrimSuffix(inner, "]"); strings.Contains(inner, ":") {
			return inner
		}
	}
	return host
}

// isHost reports whether a text can be dialled: an IP address, perhaps with a zone, or
// a name.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host != "" && !strings.ContainsAny(host, ":[]/@ \t\r\n\x00")
}

// classify reads the checks of an instance and of its node. Maintenance alone
// is draining: the server works, its operator wants it empty. With a critical
// check besides it has been stopped, which is down. A warning is up, with the
// weight for it.
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

// firstOf is the check with the lower id, so that the reason doesn't change
// with the order of an answer.
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
