package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"imapproxy/internal/admin"
)

type proxiesCommand struct {
	adminFlags
}

// Run prints a line for each proxy of the service.
func (c proxiesCommand) Run(env environment) error {
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.Status], error) {
		return a.ClusterStatus(ctx)
	}, showProxies)
}

// showProxies says below the table what isn't the same for all.
func showProxies(w io.Writer, all admin.Cluster[admin.Status]) error {
	var rows [][]string
	versions, settings := map[string]bool{}, map[string]bool{}
	for _, p := range all.Proxies {
		row := []string{dash(p.Proxy), dash(p.Address)}
		s := p.Answer
		if s == nil {
			rows = append(rows, append(row, "no answer", "-", "-", "-", "-", "-", "-"))
			continue
		}
		versions[s.Version], settings[s.Proxy.Config] = true, true
		epoch := "-"
		if s.Proxy.Epoch != nil {
			epoch = fmt.Sprint(*s.Proxy.Epoch)
		}
		isolated := "no"
		if s.Proxy.Isolated != "" {
			isolated = s.Proxy.Isolated
		}
		rows = append(rows, append(row, s.State, dash(s.Version), ago(time.Duration(s.UptimeSeconds)*time.Second), fmt.Sprint(s.Sessions), epoch, isolated, dash(s.Proxy.Config)))
	}
	if err := table(w, []string{"PROXY", "ADMIN", "STATE", "VERSION", "UP FOR", "SESSIONS", "EPOCH", "ISOLATED", "CONFIG"}, rows); err != nil {
		return err
	}
	if len(versions) > 1 {
		fmt.Fprintln(w, "\nThe versions differ.")
	}
	if len(settings) > 1 {
		fmt.Fprintln(w, "\nThe settings differ: the proxies don't behave alike.")
	}
	return notAnswered(w, all.Failed())
}
