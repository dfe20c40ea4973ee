package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"imapproxy/internal/admin"
)

type moveCommand struct {
	adminFlags
	User    string `arg:"" placeholder:"USER" help:"The canonical name, as 'imapproxy sessions' shows it."`
	Backend string `arg:"" optional:"" placeholder:"BACKEND" help:"Where the user goes, as 'imapproxy backends' shows it. It has to be up."`
	Auto    bool   `help:"Take back an earlier move: the user goes where all others would."`
	DryRun  bool   `help:"Only say where the user is and would go."`
}

// Run moves a user by POST /v1/move, for all proxies.
func (c moveCommand) Run(env environment) error {
	if (c.Backend == "") != c.Auto {
		return errors.New("name a backend, or --auto")
	}
	q := admin.MoveRequest{User: c.User, Backend: c.Backend, Auto: c.Auto, By: me()}
	if c.DryRun {
		return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.MoveAnswer], error) {
			return a.ClusterMove(ctx, q)
		}, showDryMove)
	}
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.MoveAnswer, error) { return a.Move(ctx, q) }, showMove)
}

func showMove(w io.Writer, a admin.MoveAnswer) error {
	fmt.Fprintf(w, "%s goes to %s, for all proxies", dash(a.User), dash(a.To))
	switch {
	case a.Override == "" && a.Before == "":
		fmt.Fprint(w, "; no operator had moved them")
	case a.Override == "":
		fmt.Fprintf(w, "; they aren't sent to %s any more", dash(a.Before))
	case a.Before != "" && a.Before != a.Override:
		fmt.Fprintf(w, ", no longer to %s", dash(a.Before))
	}
	if a.Placement != "" {
		fmt.Fprintf(w, "; their placement in Consul is %s now", dash(a.Placement))
	}
	if a.From != "" && a.From != a.To {
		fmt.Fprintf(w, ". Connections to %s are given up as soon as each session can be parked (here: %s); imapproxy user %s shows it", dash(a.From), admin.Histogram(a.Sessions), dash(a.User))
	}
	_, err := fmt.Fprintln(w)
	return err
}

func showDryMove(w io.Writer, all admin.Cluster[admin.MoveAnswer]) error {
	sum, sessions := admin.MoveAnswer{}, map[string]int{}
	for _, p := range all.Proxies {
		a := p.Answer
		if a == nil {
			continue
		}
		if from := sum.From; sum.User == "" || from == "" {
			sum = *a
			if sum.From == "" {
				sum.From = from
			}
		}
		sessions = plus(sessions, a.Sessions)
	}
	fmt.Fprintf(w, "%s would go to %s", dash(sum.User), dash(sum.To))
	if sum.From == "" {
		fmt.Fprint(w, "; no proxy has a connection of theirs")
	} else {
		fmt.Fprintf(w, ", from %s", dash(sum.From))
	}
	if len(sessions) > 0 {
		fmt.Fprintf(w, "; sessions: %s", admin.Histogram(sessions))
	}
	fmt.Fprintln(w)
	return notAnswered(w, all.Failed())
}
