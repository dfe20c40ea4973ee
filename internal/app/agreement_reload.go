package app

import (
	"slices"

	"imapproxy/internal/config"
	"imapproxy/internal/wiring"
)

// keepAgreed puts running values into next where a change would break what the proxies have agreed on: only a restart can change them, and
// some only on all proxies at once.
func keepAgreed(running, next *config.Config) {
	switch was, is := wiring.Agrees(running), wiring.Agrees(next); {
	case !was && !is:
		return
	case was != is:
		next.Cluster, next.Discovery = running.Cluster, running.Discovery
	default:
		k, d := *next.Cluster, *next.Discovery.Consul
		k.Service, k.SessionTTL = running.Cluster.Service, running.Cluster.SessionTTL
		old := running.Discovery.Consul
		d.Datacenter, d.Namespace, d.Partition = old.Datacenter, old.Namespace, old.Partition
		next.Cluster, next.Discovery.Consul = &k, &d
	}
	next.Users.DefaultDomain, next.Users.Lowercase = running.Users.DefaultDomain, running.Users.Lowercase
	next.Routing.Storage = running.Routing.Storage
}

// changesOf are those of a reload from running to wanted, of which next takes what it can.
func changesOf(running, wanted, next *config.Config) []config.Change {
	left := config.Diff(next, wanted)
	changes := config.Diff(running, wanted)
	for i, c := range changes {
		changes[i].NeedsRestart = slices.ContainsFunc(left, func(l config.Change) bool { return l.Path == c.Path })
	}
	return changes
}

// reload gives the agreement new settings; again says that Consul is to be reached anew.
func (g *agreement) reload(c *config.Config, again bool) error {
	if g == nil {
		return nil
	}
	s := wiring.AgreementSettings(c)
	if err := g.part.Reconfigure(s); err != nil {
		return err
	}
	g.set(s.AgreeWithin, s.Isolated)
	if again {
		g.part.Reconnect(wiring.Consul(c.Discovery.Consul))
	}
	return nil
}
