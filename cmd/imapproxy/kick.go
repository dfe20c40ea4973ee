package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"

	"imapproxy/internal/admin"
)

// localFlag is the flag of the verbs that change something.
type localFlag struct {
	Local bool `help:"Only on this proxy; without it on all proxies of the service."`
}

type kickCommand struct {
	adminFlags
	localFlag
	User    string `arg:"" optional:"" placeholder:"USER" help:"Whose sessions to end: the canonical name, as 'imapproxy sessions' shows it."`
	Session string `placeholder:"ID" help:"Only this session; USER may be left out."`
	Backend string `placeholder:"ID" help:"All sessions on this backend, in place of a user's."`
	Forget  bool   `help:"Close the users' warm connections too, and forget the credentials that the backend wouldn't be asked about for a while."`
	DryRun  bool   `help:"Only say what would be ended."`
}

// Run ends sessions by POST /v1/cluster/kick, or /v1/kick.
func (c kickCommand) Run(env environment) error {
	switch {
	case c.User == "" && c.Session == "" && c.Backend == "":
		return errors.New("whose sessions? name a user, or --session, or --backend")
	case c.Backend != "" && (c.User != "" || c.Session != ""):
		return errors.New("--backend means all sessions there: leave the user and --session out")
	}
	k := admin.KickRequest{User: c.User, Session: c.Session, Backend: c.Backend, Forget: c.Forget, DryRun: c.DryRun, By: me()}
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.KickAnswer], error) {
		if c.Local {
			return onlyHere(ctx, c.Admin, k, a.Kick)
		}
		return a.ClusterKick(ctx, k)
	}, showKicked)
}

// me returns the caller's name for the proxy's log.
func me() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// onlyHere returns one proxy's answer in the form of an answer of all proxies.
func onlyHere[Q, A any](ctx context.Context, address string, q Q, do func(context.Context, Q) (A, error)) (admin.Cluster[A], error) {
	a, err := do(ctx, q)
	return admin.Cluster[A]{Proxies: []admin.FromProxy[A]{{Proxy: address, Address: address, Own: true, Answer: &a}}}, err
}

func showKicked(w io.Writer, all admin.Cluster[admin.KickAnswer]) error {
	var sum admin.KickAnswer
	for _, p := range all.Proxies {
		if a := p.Answer; a != nil {
			sum.User, sum.DryRun = a.User, a.DryRun
			sum.Count, sum.Left, sum.WarmConnections = sum.Count+a.Count, sum.Left+a.Left, sum.WarmConnections+a.WarmConnections
			sum.Users = max(sum.Users, a.Users) // a user may have sessions at several proxies
		}
	}
	whose := dash(sum.User)
	if sum.User == "" {
		whose = count(sum.Users, "user")
	}
	text := fmt.Sprintf("%s of %s ended, %s closed", count(sum.Count, "session"), whose, count(sum.WarmConnections, "warm connection"))
	if sum.DryRun {
		text = fmt.Sprintf("%s of %s would be ended", count(sum.Count, "session"), whose)
	}
	if sum.Left > 0 {
		text += fmt.Sprintf("; %d still on their way out, their clients read nothing", sum.Left)
	}
	if len(all.Proxies) > 1 {
		text += fmt.Sprintf(" (on %d of %d proxies)", len(all.Proxies)-len(all.Failed()), len(all.Proxies))
	}
	fmt.Fprintln(w, text)
	return notAnswered(w, all.Failed())
}
