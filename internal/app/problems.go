package app

import (
	"cmp"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/problems"
	"imapproxy/telemetry"
)

// problems returns what is wrong with this proxy and its surroundings now.
func (a *App) problems() []admin.Problem {
	list := []admin.Problem{}
	for _, p := range a.found() {
		list = append(list, admin.Problem{Kind: string(p.Kind), Critical: p.Critical, Subject: p.Subject, Text: p.Text, Since: given(p.Since)})
	}
	return list
}

// problemGauges returns the number of problems of each kind.
func (a *App) problemGauges() map[string]int64 {
	n := map[string]int64{}
	for _, k := range problems.Kinds() {
		n[string(k)] = 0
	}
	for _, p := range a.found() {
		n[string(p.Kind)]++
	}
	return n
}

// processGauges returns what the metrics show of the process.
func (a *App) processGauges() telemetry.ProcessStats {
	s, running := a.snapshot(), a.current.Load()
	stats := telemetry.ProcessStats{ConfigDigest: running.digest, ConfigRead: running.since, Resources: []telemetry.Resource{
		{Name: "descriptors", Used: s.Descriptors.Used, Limit: s.Descriptors.Limit},
		{Name: "memory", Used: s.Memory.Used, Limit: s.Memory.Limit},
		{Name: "sessions", Used: s.Sessions.Used, Limit: s.Sessions.Limit},
	}}
	stats.Saved = a.savedNow()
	if r := a.lastReload.Load(); r != nil {
		stats.Reloaded, stats.ReloadOK = r.Time, r.OK
	}
	if s.Consul != nil {
		stats.ConsulAnswered = s.Consul.Answered
	}
	for _, c := range s.Certificates {
		stats.Certificates = append(stats.Certificates, telemetry.CertificateEnd{Of: c.Of, List: c.List, End: c.NotAfter})
	}
	return stats
}

// process returns the same for the admin API.
func (a *App) process() (p admin.Process) {
	stats := a.processGauges()
	for _, c := range stats.Certificates {
		p.Certificates = append(p.Certificates, admin.CertificateEnd{Of: c.Of, List: c.List, Ends: c.End})
	}
	for _, r := range stats.Resources {
		p.Resources = append(p.Resources, admin.Resource{Name: r.Name, Used: r.Used, Limit: r.Limit})
	}
	return p
}

func (a *App) found() []problems.Problem {
	s := a.snapshot()
	return problems.Find(&s)
}

// snapshot is what problems are found in. It reads no file but this process's in /proc, and asks no other process.
func (a *App) snapshot() problems.Snapshot {
	current := a.current.Load().cfg
	s := problems.Snapshot{Now: a.now(), Started: a.started, Version: a.opts.Version, Backends: a.backendsNow(), Refused: a.tel.Recent("").Refused, Separate: current.Routing.Storage == "separate"}
	if current.Discovery.Consul != nil {
		s.Consul = &problems.Consul{Answered: a.router.LastGood(), Saved: a.router.FromSaved()}
	}
	if a.agreement != nil {
		a.agreedNow(&s)
	}
	for _, c := range a.server.Certificates() {
		of := c.Listener
		if c.Several {
			of += " " + c.Name
		}
		s.Certificates = append(s.Certificates, problems.Cert{Of: of, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Error: c.Error})
	}
	for _, c := range a.server.Authorities() {
		s.Certificates = append(s.Certificates, problems.Cert{Of: c.Listener + " clients " + c.Whose, List: c.List, NotBefore: c.From, NotAfter: c.Until, Error: c.Error})
	}
	said := a.server.Policy()
	s.Policy = problems.Policy{Failures: said.Failures, Since: said.Since, Error: said.Error, Rejects: said.Rejects}
	if c := a.cluster.cert.Load(); c != nil && c.Leaf != nil {
		s.Certificates = append(s.Certificates, problems.Cert{Of: "admin", NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter})
	}
	if r := a.lastReload.Load(); r != nil && !r.OK {
		s.Reload = &problems.Reload{At: r.Time, Error: r.Error}
	}
	s.Descriptors, s.Memory = descriptorUse(), memoryUse()
	sessions, limit := a.server.LoggedIn()
	s.Sessions = problems.Use{Used: int64(sessions), Limit: int64(limit)}
	if err := a.server.UnknownTLS(); err != nil {
		s.UnknownTLS = err.Error()
	}
	for _, short := range a.tel.Shortages() {
		s.Shortages = append(s.Shortages, problems.Shortage{Of: short.Of, At: short.At, Error: short.Error, Last: short.Last})
	}
	hub := a.parking.hub.Stats()
	s.Watches = problems.Watches{Lost: hub.Lost, Last: hub.LastLost}
	if a.parking.events != nil {
		e := a.parking.events.Stats()
		s.Push = &problems.Push{Mailboxes: hub.Push, Last: e.Last, Refused: e.Refused, Why: e.Why}
		if told := time.Unix(0, a.parking.toldAt.Load()); told.After(cmp.Or(e.Last, time.Unix(0, 0))) {
			s.Push.Last = told
		}
	}
	return s
}

func (a *App) backendsNow() (all []problems.Backend) {
	paused := map[string]bool{}
	for _, p := range a.router.Pauses() {
		paused[p.Backend] = true
	}
	waiting := a.server.Waiting()
	for _, b := range a.router.Backends() {
		lately := a.tel.Recent(b.Shown())
		all = append(all, problems.Backend{
			Name: b.Shown(), State: b.State.String(), Weight: b.Weight, Reason: b.Reason, Since: b.Since, Kept: b.Kept, Gone: b.Gone, Paused: paused[b.ID],
			Suspect: b.Suspect, Failures: b.Failures, LastError: b.LastError,
			Waiting: waiting[b.ID], Answers: lately.Answers, Slow: lately.Slow, Refused: lately.Refused, GivenUp: lately.GivenUp,
		})
	}
	return all
}

// agreedNow adds what the agreement knows: Consul answers it all the time, while the router learns changes alone.
func (a *App) agreedNow(s *problems.Snapshot) {
	agreed, isolated := a.agreement.status()
	s.Isolated = isolated
	s.Consul = &problems.Consul{}
	if agreed.Renewed != nil {
		s.Consul.Answered = *agreed.Renewed
	}
	if agreed.Outage != nil {
		s.Consul.Outage = *agreed.Outage
	}
	for _, p := range agreed.Proxies {
		if p.ID != a.agreement.id {
			name := p.ID
			if p.Host != "" {
				name += " on " + p.Host
			}
			s.Proxies = append(s.Proxies, problems.Proxy{Name: name, Version: p.Version, Lives: p.Session})
		}
	}
}
