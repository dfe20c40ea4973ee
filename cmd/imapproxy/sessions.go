package main

import (
	"cmp"
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
	columnsFlag
	User    string `placeholder:"NAME" help:"Only this user's sessions."`
	Backend string `placeholder:"ID" help:"Only the sessions on this backend."`
	Client  string `placeholder:"ADDRESS" help:"Only the sessions of clients at this address, or in this network."`

	Attachment string `placeholder:"STATE" help:"Only the sessions whose backend connection is in this state: attached, parked, …"`
	NotParked  string `placeholder:"REASON" help:"Only the sessions that aren't parked for this reason (docs/operations.md)."`
	Sort       string `placeholder:"ORDER" help:"The first sessions of an order: age, quiet, commands, bytes_in or bytes_out; as many as --limit, or 1000. Default: by user."`
	Limit      int    `default:"0" help:"Maximum number of sessions; 0 shows all (${default})."`
}

// Run prints /v1/sessions, all pages of it.
func (c sessionsCommand) Run(env environment) error {
	return c.watched(env, func() error { return c.show(env) })
}

func (c sessionsCommand) show(env environment) error {
	columns, asked, err := chosen(env, c.columnsFlag, c.JSON, sessionColumns())
	switch {
	case asked || err != nil:
		return err
	case c.Cluster:
		return ask(env, c.adminFlags, c.ofAll, each(c.table(columns)))
	}
	return ask(env, c.adminFlags, c.all, c.table(columns))
}

// query asks for a page of the sessions.
func (c sessionsCommand) query(after string) admin.SessionsQuery {
	return admin.SessionsQuery{User: c.User, Backend: c.Backend, Client: c.Client, Attachment: c.Attachment, NotParked: c.NotParked, Sort: c.Sort, After: after, Limit: sessionsPage}
}

// ofAll reads the pages of all proxies. A proxy that has answered for one page and not for another counts as
// one that hasn't answered.
func (c sessionsCommand) ofAll(ctx context.Context, a *admin.Client) (admin.Cluster[admin.Sessions], error) {
	var all admin.Cluster[admin.Sessions]
	for after, n := "", 0; ; {
		q := c.query(after)
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
		q := c.query(all.Next)
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

func sessionColumns() []column[admin.Session] {
	return []column[admin.Session]{
		{"SESSION", func(s admin.Session) string { return s.ID }, 0},
		{"USER", func(s admin.Session) string { return dash(s.User) }, 0},
		{"BACKEND", func(s admin.Session) string { return dash(strings.TrimSpace(s.Backend + " " + parens(s.Why))) }, 0},
		{"CLIENT", func(s admin.Session) string { return dash(s.Client) }, 0},
		{"LISTENER", func(s admin.Session) string {
			if s.TLS {
				return dash(s.Listener + " (TLS)")
			}
			return dash(s.Listener)
		}, 5},
		{"STATE", func(s admin.Session) string {
			if s.Idle {
				return s.State + ", idle"
			}
			return s.State
		}, 2},
		{"ATTACHMENT", func(s admin.Session) string { return dash(strings.TrimSpace(s.Attachment + " " + parens(s.NotParked))) }, 0},
		{"SINCE", func(s admin.Session) string { return ago(time.Since(s.Started)) }, 3},
		{"QUIET", func(s admin.Session) string { return ago(time.Since(s.LastActivity)) }, 1},
		{"COMMANDS", func(s admin.Session) string { return fmt.Sprint(s.Commands) }, 4},
		{"IN", func(s admin.Session) string { return size(s.BytesIn) }, 6},
		{"OUT", func(s admin.Session) string { return size(s.BytesOut) }, 6},
		{"COMPRESSED", func(s admin.Session) string { return yes(s.Compressed) }, extra},
		{"IN FLIGHT", func(s admin.Session) string { return fmt.Sprint(s.InFlight) }, extra},
		{"TRACE", func(s admin.Session) string { return dash(cmp.Or(s.TraceURL, s.TraceID)) }, extra},
	}
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// table shows sessions, by their users unless --sort says otherwise: ids have no order that matters.
func (c sessionsCommand) table(columns []column[admin.Session]) func(io.Writer, admin.Sessions) error {
	return func(w io.Writer, all admin.Sessions) error {
		if c.Sort == "" {
			slices.SortStableFunc(all.Sessions, func(a, b admin.Session) int { return cmp.Or(cmp.Compare(a.User, b.User), a.Started.Compare(b.Started)) })
		}
		if err := listing(w, columns, all.Sessions); err != nil {
			return err
		}
		return showSessionNotes(w, all)
	}
}

// showSessionNotes prints what stands below the table.
func showSessionNotes(w io.Writer, all admin.Sessions) (err error) {
	width := screenWidth(w)
	if len(all.Reasons) > 0 {
		_, err = fmt.Fprintln(w, "\n"+wrapped("Why sessions aren't parked (docs/operations.md):", width))
	}
	for _, reason := range slices.Sorted(maps.Keys(all.Reasons)) {
		if err == nil {
			_, err = fmt.Fprintln(w, wrapped("  "+reason+": "+all.Reasons[reason], width))
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
