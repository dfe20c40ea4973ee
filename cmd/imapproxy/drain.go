package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/admin"
)

// watchEvery is how often --watch asks.
const watchEvery = 2 * time.Second

type drainCommand struct {
	adminFlags
	Backend string        `arg:"" placeholder:"BACKEND" help:"The backend whose users are moved away, as 'imapproxy backends' shows it."`
	Within  time.Duration `placeholder:"TIME" help:"End the sessions that couldn't be moved after this time (10m), with a BYE. Without it none is ended."`
	Rate    float64       `placeholder:"USERS" help:"How many users a second are moved, over all proxies; default: cluster.move_rate."`
	DryRun  bool          `help:"Only say how many users would be moved, and where to."`
	Watch   bool          `help:"Show how far it is until no user is left. A drain that is there already is only shown, unless --within or --rate change it."`
}

// Run drains a backend by POST /v1/drain, for all proxies.
func (c drainCommand) Run(env environment) error {
	q := admin.DrainRequest{Backend: c.Backend, Rate: c.Rate, By: me()}
	if c.Within != 0 {
		q.Within = c.Within.String()
	}
	switch {
	case c.Within < 0 || c.Rate < 0:
		return errors.New("--within and --rate can't be negative")
	case c.DryRun && c.Watch:
		return errors.New("--dry-run moves no users: there is nothing to watch")
	case c.DryRun:
		return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.DrainAnswer], error) {
			return a.ClusterDrain(ctx, q)
		}, showDryDrain)
	case c.Watch:
		return c.watch(env, q)
	}
	var all admin.Cluster[admin.Backends]
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.DrainAnswer, error) {
		d, err := a.Drain(ctx, q)
		if err == nil && !c.JSON {
			all, _ = a.ClusterBackends(ctx) // the drain holds; without this the number is one proxy's
		}
		return d, err
	}, func(w io.Writer, a admin.DrainAnswer) error {
		_, err := fmt.Fprintf(w, "%s is being drained by all proxies; %s. imapproxy drain %s --watch shows how far it is, imapproxy undrain %s ends it.\n",
			dash(a.Backend), drainedUsers(a, all), dash(a.Backend), dash(a.Backend))
		return err
	})
}

// drainedUsers says how many users have connections at the backend: by all proxies that have answered, else by
// the one that was asked.
func drainedUsers(a admin.DrainAnswer, all admin.Cluster[admin.Backends]) string {
	d, of := drainOf(all, a.StableID), len(all.Proxies)
	if d == nil || of == 0 {
		return "the proxy that was asked has connections of " + count(a.Users, "user") + " there"
	}
	text := "connections of " + count(d.Users, "user") + " are there"
	if of > 1 {
		text += fmt.Sprintf(", counted at each of %d of %d proxies", of-len(all.Failed()), of)
	}
	if len(d.WaitsFor) > 0 && len(all.Failed()) > 0 {
		text += "; none is asked to leave before " + strings.Join(d.WaitsFor, ", ") + " knows of it, or is taken for dead (imapproxy proxies)"
	}
	return text
}

// watch drains, unless the backend is drained as it is asked for, and shows how far it is until no user is left.
func (c drainCommand) watch(env environment, q admin.DrainRequest) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	all, err := client.ClusterBackends(env.ctx)
	if err != nil {
		return asked(c.adminFlags, err)
	}
	if d := drainOf(all, c.Backend); d == nil || !d.Operator || q.Within != "" || q.Rate != 0 {
		if _, err := client.Drain(env.ctx, q); err != nil {
			return asked(c.adminFlags, err)
		}
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if all, err = client.ClusterBackends(env.ctx); err != nil {
			return asked(c.adminFlags, err)
		}
		d := drainOf(all, c.Backend)
		if d == nil {
			return fmt.Errorf("%s isn't drained any more", dash(c.Backend))
		}
		if c.JSON {
			if err := json.NewEncoder(env.stdout).Encode(d); err != nil {
				return err
			}
		} else {
			fmt.Fprintln(env.stdout, time.Now().Format(time.TimeOnly), d.Progress(time.Now()))
		}
		if d.Users == 0 && d.Left() == 0 && len(all.Failed()) == 0 {
			return nil
		}
		select {
		case <-env.ctx.Done():
			return errors.New("interrupted; the drain goes on")
		case <-tick.C:
		}
	}
}

// drainOf returns the progress of a backend's drain at all proxies; nil: no user leaves it.
func drainOf(all admin.Cluster[admin.Backends], backend string) *admin.Drain {
	for _, d := range allDrains(all) {
		if d.Backend == backend || d.StableID == backend {
			return &d
		}
	}
	return nil
}

// showDryDrain says who would be moved.
func showDryDrain(w io.Writer, all admin.Cluster[admin.DrainAnswer]) error {
	moves, sessions, users, name := map[string]int{}, map[string]int{}, 0, ""
	for _, p := range all.Proxies {
		a := p.Answer
		if a == nil {
			continue
		}
		name, users = a.Backend, users+a.Users
		moves = plus(moves, a.Moves)
		sessions = plus(sessions, a.Sessions)
	}
	fmt.Fprintf(w, "%s would be drained: connections of %s would be moved\n", dash(name), count(users, "user"))
	for _, to := range slices.Sorted(maps.Keys(moves)) {
		where := "to " + dash(to)
		if to == "" {
			where = "nowhere: no other backend is up"
		}
		fmt.Fprintf(w, "  %6d %s\n", moves[to], where)
	}
	if len(sessions) > 0 {
		fmt.Fprintf(w, "sessions there: %s\n", admin.Histogram(sessions))
	}
	if answered := len(all.Proxies) - len(all.Failed()); answered > 1 {
		fmt.Fprintf(w, "A user who has connections by several of the %d proxies is counted at each.\n", answered)
	}
	return notAnswered(w, all.Failed())
}

type undrainCommand struct {
	adminFlags
	Backend string `arg:"" placeholder:"BACKEND" help:"The backend that an operator has drained."`
	DryRun  bool   `help:"Only say how many users would come back, and from where."`
}

// Run ends a drain by POST /v1/undrain, for all proxies.
func (c undrainCommand) Run(env environment) error {
	q := admin.UndrainRequest{Backend: c.Backend, By: me()}
	if c.DryRun {
		return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.UndrainAnswer], error) {
			return a.ClusterUndrain(ctx, q)
		}, showDryUndrain)
	}
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.UndrainAnswer, error) { return a.Undrain(ctx, q) },
		func(w io.Writer, a admin.UndrainAnswer) error {
			_, err := fmt.Fprintf(w, "%s isn't drained by an operator any more (%s). %s\n", dash(a.Backend), stateWords(a), a.Return())
			return err
		})
}

func stateWords(a admin.UndrainAnswer) string {
	if a.Reason != "" {
		return dash(a.State + ": " + a.Reason)
	}
	return dash(a.State)
}

// showDryUndrain says who would come back.
func showDryUndrain(w io.Writer, all admin.Cluster[admin.UndrainAnswer]) error {
	back, users, name, state, how := map[string]int{}, 0, "", "", ""
	for _, p := range all.Proxies {
		a := p.Answer
		if a == nil {
			continue
		}
		name, state, how, users = a.Backend, stateWords(*a), a.Return(), users+a.Users
		for from, n := range a.Back {
			back[from] += n
		}
	}
	fmt.Fprintf(w, "%s would not be drained by an operator any more (now %s): connections of %s belong there and are elsewhere. %s\n",
		dash(name), state, count(users, "user"), how)
	for _, from := range slices.Sorted(maps.Keys(back)) {
		fmt.Fprintf(w, "  %6d from %s\n", back[from], dash(from))
	}
	if answered := len(all.Proxies) - len(all.Failed()); answered > 1 {
		fmt.Fprintf(w, "A user who has connections by several of the %d proxies is counted at each.\n", answered)
	}
	return notAnswered(w, all.Failed())
}
