package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/peers"
)

// removeWithin bounds the removal of a dead proxy, without the questions before it.
const removeWithin = 5 * time.Second

// removeProxy takes a proxy that is known to be dead out of the agreement. Unless force is set, it asks first
// whether a process with this id answers at its admin address or at that of any proxy that is known: one that lives loses its
// place in the agreement, and its users may be at two backends until it notices.
func (a *App) removeProxy(ctx context.Context, id string, force bool) error {
	if !force {
		if where := a.answersAs(ctx, id); where != "" {
			return fmt.Errorf("%s is alive: it answers at %s. Stop that process, or use --force to remove it although it is alive", id, where)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	return a.agreement.part.Remove(ctx, id)
}

// answersAs returns the admin address at which the process answers, or a later one that it has handed over to;
// "": none answers as this process.
func (a *App) answersAs(ctx context.Context, id string) string {
	if id == a.cluster.id || slices.ContainsFunc(a.beside.leavingProcesses(), func(l admin.Leaving) bool { return l.ID == id }) {
		return a.AdminAddr()
	}
	question := peers.Request{Method: http.MethodGet, Path: "/v1/status"}
	answers := a.cluster.fleet.All(ctx, question)
	for _, p := range a.agreement.part.Status().Proxies {
		at := p.About.Admin
		listed := slices.ContainsFunc(answers, func(a peers.Answer) bool { return a.Peer.Address == at })
		if p.ID == id && at != "" && !strings.HasPrefix(at, ":") && !listed { // Consul doesn't list it
			answers = append(answers, a.cluster.fleet.Ask(ctx, peers.Peer{Address: at}, question))
		}
	}
	for _, answer := range answers {
		var s admin.Status
		if answer.Err != nil || answer.Status != http.StatusOK || json.Unmarshal(answer.Body, &s) != nil {
			continue
		}
		if s.Proxy.ID == id || slices.ContainsFunc(s.Leaving, func(l admin.Leaving) bool { return l.ID == id }) {
			return answer.Peer.Address
		}
	}
	return ""
}
