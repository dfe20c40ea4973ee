package session

import (
	"cmp"
	"context"
	"fmt"

	"imapproxy/internal/fair"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// Where a backend checks the passwords, each guess takes one of its login processes, and a
// Dovecot keeps that for up to 15 s after a wrong password. Dovecot's default is 100 of
// them: 250 guessers would leave none to those who know their passwords. So such logins have
// a few places at each backend, for which networks take turns. Logins that need no
// proof (a warm connection's, a resume's, a master's) aren't among them.

// Networks from which somebody has logged in lately have as many places of their own: guessers of
// thousands of networks would have a user who knows the password wait for all of them.

// knownNetworks is how many of those are remembered; they take 10 MB at most.
const knownNetworks = 1 << 16

// defaultUnproved is how many logins with unproved passwords a backend is asked for at a time.
const defaultUnproved = 32

// unprovedPerNetwork is the part of these places that one network may have.
const unprovedPerNetwork = 4

// unprovedPlaces are one backend's, for networks that are known or aren't.
type unprovedPlaces struct {
	backend string
	known   bool
}

// unproved is the size of such a queue.
func (l Limits) unproved() fair.Options {
	n := cmp.Or(l.UnprovedLogins, defaultUnproved)
	return fair.Options{Slots: n, PerKey: max(n/unprovedPerNetwork, 1)}
}

// loginAt logs in to a backend, when it is the turn of the client's network where the backend
// is to prove the password. Its errors are Dialer.Login's.
func (p *preLogin) loginAt(ctx context.Context, a *attempt, t upstream.Target, login upstream.Auth, c upstream.Client) (*upstream.Conn, error) {
	if a.proof != upstream.Verified {
		network := fair.Network(p.addr.Addr())
		queue := p.env.Queues.unprovedAt(unprovedPlaces{t.ID, p.env.Places.knows(network)})
		end := a.trace.Phase(telemetry.PhaseTurn)
		err := queue.Acquire(ctx, network)
		end(err)
		if err != nil {
			return nil, fmt.Errorf("waiting for a place among the logins at %s: %w", t.Name, err)
		}
		defer queue.Release(network)
	}
	return p.set.Dialer.Login(ctx, t, login, c)
}
