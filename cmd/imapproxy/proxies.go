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

type proxiesCommand struct {
	List   proxiesListCommand   `cmd:"" default:"withargs" help:"The proxies of the service: version, state, sessions, and whether their settings are the same."`
	Remove proxiesRemoveCommand `cmd:"" help:"Remove a proxy that is known to be dead: the others don't wait for it any more, and move its users at once."`
}

type proxiesListCommand struct {
	adminFlags
	watchFlag
	columnsFlag
}

// Run prints a line for each proxy of the service.
func (c proxiesListCommand) Run(env environment) error {
	return c.watched(env, func() error { return c.show(env) })
}

func (c proxiesListCommand) show(env environment) error {
	columns, asked, err := chosen(env, c.columnsFlag, c.JSON, proxyColumns())
	if asked || err != nil {
		return err
	}
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.Cluster[admin.Status], error) {
		return a.ClusterStatus(ctx)
	}, func(w io.Writer, all admin.Cluster[admin.Status]) error { return showProxies(w, columns, all) })
}

// proxyRow is a proxy that has answered or hasn't, or an older process, which has no admin API.
type proxyRow struct{ proxy, admin, state, version, up, sessions, epoch, isolated, config string }

func proxyColumns() []column[proxyRow] {
	return []column[proxyRow]{
		{"PROXY", func(r proxyRow) string { return r.proxy }, 0},
		{"ADMIN", func(r proxyRow) string { return r.admin }, 2},
		{"STATE", func(r proxyRow) string { return r.state }, 0},
		{"VERSION", func(r proxyRow) string { return r.version }, 0},
		{"UP FOR", func(r proxyRow) string { return r.up }, 0},
		{"SESSIONS", func(r proxyRow) string { return r.sessions }, 0},
		{"EPOCH", func(r proxyRow) string { return r.epoch }, 1},
		{"ISOLATED", func(r proxyRow) string { return r.isolated }, 0},
		{"CONFIG", func(r proxyRow) string { return r.config }, 0},
	}
}

// showProxies prints a table, and below it the settings that differ between proxies.
func showProxies(w io.Writer, columns []column[proxyRow], all admin.Cluster[admin.Status]) error {
	var rows []proxyRow
	versions, settings := map[string]bool{}, map[string]bool{}
	for _, p := range all.Proxies {
		row := proxyRow{dash(p.Proxy), dash(p.Address), "no answer", "-", "-", "-", "-", "-", "-"}
		s := p.Answer
		if s == nil {
			rows = append(rows, row)
			continue
		}
		versions[s.Version], settings[s.Proxy.Config] = true, true
		if s.Proxy.Epoch != nil {
			row.epoch = fmt.Sprint(*s.Proxy.Epoch)
		}
		row.isolated = cmp.Or(s.Proxy.Isolated, "no")
		row.state, row.version, row.up, row.sessions, row.config = s.State, dash(s.Version), ago(time.Duration(s.UptimeSeconds)*time.Second), fmt.Sprint(s.Sessions), dash(s.Proxy.Config)
		rows = append(rows, row)
		for _, l := range s.Leaving {
			rows = append(rows, proxyRow{row.proxy, fmt.Sprintf("pid %d", l.PID), "leaving", dash(l.Version), "-", fmt.Sprint(l.Sessions), "-", "-", "-"})
		}
	}
	if err := listing(w, columns, rows); err != nil {
		return err
	}
	silent := showUnheard(w, all)
	if len(versions) > 1 {
		fmt.Fprintln(w, "\nThe versions differ.")
	}
	if len(settings) > 1 {
		fmt.Fprintln(w, "\nThe settings differ: the proxies don't behave alike.")
	}
	if err := notAnswered(w, all.Failed()); err != nil || !silent {
		return err
	}
	return failure{exitFailed}
}

// showUnheard names the proxies that the others take into account and that haven't answered, and reports whether one
// of them may be alive. An earlier process of a proxy that answers isn't one: it was killed. One at whose admin
// address no proxy was asked, since Consul doesn't list it, isn't called silent.
func showUnheard(w io.Writer, all admin.Cluster[admin.Status]) (silent bool) {
	var agreed *admin.Agreement
	heard, asked := map[string]bool{}, map[string]bool{}
	for _, p := range all.Proxies {
		asked[p.Address] = true
		if p.Answer == nil {
			continue
		}
		heard[p.Answer.Proxy.ID] = true
		for _, l := range p.Answer.Leaving { // its successor answers for it
			heard[l.ID] = true
		}
		if a := p.Answer.Agreement; a != nil && (agreed == nil || p.Own) {
			agreed = a
		}
	}
	if agreed == nil {
		return false
	}
	for _, p := range agreed.Proxies {
		if heard[p.ID] {
			continue
		}
		until := "until its Consul session ends"
		if p.Removed != nil {
			until = "for another " + ago(time.Until(*p.Removed))
		}
		later := slices.ContainsFunc(agreed.Proxies, func(o admin.AgreedPeer) bool {
			return heard[o.ID] && p.Admin != "" && o.Admin == p.Admin && o.Host == p.Host && o.Started.After(p.Started)
		})
		if later {
			fmt.Fprintf(w, "\nAn earlier process of the proxy on %s, admin address %s, has ended without saying so (started %s). The others wait for it %s, and its users aren't moved before that. "+
				"To end that now: imapproxy proxies remove %s\n", dash(p.Host), dash(p.Admin), p.Started.Format(time.RFC3339), until, p.ID)
			continue
		}
		silent = true
		if p.Admin != "" && !strings.HasPrefix(p.Admin, ":") && !asked[p.Admin] { // ":8143" is completed by Consul's entry
			fmt.Fprintf(w, "\nA proxy isn't listed, and wasn't asked: on %s, admin address %s. The others wait for it %s. It may be alive: look with imapproxy status --admin %s. "+
				"If it is, another one with the same host name and port may have taken its entry in Consul (docs/cluster.md). If it is dead: imapproxy proxies remove %s\n",
				dash(p.Host), dash(p.Admin), until, dash(p.Admin), p.ID)
			continue
		}
		fmt.Fprintf(w, "\nA proxy doesn't answer: on %s, admin address %s. The others wait for it %s. If it is dead: imapproxy proxies remove %s\n", dash(p.Host), dash(p.Admin), until, p.ID)
	}
	return silent
}

type proxiesRemoveCommand struct {
	adminFlags
	ID    string `arg:"" placeholder:"ID" help:"The id of its process, as 'imapproxy proxies' shows it for a proxy that doesn't answer."`
	Force bool   `help:"Also if it answers: it is alive, and its users may be at two backends until it notices."`
}

// Run has a dead proxy removed by POST /v1/proxies/remove.
func (c proxiesRemoveCommand) Run(env environment) error {
	return ask(env, c.adminFlags, func(ctx context.Context, a *admin.Client) (admin.RemoveAnswer, error) {
		return a.Remove(ctx, admin.RemoveRequest{Proxy: c.ID, Force: c.Force, By: me()})
	}, func(w io.Writer, a admin.RemoveAnswer) error {
		_, err := fmt.Fprintf(w, "%s is removed: the other proxies don't wait for it any more\n", a.Proxy)
		return err
	})
}
