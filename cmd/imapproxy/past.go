package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"imapproxy/internal/admin"
)

// pastCommand shows one of the lists that a proxy remembers.
type pastCommand struct {
	adminFlags
	watchFlag
	clusterFlag
}

// askPast asks one proxy or all of them, and prints the answer.
func askPast[T any](env environment, c pastCommand, path string, q admin.PastQuery, show func(io.Writer, T) error) error {
	return c.watched(env, func() error {
		if c.Cluster {
			return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[T], error) {
				return admin.GetPastOfAll[T](ctx, a, path, q)
			}, each(show))
		}
		return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (T, error) { return admin.GetPast[T](ctx, a, path, q) }, show)
	})
}

type billCommand struct{ pastCommand }

// Run prints the bill of /v1/history.
func (c billCommand) Run(env environment) error {
	return askPast(env, c.pastCommand, "/v1/history", admin.PastQuery{}, showBill)
}

func showBill(w io.Writer, h admin.History) error {
	var rows [][]string
	for _, one := range []struct {
		name  string
		saved admin.Saved
	}{{"now", h.Bill.Now}, {"this hour", h.Bill.Hour}, {"this day", h.Bill.Day}} {
		s, memory := one.saved, "-"
		if h.Bill.BackendProcessMemory > 0 {
			memory = size(s.SavedMemory)
		}
		rows = append(rows, []string{one.name, ago(time.Duration(s.Seconds) * time.Second), fmt.Sprintf("%.0f", s.LoggedIn), fmt.Sprintf("%.0f", s.Connections),
			fmt.Sprintf("%.0f", s.Saved), memory, fmt.Sprint(s.Logins), fmt.Sprint(s.BackendLogins), fmt.Sprint(s.SavedLogins)})
	}
	if err := table(w, []string{"TIME", "MEASURED", "SESSIONS", "CONNECTIONS", "SAVED", "MEMORY SAVED", "CLIENT LOGINS", "BACKEND LOGINS", "LOGINS SAVED"}, rows); err != nil {
		return err
	}
	if h.Bill.BackendProcessMemory == 0 {
		fmt.Fprintln(w, "\nThe memory isn't known: set park.backend_process_memory.")
	}
	_, err := fmt.Fprintf(w, "\n%s.\n", h.Bill.Formula)
	return err
}

type eventsCommand struct {
	pastCommand
	Limit int `default:"50" help:"Maximum number of events (${default})."`
}

// Run prints /v1/changes.
func (c eventsCommand) Run(env environment) error {
	return askPast(env, c.pastCommand, "/v1/changes", admin.PastQuery{Limit: c.Limit}, func(w io.Writer, all admin.Changes) error {
		var rows [][]string
		for _, e := range all.Changes {
			var about []string
			for _, f := range e.Fields {
				about = append(about, f.Name+"="+f.Value)
			}
			rows = append(rows, []string{moment(e.Time), e.Level, dash(e.Message), dash(strings.Join(about, " "))})
		}
		return table(w, []string{"TIME", "LEVEL", "EVENT", "DETAILS"}, rows)
	})
}

type endedCommand struct {
	pastCommand
	User  string `placeholder:"NAME" help:"Only this user's sessions."`
	Limit int    `default:"50" help:"Maximum number of sessions (${default})."`
}

// Run prints /v1/ended.
func (c endedCommand) Run(env environment) error {
	return askPast(env, c.pastCommand, "/v1/ended", admin.PastQuery{User: c.User, Limit: c.Limit}, func(w io.Writer, all admin.EndedSessions) error {
		var rows [][]string
		for _, s := range all.Sessions {
			rows = append(rows, []string{moment(s.Time), s.ID, dash(s.User), s.Reason, dash(s.Backend), dash(s.Client), dash(s.Listener), s.Duration, s.Commands, dash(all.Reasons[s.Reason])})
		}
		return table(w, []string{"ENDED", "SESSION", "USER", "REASON", "BACKEND", "CLIENT", "LISTENER", "DURATION", "COMMANDS", "WHY"}, rows)
	})
}

type failingCommand struct{ pastCommand }

// Run prints /v1/failing.
func (c failingCommand) Run(env environment) error {
	return askPast(env, c.pastCommand, "/v1/failing", admin.PastQuery{}, func(w io.Writer, f admin.Failing) error {
		fmt.Fprintf(w, "%s since %s\n\n", count(f.Failures, "failed login"), moment(f.Since))
		var rows [][]string
		for _, list := range []struct {
			of  string
			all []admin.FailingCount
		}{{"address", f.Addresses}, {"network", f.Networks}, {"user", f.Users}, {"reason", f.Reasons}} {
			for _, one := range list.all {
				rows = append(rows, []string{list.of, dash(one.Name), fmt.Sprint(one.Failures), moment(one.Last), one.Reason})
			}
		}
		return table(w, []string{"WHAT", "NAME", "FAILURES", "LAST", "REASON"}, rows)
	})
}

type slowCommand struct {
	pastCommand
	User  string `placeholder:"NAME" help:"Only this user's commands."`
	Limit int    `default:"50" help:"Maximum number of commands (${default})."`
}

// Run prints /v1/slow.
func (c slowCommand) Run(env environment) error {
	return askPast(env, c.pastCommand, "/v1/slow", admin.PastQuery{User: c.User, Limit: c.Limit}, func(w io.Writer, all admin.SlowCommands) error {
		var rows [][]string
		for _, s := range all.Commands {
			row := []string{moment(s.Time), s.Session, dash(s.User), dash(s.Backend), s.Command, dash(s.Status)}
			rows = append(rows, append(row, split(s.Took, s.Client, s.Proxy, s.Waited, s.Resume, cmp.Or(s.TraceURL, s.TraceID))...))
		}
		return table(w, []string{"ENDED", "SESSION", "USER", "BACKEND", "COMMAND", "STATUS", "TOOK", "CLIENT", "PROXY", "BACKEND", "RESUME", "TRACE"}, rows)
	})
}

// split returns the cells of a command's time and its parts, in seconds, and of its trace.
func split(took, client, proxy, backend, resume float64, trace string) (row []string) {
	for _, n := range []float64{took, client, proxy, backend, resume} {
		row = append(row, fmt.Sprintf("%.3f s", n))
	}
	return append(row, dash(trace))
}

type commandsCommand struct {
	adminFlags
	watchFlag
	Session string `arg:"" placeholder:"SESSION" help:"The session's id, as in imapproxy sessions."`
}

// Run prints /v1/commands.
func (c commandsCommand) Run(env environment) error {
	return askPast(env, pastCommand{adminFlags: c.adminFlags, watchFlag: c.watchFlag}, "/v1/commands", admin.PastQuery{Session: c.Session}, func(w io.Writer, all admin.SessionCommands) error {
		var rows [][]string
		for _, s := range all.Commands {
			rows = append(rows, append([]string{moment(s.Time), s.Command, dash(s.Status)}, split(s.Took, s.Client, s.Proxy, s.Waited, s.Resume, cmp.Or(s.TraceURL, s.TraceID))...))
		}
		if err := table(w, []string{"ENDED", "COMMAND", "STATUS", "TOOK", "CLIENT", "PROXY", "BACKEND", "RESUME", "TRACE"}, rows); err != nil {
			return err
		}
		fmt.Fprintln(w)
		rows = nil
		for _, a := range all.Attachments {
			rows = append(rows, []string{moment(a.Time), a.From, a.To})
		}
		return table(w, []string{"TIME", "FROM", "TO"}, rows)
	})
}

// moment is a time in the local time zone.
func moment(t time.Time) string { return t.Local().Format(time.DateTime) }
