package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/admin"
)

type userCommand struct {
	adminFlags
	User string `arg:"" placeholder:"USER" help:"The canonical name, as 'imapproxy sessions' shows it."`
}

// slowOfUser is how many slow commands user shows.
const slowOfUser = 5

// Run prints /v1/cluster/user, and below it the user's last slow commands.
func (c userCommand) Run(env environment) error {
	err := ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.User], error) {
		return a.ClusterUser(ctx, c.User)
	}, each(showUser))
	if err != nil || c.JSON {
		return err
	}
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.SlowCommands], error) {
		return admin.GetPastOfAll[admin.SlowCommands](ctx, a, "/v1/slow", admin.PastQuery{User: c.User, Limit: slowOfUser})
	}, showSlowOfUser)
}

// showSlowOfUser prints the last slow commands of a user, of all proxies.
func showSlowOfUser(w io.Writer, all admin.Cluster[admin.SlowCommands]) error {
	var rows []admin.SlowCommand
	for _, p := range all.Proxies {
		if p.Answer != nil {
			rows = append(rows, p.Answer.Commands...)
		}
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "\nNo slow command of theirs is remembered.")
		return err
	}
	slices.SortStableFunc(rows, func(a, b admin.SlowCommand) int { return b.Time.Compare(a.Time) })
	if _, err := fmt.Fprintln(w, "\nTheir last slow commands:"); err != nil {
		return err
	}
	return listing(w, slices.DeleteFunc(slowColumns(), func(c column[admin.SlowCommand]) bool { return c.head == "USER" }), rows[:min(len(rows), slowOfUser)])
}

func showUser(w io.Writer, u admin.User) error {
	goes := u.Goes + " " + parens(u.Why)
	if u.Error != "" {
		goes = "nowhere: " + u.Error
	}
	rows := [][]string{{"a login goes to", dash(goes)}, {"pin", pinWords(u.Pin)}, {"placement", dash(u.Placement)}, {"moved to", dash(u.Override)}, {"still on", stayWords(u)}, {"warm connections", fmt.Sprint(u.WarmConnections)}}
	for _, s := range u.Sessions {
		state := strings.TrimSpace(s.Attachment + " " + parens(s.NotParked))
		rows = append(rows, []string{"session " + s.ID, fmt.Sprintf("on %s, %s, from %s, for %s", dash(s.Backend), state, dash(s.Client), ago(time.Since(s.Started)))})
	}
	if u.More {
		rows = append(rows, []string{"", "and more sessions"})
	}
	for _, f := range u.Failures {
		rows = append(rows, []string{"failed " + f.What, fmt.Sprintf("%s ago from %s: %s: %s", ago(time.Since(f.Time)), dash(f.Client), dash(f.Reason), dash(f.Error))})
	}
	return table(w, []string{"user", dash(u.User)}, rows)
}

// stayWords says where the proxies still have a user who belongs elsewhere, and until when.
func stayWords(u admin.User) string {
	switch {
	case u.Stay == nil || *u.Stay == "" || *u.Stay == u.Override:
		return "-"
	case u.Override != "":
		return dash(*u.Stay) + ", until all proxies have let go"
	}
	return dash(*u.Stay) + ", until their turn to move; with cluster.rebalance_rate 0 until they log in with no connection left"
}

// pinWords describes a user's pin and its end.
func pinWords(p *admin.Pin) string {
	switch {
	case p == nil:
		return "none"
	case p.Flushed:
		return fmt.Sprintf("on %s, until the last of %s ends (flushed)", dash(p.Backend), count(p.Sessions, "session"))
	case p.Ends != nil:
		return fmt.Sprintf("on %s for another %s", dash(p.Backend), ago(time.Until(*p.Ends)))
	}
	return fmt.Sprintf("on %s for %s, by %s, %d of them with a connection", dash(p.Backend), ago(time.Since(p.Since)), count(p.Sessions, "session"), p.Holding)
}

type flushCommand struct {
	adminFlags
	localFlag
	User string `arg:"" placeholder:"USER" help:"The canonical name, as 'imapproxy sessions' shows it."`
}

// Run removes a user's pin and cached credentials by POST /v1/cluster/flush, or /v1/flush.
func (c flushCommand) Run(env environment) error {
	f := admin.FlushRequest{User: c.User, By: me()}
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.FlushAnswer], error) {
		if c.Local {
			return onlyHere(ctx, c.Admin, f, a.Flush)
		}
		return a.ClusterFlush(ctx, f)
	}, showFlushed)
}

func showFlushed(w io.Writer, all admin.Cluster[admin.FlushAnswer]) error {
	warm := 0
	pins := map[string]int{}
	for _, p := range all.Proxies {
		if p.Answer != nil {
			warm += p.Answer.WarmConnections
			pins[p.Answer.Pin]++
		}
	}
	pin := "there was no pin"
	switch {
	case pins["at_end"] > 0:
		pin = "the pin goes with the user's last session: kick ends them"
	case pins["now"] > 0:
		pin = "the pin is gone"
	}
	fmt.Fprintf(w, "%s closed and the cached credentials forgotten; %s\n", count(warm, "warm connection"), pin)
	return notAnswered(w, all.Failed())
}
