package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
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
	rows := [][]string{{"measured for"}, {"sessions"}, {"backend connections"}, {"connections saved"}, {"processes saved"}, {"memory saved"}, {"client logins"}, {"backend logins"}, {"logins saved"}}
	for _, s := range []admin.Saved{h.Bill.Now, h.Bill.Hour, h.Bill.Day} {
		memory, saved := "-", fmt.Sprintf("%.0f", s.Saved)
		if h.Bill.BackendProcessMemory > 0 {
			memory = size(s.SavedMemory)
		}
		for i, text := range []string{ago(time.Duration(s.Seconds) * time.Second), fmt.Sprintf("%.0f", s.LoggedIn), fmt.Sprintf("%.0f", s.Connections), saved, saved, memory,
			fmt.Sprint(s.Logins), fmt.Sprint(s.BackendLogins), fmt.Sprint(s.SavedLogins)} {
			rows[i] = append(rows[i], text)
		}
	}
	if err := table(w, []string{"", "NOW", "THIS HOUR", "THIS DAY"}, rows); err != nil {
		return err
	}
	if h.Bill.BackendProcessMemory == 0 {
		fmt.Fprintln(w, "\n"+wrapped("The memory isn't known: set park.backend_process_memory.", screenWidth(w)))
	}
	_, err := fmt.Fprintf(w, "\n%s\n", wrapped(h.Bill.Formula+".", screenWidth(w)))
	return err
}

// askList asks for one of the lists, and prints the table of what rows returns of the answer.
func askList[T, R any](env environment, c pastCommand, f columnsFlag, path string, q admin.PastQuery, columns []column[R], rows func(T) []R) error {
	some, asked, err := chosen(env, f, c.JSON, columns)
	if asked || err != nil {
		return err
	}
	return askPast(env, c, path, q, func(w io.Writer, answer T) error { return listing(w, some, rows(answer)) })
}

type eventsCommand struct {
	pastCommand
	columnsFlag
	Limit int `default:"50" help:"Maximum number of events (${default})."`
}

// Run prints /v1/changes.
func (c eventsCommand) Run(env environment) error {
	columns := []column[admin.Change]{
		{"TIME", func(e admin.Change) string { return moment(e.Time) }, 0},
		{"LEVEL", func(e admin.Change) string { return e.Level }, 1},
		{"EVENT", func(e admin.Change) string { return dash(e.Message) }, 0},
		{"DETAILS", func(e admin.Change) string {
			var about []string
			for _, f := range e.Fields {
				about = append(about, f.Name+"="+f.Value)
			}
			return dash(strings.Join(about, " "))
		}, 0},
	}
	return askList(env, c.pastCommand, c.columnsFlag, "/v1/changes", admin.PastQuery{Limit: c.Limit}, columns, func(all admin.Changes) []admin.Change { return all.Changes })
}

type endedCommand struct {
	pastCommand
	columnsFlag
	User  string `placeholder:"NAME" help:"Only this user's sessions."`
	Limit int    `default:"50" help:"Maximum number of sessions (${default})."`
}

// endedRow is a session that has ended, and the description of its reason.
type endedRow struct {
	admin.EndedSession
	why string
}

// Run prints /v1/ended.
func (c endedCommand) Run(env environment) error {
	columns := []column[endedRow]{
		{"ENDED", func(s endedRow) string { return moment(s.Time) }, 0},
		{"SESSION", func(s endedRow) string { return s.ID }, 2},
		{"USER", func(s endedRow) string { return dash(s.User) }, 0},
		{"REASON", func(s endedRow) string { return s.Reason }, 0},
		{"BACKEND", func(s endedRow) string { return dash(s.Backend) }, 1},
		{"CLIENT", func(s endedRow) string { return dash(s.Client) }, 1},
		{"LISTENER", func(s endedRow) string { return dash(s.Listener) }, 4},
		{"DURATION", func(s endedRow) string { return s.Duration }, 3},
		{"COMMANDS", func(s endedRow) string { return s.Commands }, 3},
		{"WHY", func(s endedRow) string { return dash(s.why) }, 0},
		{"IN", func(s endedRow) string { return dash(s.BytesIn) }, extra},
		{"OUT", func(s endedRow) string { return dash(s.BytesOut) }, extra},
	}
	return askList(env, c.pastCommand, c.columnsFlag, "/v1/ended", admin.PastQuery{User: c.User, Limit: c.Limit}, columns, func(all admin.EndedSessions) (rows []endedRow) {
		for _, s := range all.Sessions {
			rows = append(rows, endedRow{s, all.Reasons[s.Reason]})
		}
		return rows
	})
}

type failingCommand struct {
	pastCommand
	columnsFlag
}

// failingRow is an address, a network, a user or a reason.
type failingRow struct {
	of string
	admin.FailingCount
}

// Run prints /v1/failing.
func (c failingCommand) Run(env environment) error {
	columns, asked, err := chosen(env, c.columnsFlag, c.JSON, []column[failingRow]{
		{"WHAT", func(r failingRow) string { return r.of }, 0},
		{"NAME", func(r failingRow) string { return dash(r.Name) }, 0},
		{"FAILURES", func(r failingRow) string { return fmt.Sprint(r.Failures) }, 0},
		{"LAST", func(r failingRow) string { return moment(r.Last) }, 1},
		{"REASON", func(r failingRow) string { return r.Reason }, 0},
	})
	if asked || err != nil {
		return err
	}
	return askPast(env, c.pastCommand, "/v1/failing", admin.PastQuery{}, func(w io.Writer, f admin.Failing) error {
		fmt.Fprintf(w, "%s since %s\n\n", count(f.Failures, "failed login"), moment(f.Since))
		var rows []failingRow
		for _, of := range []struct {
			of  string
			all []admin.FailingCount
		}{{"address", f.Addresses}, {"network", f.Networks}, {"user", f.Users}, {"reason", f.Reasons}} {
			for _, one := range of.all {
				rows = append(rows, failingRow{of.of, one})
			}
		}
		return listing(w, columns, rows)
	})
}

type slowCommand struct {
	pastCommand
	columnsFlag
	User  string `placeholder:"NAME" help:"Only this user's commands."`
	Limit int    `default:"50" help:"Maximum number of commands (${default})."`
}

// Run prints /v1/slow.
func (c slowCommand) Run(env environment) error {
	return askList(env, c.pastCommand, c.columnsFlag, "/v1/slow", admin.PastQuery{User: c.User, Limit: c.Limit}, slowColumns(), func(all admin.SlowCommands) []admin.SlowCommand { return all.Commands })
}

func slowColumns() []column[admin.SlowCommand] {
	return slices.Insert(commandColumns(func(s admin.SlowCommand) admin.SessionCommand { return s.SessionCommand }), 1,
		column[admin.SlowCommand]{"SESSION", func(s admin.SlowCommand) string { return s.Session }, 2},
		column[admin.SlowCommand]{"USER", func(s admin.SlowCommand) string { return dash(s.User) }, 0},
		column[admin.SlowCommand]{"BACKEND", func(s admin.SlowCommand) string { return dash(s.Backend) }, 0})
}

// commandColumns are those of a command, its time and its parts, in seconds.
func commandColumns[T any](of func(T) admin.SessionCommand) []column[T] {
	text := func(f func(admin.SessionCommand) string) func(T) string { return func(t T) string { return f(of(t)) } }
	part := func(f func(admin.SessionCommand) float64) func(T) string {
		return func(t T) string { return fmt.Sprintf("%.3f s", f(of(t))) }
	}
	return []column[T]{
		{"ENDED", text(func(c admin.SessionCommand) string { return moment(c.Time) }), 0},
		{"COMMAND", text(func(c admin.SessionCommand) string { return c.Command }), 0},
		{"STATUS", text(func(c admin.SessionCommand) string { return dash(c.Status) }), 1},
		{"TOOK", part(func(c admin.SessionCommand) float64 { return c.Took }), 0},
		{"CLIENT WAIT", part(func(c admin.SessionCommand) float64 { return c.Client }), 0},
		{"PROXY", part(func(c admin.SessionCommand) float64 { return c.Proxy }), 0},
		{"BACKEND WAIT", part(func(c admin.SessionCommand) float64 { return c.Waited }), 0},
		{"RESUME", part(func(c admin.SessionCommand) float64 { return c.Resume }), 0},
		{"TRACE", text(func(c admin.SessionCommand) string { return dash(cmp.Or(c.TraceURL, c.TraceID)) }), 3},
	}
}

type commandsCommand struct {
	adminFlags
	watchFlag
	columnsFlag
	Session string `arg:"" placeholder:"SESSION" help:"The session's id, as in imapproxy sessions."`
}

// Run prints /v1/commands.
func (c commandsCommand) Run(env environment) error {
	columns, asked, err := chosen(env, c.columnsFlag, c.JSON, commandColumns(func(s admin.SessionCommand) admin.SessionCommand { return s }))
	if asked || err != nil {
		return err
	}
	return askPast(env, pastCommand{adminFlags: c.adminFlags, watchFlag: c.watchFlag}, "/v1/commands", admin.PastQuery{Session: c.Session}, func(w io.Writer, all admin.SessionCommands) error {
		if len(all.Commands)+len(all.Attachments) == 0 {
			_, err := fmt.Fprintln(w, wrapped(fmt.Sprintf("Nothing is remembered of a session %q: 'imapproxy sessions' and 'imapproxy ended' show their ids.", c.Session), screenWidth(w)))
			return err
		}
		if err := listing(w, columns, all.Commands); err != nil {
			return err
		}
		fmt.Fprintln(w)
		var rows [][]string
		for _, a := range all.Attachments {
			rows = append(rows, []string{moment(a.Time), a.From, a.To})
		}
		return table(w, []string{"TIME", "FROM", "TO"}, rows)
	})
}

// moment is a time in the local time zone.
func moment(t time.Time) string { return t.Local().Format(time.DateTime) }
