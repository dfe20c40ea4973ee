package session

import (
	"context"
	"errors"
	"log/slog"

	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// maxProvers is with how many owners a backend is tried whose answers show nothing.
const maxProvers = 3

// ProveSharing finds out, before a session asks, which backends apply the rights of the users who share mailboxes (docs/shared.md, Identity). Each backend is
// tried with owners who are placed there; the dialer logs what it finds, and remembers it. ProveSharing logs at which of those that serve
// no owner is known. It makes no connection to paused backends, and returns the IDs of those that it would have tried.
func (set *Settings) ProveSharing(ctx context.Context, log *slog.Logger) (paused []string) {
	o := &set.Shared
	if !o.Space.On() {
		return nil
	}
	var owners []string
	if o.Owners != nil {
		var err error
		if owners, err = o.Owners(ctx, maxOwners); err != nil {
			log.Warn("whose mailboxes are shared can't be found", "error", err)
		}
	}
	tries := map[string]int{} // by backend; maxProvers: no more are needed
	for _, owner := range owners {
		placement, err := set.placementOf(ctx, owner)
		if err != nil || placement == "" {
			continue
		}
		b, _, err := set.Router.Where(owner, placement)
		if err != nil || b.State == routing.Down || tries[b.ID] >= maxProvers {
			continue
		}
		if _, _, waits := set.Router.Paused(b.ID); waits {
			tries[b.ID] = maxProvers
			paused = append(paused, b.ID)
			continue
		}
		tries[b.ID]++
		within, cancel := context.WithTimeout(ctx, sharedWithin)
		err = set.Dialer.ProveSharing(within, set.TargetOf(b), upstream.Auth{User: owner, MasterPassword: o.Password})
		cancel()
		if err == nil || errors.Is(err, upstream.ErrRights) {
			tries[b.ID] = maxProvers
		}
		if ctx.Err() != nil {
			return paused
		}
	}
	serving, _ := set.Router.Serving()
	for _, b := range serving {
		if tries[b.ID] == 0 {
			log.Info("the rights of the users of shared mailboxes are proved when a session asks for one: no owner is known whose mail is there", "backend", b.Name)
		}
	}
	return paused
}
