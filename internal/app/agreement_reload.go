package app

import (
	"slices"

	"imapproxy/internal/config"
	"imapproxy/internal/wiring"
)

// keepAgreed keeps the running values in next of settings whose change would break the agreement: only a
// restart can change them, and some only while all proxies are stopped.
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

// changesOf returns the changes of a reload from running to wanted. Those that next doesn't have need a
// restart.
func changesOf(running, wanted, next *config.Config) []config.Change {
	left := config.Diff(next, wanted)
	changes := config.Diff(running, wanted)
	for i, c := range changes {
		changes[i].NeedsRestart = slices.ContainsFunc(left, func(l config.Change) bool { return l.Path == c.Path })
	}
	return changes
}

// reload applies new settings; again says that Consul is reached in another way from now on.
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
