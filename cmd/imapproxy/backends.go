package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/admin"
)

type backendsCommand struct {
	adminFlags
	watchFlag
	clusterFlag
	columnsFlag
	Capabilities bool `help:"Show the capabilities in which the backends differ."`
}

// Run prints /v1/backends.
func (c backendsCommand) Run(env environment) error {
	return c.watched(env, func() error { return c.show(env) })
}

func (c backendsCommand) show(env environment) error {
	if c.Capabilities {
		return askOneOrAll(env, c.adminFlags, c.clusterFlag, (*admin.Client).Backends, showCapabilities, (*admin.Client).ClusterBackends, each(showCapabilities))
	}
	one, asked, err := chosen(env, c.columnsFlag, c.JSON, backendColumns())
	all := []column[backendOfAll]{}
	if c.Cluster {
		all, asked, err = chosen(env, c.columnsFlag, c.JSON, backendOfAllColumns())
	}
	if asked || err != nil {
		return err
	}
	return askOneOrAll(env, c.adminFlags, c.clusterFlag, (*admin.Client).Backends, showBackends(one), (*admin.Client).ClusterBackends, showAllBackends(all))
}

// backendColumns are those of one proxy's backends. The times are of the last five minutes.
func backendColumns() []column[admin.Backend] {
	took := func(of func(*admin.BackendLately) admin.Lasting) func(admin.Backend) string {
		return func(b admin.Backend) string {
			l := of(&b.Lately)
			if l.Count == 0 {
				return "-"
			}
			return fmt.Sprintf("%s %s", milliseconds(l.P50), milliseconds(l.P99))
		}
	}
	number := func(of func(*admin.BackendLately) int) func(admin.Backend) string {
		return func(b admin.Backend) string { return fmt.Sprint(of(&b.Lately)) }
	}
	return []column[admin.Backend]{
		{"BACKEND", func(b admin.Backend) string { return dash(b.ID) }, 0},
		{"ADDRESS", func(b admin.Backend) string { return dash(b.Address) }, 1},
		{"STATE", func(b admin.Backend) string { return b.State }, 0},
		{"FOR", func(b admin.Backend) string { return ago(time.Since(b.Since)) }, 0},
		{"WEIGHT", func(b admin.Backend) string { return fmt.Sprint(b.Weight) }, 2},
		{"USERS", func(b admin.Backend) string { return fmt.Sprint(b.Pins) }, 0},
		{"SESSIONS", func(b admin.Backend) string { return fmt.Sprint(b.Sessions) }, 0},
		{"REMARKS", func(b admin.Backend) string { return dash(remarks(b)) }, 0},
		{"SHARE", func(b admin.Backend) string {
			return fmt.Sprintf("%.0f %% of users, %.0f %% of weight", 100*b.UserShare, 100*b.WeightShare)
		}, extra},
		{"ATTACHMENTS", func(b admin.Backend) string { return counts(b.Attachments) }, extra},
		{"DIAL", took(func(l *admin.BackendLately) admin.Lasting { return l.Dial }), extra},
		{"LOGIN", took(func(l *admin.BackendLately) admin.Lasting { return l.Login }), extra},
		{"ANSWER", took(func(l *admin.BackendLately) admin.Lasting { return l.Answer }), extra},
		{"SLOW", number(func(l *admin.BackendLately) int { return l.Slow }), extra},
		{"FAILED DIALS", number(func(l *admin.BackendLately) int { return l.FailedDials }), extra},
		{"FAILED LOGINS", number(func(l *admin.BackendLately) int { return l.FailedLogins }), extra},
		{"REFUSED", number(func(l *admin.BackendLately) int { return l.RefusedLogins }), extra},
		{"SILENT", number(func(l *admin.BackendLately) int { return l.Silent }), extra},
		{"CONNECTIONS", func(b admin.Backend) string { return fmt.Sprint(b.Connections) }, extra},
		{"LAST ERROR", func(b admin.Backend) string { return dash(b.LastError) }, extra},
		{"NODE", func(b admin.Backend) string { return dash(b.Node) }, extra},
	}
}

// milliseconds formats a time in milliseconds for human readers.
func milliseconds(ms float64) string {
	if ms < 1000 {
		return fmt.Sprintf("%.3gms", ms)
	}
	return fmt.Sprintf("%.3gs", ms/1000)
}

func showBackends(columns []column[admin.Backend]) func(io.Writer, admin.Backends) error {
	return func(w io.Writer, all admin.Backends) error {
		slices.SortStableFunc(all.Backends, func(a, b admin.Backend) int { return cmp.Compare(urgency(a), urgency(b)) })
		if err := listing(w, columns, all.Backends); err != nil {
			return err
		}
		if err := showDrains(w, all.Drains); err != nil {
			return err
		}
		return showPauses(w, all.Pauses)
	}
}

// showDrains prints the progress of drains, below the table.
func showDrains(w io.Writer, drains []admin.Drain) error {
	for _, d := range drains {
		who := "in maintenance in Consul"
		if d.Operator {
			who = "drained by " + dash(d.By)
			if d.Since != nil {
				who += ", " + ago(time.Since(*d.Since)) + " ago"
			}
		}
		if _, err := fmt.Fprintf(w, "\n%s (%s)\n", d.Progress(time.Now()), who); err != nil {
			return err
		}
	}
	return nil
}

// backendOfAll is a backend with the users and sessions of all proxies.
type backendOfAll struct {
	admin.Backend
	states map[string][]string // the backend's state → the proxies that report it
}

// state is the backend's state, with the proxies that see another one.
func (r backendOfAll) state() string {
	var states []string
	for _, state := range slices.Sorted(maps.Keys(r.states)) {
		text := state
		if len(r.states) > 1 {
			text += " (" + strings.Join(r.states[state], ", ") + ")"
		}
		states = append(states, text)
	}
	return strings.Join(states, ", ")
}

func backendOfAllColumns() []column[backendOfAll] {
	return []column[backendOfAll]{
		{"BACKEND", func(r backendOfAll) string { return dash(r.ID) }, 0},
		{"ADDRESS", func(r backendOfAll) string { return dash(r.Address) }, 1},
		{"STATE", func(r backendOfAll) string { return dash(r.state()) }, 0},
		{"WEIGHT", func(r backendOfAll) string { return fmt.Sprint(r.Weight) }, 2},
		{"USERS", func(r backendOfAll) string { return fmt.Sprint(r.Pins) }, 0},
		{"SESSIONS", func(r backendOfAll) string { return fmt.Sprint(r.Sessions) }, 0},
		{"ATTACHMENTS", func(r backendOfAll) string { return counts(r.Attachments) }, extra},
	}
}

// showAllBackends prints each backend once, with the users and sessions of all proxies, and the proxies that
// see it in another state.
func showAllBackends(columns []column[backendOfAll]) func(io.Writer, admin.Cluster[admin.Backends]) error {
	return func(w io.Writer, all admin.Cluster[admin.Backends]) error {
		found := map[string]*backendOfAll{}
		for _, p := range all.Proxies {
			if p.Answer == nil {
				continue
			}
			for _, b := range p.Answer.Backends {
				r := found[b.ID]
				if r == nil {
					r = &backendOfAll{Backend: b, states: map[string][]string{}}
					r.Pins, r.Sessions, r.Attachments = 0, 0, map[string]int{}
					found[b.ID] = r
				}
				r.Pins, r.Sessions = r.Pins+b.Pins, r.Sessions+b.Sessions
				for at, n := range b.Attachments {
					r.Attachments[at] += n
				}
				r.states[b.State] = append(r.states[b.State], p.Proxy)
			}
		}
		var rows []backendOfAll
		for _, id := range slices.Sorted(maps.Keys(found)) {
			rows = append(rows, *found[id])
		}
		if err := listing(w, columns, rows); err != nil {
			return err
		}
		if err := showDrains(w, allDrains(all)); err != nil {
			return err
		}
		if err := showPauses(w, allPauses(all)); err != nil {
			return err
		}
		return notAnswered(w, all.Failed())
	}
}

// remarks lists what is unusual about a backend.
func remarks(b admin.Backend) string {
	var all []string
	for _, r := range []struct {
		is   bool
		text string
	}{
		{b.Reason != "", b.Reason},
		{b.Kept, "kept by panic_threshold: discovery says it's down"},
		{b.Gone, "no longer in discovery"},
		{b.Suspect, "can't be reached: users go elsewhere until a probe succeeds"},
		{b.Bound > 0, fmt.Sprintf("%s there, none waits beyond %d", count(b.Connections, "connection"), b.Bound)},
		{b.Failures > 0, fmt.Sprintf("%s in a row: %s", count(b.Failures, "failure"), b.LastError)},
		{len(b.Tags) > 0, "tags " + strings.Join(b.Tags, " ")},
	} {
		if r.is {
			all = append(all, r.text)
		}
	}
	return strings.Join(all, "; ")
}

// urgency orders backends for operators: those that are down or can't be reached come first, those that are
// well last.
func urgency(b admin.Backend) int {
	switch {
	case b.State == "down":
		return 0
	case b.Suspect, b.Kept, b.Gone:
		return 1
	case b.State != "up":
		return 2
	case b.Failures > 0, b.Damped:
		return 3
	}
	return 4
}

// showCapabilities prints the capabilities in which the backends differ, a row for each.
func showCapabilities(w io.Writer, all admin.Backends) error {
	head := []string{"CAPABILITY"}
	var known []admin.Backend
	for _, b := range all.Backends {
		if b.CapabilitiesFrom == admin.FromLogin && b.State != "down" {
			head, known = append(head, dash(b.ID)), append(known, b)
		}
	}
	var rows [][]string
	for _, d := range all.Differences {
		row := []string{dash(d.Capability)}
		for _, b := range known {
			has := "yes"
			if slices.Contains(d.Lack, b.ID) {
				has = "-"
			}
			row = append(row, has)
		}
		rows = append(rows, row)
	}
	switch {
	case len(rows) > 0:
		if err := table(w, head, rows); err != nil {
			return err
		}
		fmt.Fprintln(w, "\nSessions can't be moved to a backend that lacks what their clients were told: make the capabilities the same (docs/routing.md, \"Capabilities\").")
	case len(known) > 1:
		fmt.Fprintf(w, "%s have the same capabilities\n", count(len(known), "backend"))
	}
	for _, b := range all.Backends {
		why := ""
		switch {
		case b.State == "down":
			why = "it is down"
		case b.CapabilitiesFrom == "":
			why = "not known yet: no user has logged in there"
		case b.CapabilitiesFrom == admin.FromGreeting:
			why = fmt.Sprintf("no user has logged in there yet; before login it lists %s", dash(strings.Join(b.Capabilities, " ")))
		}
		if why != "" {
			fmt.Fprintf(w, "%s: %s\n", dash(b.ID), why)
		}
	}
	return nil
}
