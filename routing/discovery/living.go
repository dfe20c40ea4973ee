package discovery

import (
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// A LivingProxy is a proxy whose check passes in Consul, or says that it will end soon.
type LivingProxy struct {
	Name   string // "ID on NODE"
	Admin  string // as ProxyInstance.Admin
	Agrees bool   // its entry says that it agrees with the others; one of an earlier release never does
}

// Living asks Consul once which proxies live under the service (ConsulOptions.Service), except the one under own,
// the ID of a registration.
func Living(ctx context.Context, o ConsulOptions, own string) ([]LivingProxy, error) {
	client, transport, err := o.newClient(1)
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	q := (&api.QueryOptions{AllowStale: true, Datacenter: ""}).WithContext(ctx)
	entries, meta, err := client.Health().Service(o.Service, "", false, q)
	if err == nil && meta.ResultsFilteredByACLs {
		err = errFiltered
	}
	if err != nil {
		return nil, err
	}
	var all []LivingProxy
	for _, e := range entries {
		if complete(e) && lives(e) && e.Service.Meta["kind"] == proxyKind && e.Service.ID != own {
			all = append(all, LivingProxy{e.Service.ID + " on " + e.Node.Node, adminAddress(e), e.Service.Meta[metaAgrees] == "yes"})
		}
	}
	slices.SortFunc(all, func(a, b LivingProxy) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}
