package main

import (
	"context"
	"fmt"
	"io"
	"os/user"

	"imapproxy/internal/admin"
)

type kickCommand struct {
	adminFlags
	User    string `arg:"" placeholder:"USER" help:"The user whose sessions to end: the canonical name, as 'imapproxy sessions' shows it."`
	Session string `placeholder:"ID" help:"Only this session."`
	Forget  bool   `help:"Also close the user's warm connections, so that the proxy asks the backend about the user's password again."`
}

// Run ends sessions by POST /v1/kick.
func (c kickCommand) Run(env environment) error {
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.KickAnswer, error) {
		k := admin.KickRequest{User: c.User, Session: c.Session, Forget: c.Forget}
		if me, err := user.Current(); err == nil {
			k.By = me.Username
		}
		return a.Kick(ctx, k)
	}, showKicked)
}

func showKicked(w io.Writer, a admin.KickAnswer) error {
	text := fmt.Sprintf("%s of %s ended, %s closed", count(len(a.Sessions), "session"), dash(a.User), count(a.WarmConnections, "warm connection"))
	if a.Left > 0 {
		text += fmt.Sprintf("; %d still on their way out, their clients read nothing", a.Left)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
