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
	return askOneOrAll(env, c.adminFlags, c.clusterFlag, (*admin.Client).Backends, showBackends, (*admin.Client).ClusterBackends, showAllBackends)
}

func showBackends(w io.Writer, all admin.Backends) error {
	var rows [][]string
	slices.SortStableFunc(all.Backends, func(a, b admin.Backend) int { return cmp.Compare(urgency(a), urgency(b)) })
	for _, b := range all.Backends {
		rows = append(rows, []string{
			dash(b.ID), dash(b.Address), b.State, ago(time.Since(b.Since)), fmt.Sprint(b.Weight), fmt.Sprint(b.Pins), fmt.Sprint(b.Sessions), dash(remarks(b)),
		})
	}
	if err := table(w, []string{"BACKEND", "ADDRESS", "STATE", "FOR", "WEIGHT", "USERS", "SESSIONS", "REMARKS"}, rows); err != nil {
		return err
	}
	if err := showDrains(w, all.Drains); err != nil {
		return err
	}
	return showPauses(w, all.Pauses)
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

// showAllBackends prints each backend once, with the users and sessions of all proxies, and the proxies that
// see it in another state.
func showAllBackends(w io.Writer, all admin.Cluster[admin.Backends]) error {
	type row struct {
		admin.Backend
		states map[string][]string // the backend's state → the proxies that report it
	}
	found := map[string]*row{}
	for _, p := range all.Proxies {
		if p.Answer == nil {
			continue
		}
		for _, b := range p.Answer.Backends {
			r := found[b.ID]
			if r == nil {
				r = &row{Backend: b, states: map[string][]string{}}
				r.Pins, r.Sessions = 0, 0
				found[b.ID] = r
			}
			r.Pins, r.Sessions = r.Pins+b.Pins, r.Sessions+b.Sessions
			r.states[b.State] = append(r.states[b.State], p.Proxy)
		}
	}
	var rows [][]string
	for _, id := range slices.Sorted(maps.Keys(found)) {
		r := found[id]
		var states []string
		for _, state := range slices.Sorted(maps.Keys(r.states)) {
			text := state
			if len(r.states) > 1 {
				text += " (" + strings.Join(r.states[state], ", ") + ")"
			}
			states = append(states, text)
		}
		rows = append(rows, []string{dash(id), dash(r.Address), dash(strings.Join(states, ", ")), fmt.Sprint(r.Weight), fmt.Sprint(r.Pins), fmt.Sprint(r.Sessions)})
	}
	if err := table(w, []string{"BACKEND", "ADDRESS", "STATE", "WEIGHT", "USERS", "SESSIONS"}, rows); err != nil {
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
