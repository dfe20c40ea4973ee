package main

import (
	"context"
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
}

// Run prints /v1/status.
func (c statusCommand) Run(env environment) error {
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Status, error) { return a.Status(ctx) }, showStatus)
}

func showStatus(w io.Writer, s admin.Status) error {
	var listeners []string
	for _, l := range s.Listeners {
		listeners = append(listeners, l.Name+" "+l.Address)
	}
	discovery := "no answer yet"
	if s.Discovery.AgeSeconds != nil {
		discovery = "last good answer " + ago(time.Duration(*s.Discovery.AgeSeconds)*time.Second) + " ago"
	}
	return table(w, []string{"state", dash(s.State)}, [][]string{
		{"hostname", dash(s.Hostname)},
		{"version", dash(s.Version)},
		{"up for", ago(time.Duration(s.UptimeSeconds) * time.Second)},
		{"listeners", dash(strings.Join(listeners, ", "))},
		{"sessions", fmt.Sprintf("%d (%s)", s.Sessions, counts(s.Attachments))},
		{"backend connections", fmt.Sprint(s.BackendConnections)},
		{"backends", dash(counts(s.Backends))},
		{"discovery", discovery},
	})
}

// counts is "2 attached, 1 none": what there is none of is left out.
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
