package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"imapproxy/internal/admin"
)

type backendsCommand struct {
	adminFlags
}

// Run prints /v1/backends.
func (c backendsCommand) Run(env environment) error {
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Backends, error) { return a.Backends(ctx) }, showBackends)
}

func showBackends(w io.Writer, all admin.Backends) error {
	var rows [][]string
	for _, b := range all.Backends {
		rows = append(rows, []string{
			dash(b.ID), dash(b.Address), b.State, ago(time.Since(b.Since)), fmt.Sprint(b.Weight), fmt.Sprint(b.Pins), fmt.Sprint(b.Sessions), dash(remarks(b)),
		})
	}
	return table(w, []string{"BACKEND", "ADDRESS", "STATE", "FOR", "WEIGHT", "USERS", "SESSIONS", "REMARKS"}, rows)
}

// remarks is what is out of the ordinary about a backend.
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
