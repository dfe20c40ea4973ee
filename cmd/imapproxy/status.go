package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/admin"
)

type statusCommand struct {
	adminFlags
	watchFlag
	clusterFlag
}

// Run prints /v1/status.
func (c statusCommand) Run(env environment) error {
	return c.watched(env, func() error { return c.show(env) })
}

func (c statusCommand) show(env environment) error {
	return askOneOrAll(env, c.adminFlags, c.clusterFlag, (*admin.Client).Status, showStatus, (*admin.Client).ClusterStatus, each(showStatus))
}

func showStatus(w io.Writer, s admin.Status) error {
	var listeners []string
	for _, l := range s.Listeners {
		listeners = append(listeners, l.Name+" "+l.Address)
	}
	discovery := "no answer yet"
	if s.Discovery.AgeSeconds != nil {
		discovery = "last good answer " + ago(time.Duration(*s.Discovery.AgeSeconds)*time.Second) + " ago"
		if s.Discovery.Saved {
			discovery += ", read from disk: none came since the start"
		}
	}
	rows := [][]string{
		{"hostname", dash(s.Hostname)},
		{"version", dash(s.Version)},
		{"up for", ago(time.Duration(s.UptimeSeconds) * time.Second)},
		{"listeners", dash(strings.Join(listeners, ", "))},
		{"sessions", fmt.Sprintf("%d (%s)", s.Sessions, counts(s.Attachments))},
		{"backend connections", connections(s)},
		{"clients : backends", ratio(s)},
		{"parking", parkingWords(s.Parking)},
	}
	if p := s.Parking; p != nil {
		rows = append(rows, []string{"hints", counts(p.Hints)}, []string{"resyncs", counts(p.Resyncs)})
		if p.Events != nil {
			rows = append(rows, []string{"push events", counts(p.Events)})
		}
		if p.Forwarded != nil {
			rows = append(rows, []string{"sent on", counts(p.Forwarded)})
		}
	}
	if a := s.Agreement; a != nil {
		rows = append(rows, []string{"agreement", agreementWords(a, s)})
	}
	for _, l := range s.Leaving {
		rows = append(rows, []string{"leaving", leavingWords(l)})
	}
	for _, short := range s.Shortages {
		rows = append(rows, []string{"short of " + short.Of, fmt.Sprintf("%s at %s, last %s ago: %s", count(int(short.Count), "time"), short.At, ago(s.Time.Sub(short.Last)), short.Error)})
	}
	if s.Reload != nil {
		rows = append(rows, []string{"last reload", reloadWords(s.Reload, s.Time)})
	}
	return table(w, []string{"state", healthWords(s)}, append(append(problemRows(s), rows...),
		[]string{"backends", dash(counts(s.Backends))},
		[]string{"discovery", discovery + renewedWords(s)},
		[]string{"certificates", dash(certificateWords(s))},
		[]string{"used", dash(usedWords(s.Resources))},
		[]string{"a restart", restartWords(s)},
	))
}

// renewedWords says when Consul last confirmed the proxy's session there, "" without an agreement.
func renewedWords(s admin.Status) string {
	if s.Agreement == nil || s.Agreement.Renewed == nil {
		return ""
	}
	return "; Consul answered " + ago(s.Time.Sub(*s.Agreement.Renewed)) + " ago"
}

// certificateWords says when certificates end.
func certificateWords(s admin.Status) string {
	var all []string
	for _, c := range s.Certificates {
		what := dash(c.Of)
		if c.List {
			what += "'s revocation list"
		}
		when := "has ended"
		if left := c.Ends.Sub(s.Time); left > 0 {
			when = "ends in " + ago(left)
		}
		all = append(all, fmt.Sprintf("%s %s (%s)", what, when, c.Ends.Format(time.DateOnly)))
	}
	return strings.Join(all, ", ")
}

// usedWords says how full the proxy is.
func usedWords(all []admin.Resource) string {
	var parts []string
	for _, r := range all {
		show := func(n int64) string { return fmt.Sprint(n) }
		if r.Name == "memory" {
			show = size
		}
		text := r.Name + " " + show(r.Used)
		if r.Limit > 0 {
			text += fmt.Sprintf(" of %s (%d %%)", show(r.Limit), 100*r.Used/r.Limit)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// restartWords says what a restart would do to clients.
func restartWords(s admin.Status) string {
	return fmt.Sprintf("imapproxy upgrade disconnects no client; systemctl restart would disconnect %s", count(int(s.Sessions), "session"))
}

// healthWords is the state, and whether all is well.
func healthWords(s admin.Status) string {
	if n := len(s.Problems); n > 0 {
		return dash(s.State) + ", " + count(n, "problem")
	}
	return dash(s.State) + ", no problems"
}

// problemRows returns the problems, which are printed first.
func problemRows(s admin.Status) (rows [][]string) {
	for _, p := range s.Problems {
		what := "problem"
		if p.Critical {
			what = "PROBLEM"
		}
		rows = append(rows, []string{what, problemWords(p, s.Time)})
	}
	return rows
}

func problemWords(p admin.Problem, now time.Time) string {
	text := p.Text
	if p.Subject != "" {
		text = p.Subject + ": " + text
	}
	if p.Since != nil {
		text += ", for " + ago(max(now.Sub(*p.Since), 0))
	}
	return text + " [" + p.Kind + "]"
}

// agreementWords describes a proxy's part in the agreement of all proxies.
func agreementWords(a *admin.Agreement, s admin.Status) string {
	text := fmt.Sprintf("%s, fleet %d", a.State, a.Epoch)
	if a.Acked != a.Epoch {
		text += fmt.Sprintf(" (the others know of %d)", a.Acked)
	}
	text += fmt.Sprintf("; %s; connections of %s here", count(len(a.Proxies), "proxy"), count(a.Users, "user"))
	if s.Proxy.Isolated != "" {
		text += "; ISOLATED: isolated = \"" + s.Proxy.Isolated + "\""
	}
	if words := a.Movement(s.Time); words != "" {
		text += "; " + words
	}
	if a.Waiting > 0 {
		text += fmt.Sprintf("; %s", count(int(a.Waiting), "login")+" waiting")
	}
	if a.Outage != nil {
		text += fmt.Sprintf("; no fleet in Consul that it can go by for %s", ago(s.Time.Sub(*a.Outage)))
	}
	return text
}

// reloadWords describes the result of the last reload.
func reloadWords(r *admin.Reload, now time.Time) string {
	when := ago(now.Sub(r.Time)) + " ago"
	switch {
	case !r.OK:
		return "FAILED " + when + ", the old settings hold: " + dash(r.Error)
	case len(r.NeedRestart) > 0:
		return when + "; a restart is needed for " + strings.Join(r.NeedRestart, ", ")
	}
	return when
}

// connections describes the connections to backends and their holders.
func connections(s admin.Status) string {
	if s.Parking == nil {
		return fmt.Sprint(s.BackendConnections)
	}
	return fmt.Sprintf("%d (%s)", allConnections(s), counts(map[string]int64{
		"of sessions": s.BackendConnections, "of watches": s.Parking.WatchConnections, "warm": s.Parking.WarmConnections,
	}))
}

func allConnections(s admin.Status) int64 {
	n := s.BackendConnections
	if s.Parking != nil {
		n += s.Parking.WatchConnections + s.Parking.WarmConnections
	}
	return n
}

// ratio compares the number of sessions that have logged in with that of backend connections.
func ratio(s admin.Status) string {
	sessions, conns := s.Sessions-s.Attachments["none"], allConnections(s)
	text := fmt.Sprintf("%d client sessions : %s", sessions, count(int(conns), "backend connection"))
	if conns == 0 {
		return text
	}
	return fmt.Sprintf("%s (%.1f : 1)", text, float64(sessions)/float64(conns))
}

// parkingWords describes what the proxy does for parked sessions.
func parkingWords(p *admin.Parking) string {
	if p == nil {
		return "off"
	}
	text := "on"
	if !p.Enabled {
		text = "off; some parked sessions are left"
	}
	text += ", mailboxes watched by " + counts(p.Mailboxes)
	if p.Waiting > 0 {
		text += fmt.Sprintf(", %d wait for a resync", p.Waiting)
	}
	return text
}

// counts formats "2 attached, 1 none", without zero counts.
func counts[N int | int64](m map[string]N) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", m[name], name))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
