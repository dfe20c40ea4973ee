package app

import (
	"time"

	"imapproxy/internal/admin"
	"imapproxy/telemetry"
)

// status returns what the admin API shows of the agreement. isolated is the mode of a proxy that is
// isolated, else "".
func (g *agreement) status() (a admin.Agreement, isolated string) {
	s := g.part.Status()
	a = admin.Agreement{
		State: s.State, Epoch: s.Epoch, Acked: s.Acked, Users: s.Users, Stays: s.Stays, Resting: s.Resting, Waiting: g.part.Counts().Waiting,
		Renewed: given(s.Renewed), Outage: given(s.Outage), MovesEnd: given(s.MovesEnd), Proxies: []admin.AgreedPeer{},
	}
	a.Moving = a.Movement(time.Now())
	for _, p := range s.Proxies {
		one := admin.AgreedPeer{
			ID: p.ID, Host: p.About.Host, Admin: p.About.Admin, Version: p.About.Version, Started: time.UnixMilli(p.About.Started),
			Acked: p.Acked, Stays: p.Stays, Unreachable: append([]string{}, p.Unreachable...), Session: p.Session, Removed: given(p.Dead),
		}
		a.Proxies = append(a.Proxies, one)
	}
	switch {
	case s.State != "isolated":
	case g.holds.Load():
		isolated = "hold"
	default:
		isolated = "serve"
	}
	return a, isolated
}

// gauges returns the values for metrics.
func (g *agreement) gauges() telemetry.ClusterStats {
	s, n := g.part.Status(), g.part.Counts()
	all := telemetry.ClusterStats{
		Epoch: int64(s.Epoch), Acked: int64(s.Acked), Isolated: s.State == "isolated", Stays: int64(s.Stays),
		Waiting: n.Waiting, Late: int64(n.Late), Switches: int64(n.Switches),
	}
	for _, p := range s.Proxies {
		if p.Session {
			all.Living++
		} else {
			all.Ended++
		}
	}
	return all
}
