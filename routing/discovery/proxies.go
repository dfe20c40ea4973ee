package discovery

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"

	"imapproxy/telemetry"
)

// MetaAdmin is the key of the admin API's host:port in a proxy's service meta. If the host is empty, it is
// the service's address, or its node's.
const MetaAdmin = "admin"

// A ProxyInstance is one proxy as Consul lists it.
type ProxyInstance struct {
	ID      string // of the registration, with the node's name if two have the same
	Admin   string // host:port of its admin API; "": not registered
	Passing bool   // its check passes
}

// WatchProxies follows the proxies of a service (ConsulOptions.Service) until ctx ends, including this one.
// While Consul doesn't answer, the last answer remains valid.
func WatchProxies(ctx context.Context, o ConsulOptions, tel *telemetry.Telemetry, apply func([]ProxyInstance)) error {
	if o.Service == "" {
		return fmt.Errorf("the proxies' service has no name")
	}
	o = o.withDefaults()
	o.Tags, o.Datacenter = nil, "" // the agent's datacenter
	if tel == nil {
		tel = telemetry.Discard()
	}
	var (
		w     = watch{opts: o}
		trip  = outage{log: tel.Log, words: ofConsul("the other proxies")}
		pause = backoff{min: o.MinBackoff, max: o.MaxBackoff}
		pace  = rate.NewLimiter(watchRate, watchBurst)
		last  []ProxyInstance
	)
	defer w.close()
	for {
		entries, _, err := w.next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			trip.failed(err)
			if !pause.wait(ctx) {
				return nil
			}
			continue
		}
		trip.worked()
		pause.reset()
		if all := proxiesOf(entries); !slices.Equal(all, last) {
			last = all
			apply(slices.Clone(all))
		}
		if pace.Wait(ctx) != nil {
			return nil
		}
	}
}

// proxiesOf returns the proxies among a service's instances, by id. Other programs may be registered under
// the same name.
func proxiesOf(entries []*api.ServiceEntry) []ProxyInstance {
	var all []ProxyInstance
	count := map[string]int{}
	for _, e := range entries {
		if !complete(e) || e.Service.Meta["kind"] != proxyKind {
			continue
		}
		count[e.Service.ID]++
		all = append(all, ProxyInstance{ID: e.Service.ID + "\x00" + e.Node.Node, Admin: adminAddress(e), Passing: e.Checks.AggregatedStatus() == api.HealthPassing})
	}
	for i := range all {
		id, node, _ := strings.Cut(all[i].ID, "\x00")
		if count[id] > 1 {
			id += " on " + node
		}
		all[i].ID = clip(id, maxProxyName)
	}
	slices.SortFunc(all, func(a, b ProxyInstance) int { return strings.Compare(a.ID+"\x00"+a.Admin, b.ID+"\x00"+b.Admin) })
	return all
}

// maxProxyName bounds the shown part of a registration's id, in bytes.
const maxProxyName = 200

// adminAddress returns the address of an instance's admin API.
func adminAddress(e *api.ServiceEntry) string {
	address := e.Service.Meta[MetaAdmin]
	if !strings.HasPrefix(address, ":") {
		return address
	}
	host := e.Service.Address
	if host == "" {
		host = e.Node.Address
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return host + address
}
