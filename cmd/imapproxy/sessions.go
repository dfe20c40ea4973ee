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

// sessionsPage is how many sessions are asked for at once.
const sessionsPage = 1000

type sessionsCommand struct {
	adminFlags
	watchFlag
	clusterFlag
	User    string `placeholder:"NAME" help:"Only this user's sessions."`
	Backend string `placeholder:"ID" help:"Only the sessions on this backend."`
	Limit   int    `default:"0" help:"Maximum number of sessions; 0 shows all (${default})."`
}

// Run prints /v1/sessions, all pages of it.
func (c sessionsCommand) Run(env environment) error {
	return c.watched(env, func() error { return c.show(env) })
}

func (c sessionsCommand) show(env environment) error {
	if c.Cluster {
		return ask(env, c.adminFlags, c.ofAll, each(showSessions))
	}
	return ask(env, c.adminFlags, c.all, showSessions)
}

// ofAll reads the pages of all proxies. A proxy that has answered for one page and not for another counts as
// one that hasn't answered.
func (c sessionsCommand) ofAll(ctx context.Context, a *admin.Client) (admin.Cluster[admin.Sessions], error) {
	var all admin.Cluster[admin.Sessions]
	for after, n := "", 0; ; {
		q := admin.SessionsQuery{User: c.User, Backend: c.Backend, After: after, Limit: sessionsPage}
		if c.Limit > 0 {
			q.Limit = min(q.Limit, c.Limit-n)
		}
		page, next, err := a.ClusterSessions(ctx, q)
		if err != nil {
			return all, err
		}
		for _, p := range page.Proxies {
			i := slices.IndexFunc(all.Proxies, func(o admin.FromProxy[admin.Sessions]) bool { return o.Proxy == p.Proxy && o.Address == p.Address })
			if i < 0 {
				all.Proxies = append(all.Proxies, p)
			} else if to := all.Proxies[i].Answer; to != nil && p.Answer != nil {
				to.Sessions = append(to.Sessions, p.Answer.Sessions...)
				maps.Copy(to.Reasons, p.Answer.Reasons)
				to.Next, to.Leaving = p.Answer.Next, p.Answer.Leaving
			} else if all.Proxies[i].Error == "" {
				all.Proxies[i].Error, all.Proxies[i].Answer = p.Error, nil
			}
			if p.Answer != nil {
				n += len(p.Answer.Sessions)
			}
		}
		if after = next; next == "" || c.Limit > 0 && n >= c.Limit {
			return all, nil
		}
	}
}

// all reads all pages. With --limit, Next is the position after the last one.
func (c sessionsCommand) all(ctx context.Context, a *admin.Client) (admin.Sessions, error) {
	all := admin.Sessions{Sessions: []admin.Session{}, Reasons: map[string]string{}}
	for {
		q := admin.SessionsQuery{User: c.User, Backend: c.Backend, After: all.Next, Limit: sessionsPage}
		if c.Limit > 0 {
			q.Limit = min(q.Limit, c.Limit-len(all.Sessions))
		}
		page, err := a.Sessions(ctx, q)
		if err != nil {
			return all, err
		}
		all.Sessions = append(all.Sessions, page.Sessions...)
		maps.Copy(all.Reasons, page.Reasons)
		all.Next, all.Leaving = page.Next, page.Leaving
		if page.Next == "" || len(page.Sessions) == 0 || c.Limit > 0 && len(all.Sessions) >= c.Limit {
			return all, nil
		}
	}
}

func showSessions(w io.Writer, all admin.Sessions) error {
	var rows [][]string
	for _, s := range all.Sessions {
		state := s.State
		if s.Idle {
			state += ", idle"
		}
		listener := s.Listener
		if s.TLS {
			listener += " (TLS)"
		}
		rows = append(rows, []string{
			s.ID, dash(s.User), dash(strings.TrimSpace(s.Backend + " " + parens(s.Why))), dash(s.Client), dash(listener), state, dash(strings.TrimSpace(s.Attachment + " " + parens(s.NotParked))),
			ago(time.Since(s.Started)), ago(time.Since(s.LastActivity)), fmt.Sprint(s.Commands), size(s.BytesIn), size(s.BytesOut),
		})
	}
	err := table(w, []string{"SESSION", "USER", "BACKEND", "CLIENT", "LISTENER", "STATE", "ATTACHMENT", "SINCE", "QUIET", "COMMANDS", "IN", "OUT"}, rows)
	if err == nil && len(all.Reasons) > 0 {
		_, err = fmt.Fprintln(w, "\nWhy sessions aren't parked (docs/operations.md):")
	}
	for _, reason := range slices.Sorted(maps.Keys(all.Reasons)) {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %s: %s\n", reason, all.Reasons[reason])
		}
	}
	if err == nil && all.Next != "" {
		_, err = fmt.Fprintln(w, "There are more: --limit 0 shows all.")
	}
	for i, l := range all.Leaving {
		if err == nil && i == 0 {
			_, err = fmt.Fprintln(w)
		}
		if err == nil {
			_, err = fmt.Fprintln(w, "Not listed, since it is leaving: "+leavingWords(l))
		}
	}
	return err
}

// leavingWords describes an older process of a proxy.
func leavingWords(l admin.Leaving) string {
	return fmt.Sprintf("an older process (pid %d, version %s) with %s", l.PID, dash(l.Version), count(l.Sessions, "session"))
}

func parens(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}
