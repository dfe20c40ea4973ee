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
		return errors.New("name a user, --session or --backend")
	case c.Backend != "" && (c.User != "" || c.Session != ""):
		return errors.New("--backend means all sessions there: leave the user and --session out")
	}
	k := admin.KickRequest{User: c.User, Session: c.Session, Backend: c.Backend, Forget: c.Forget, DryRun: c.DryRun, By: me()}
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.KickAnswer], error) {
		kick := a.ClusterKick
		if c.Local {
			kick = func(ctx context.Context, k admin.KickRequest) (admin.Cluster[admin.KickAnswer], error) {
				return onlyHere(ctx, c.Admin, k, a.Kick)
			}
		}
		all, err := kick(ctx, k)
		if err == nil {
			err = unknown(k, all)
		}
		return all, err
	}, showKicked)
}

// unknown returns an error if all proxies have answered and none knows the session or the backend that was
// named: the name is a mistake. A proxy of an older release doesn't say what it knows; it knows the sessions
// that it has ended.
func unknown(k admin.KickRequest, all admin.Cluster[admin.KickAnswer]) error {
	if k.Session == "" && k.Backend == "" || len(all.Failed()) > 0 {
		return nil
	}
	for _, p := range all.Proxies {
		if p.Answer != nil && (p.Answer.Known || p.Answer.Count > 0) {
			return nil
		}
	}
	switch {
	case k.Backend != "":
		return fmt.Errorf("there is no backend %q: imapproxy backends shows them", k.Backend)
	case k.User != "":
		return fmt.Errorf("%s has no session %q: imapproxy sessions --cluster shows them", k.User, k.Session)
	}
	return fmt.Errorf("there is no session %q: imapproxy sessions --cluster shows them", k.Session)
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
		text += fmt.Sprintf("; %d haven't ended yet, since their clients read nothing", sum.Left)
	}
	if len(all.Proxies) > 1 {
		text += fmt.Sprintf(" (on %d of %d proxies)", len(all.Proxies)-len(all.Failed()), len(all.Proxies))
	}
	fmt.Fprintln(w, text)
	return notAnswered(w, all.Failed())
}
