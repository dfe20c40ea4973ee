package session

import (
	"context"
	"fmt"

	"imapproxy/internal/fair"
	"imapproxy/proxy/upstream"
	"imapproxy/telemetry"
)

// If a backend checks the passwords, each guess occupies one of its login processes; Dovecot keeps one for up
// to 15 s after a wrong password. Dovecot's default is 100 of them: 250 guessers would leave none to users who
// know their passwords. So such logins share a few places at each backend, and networks take turns. Logins
// with a proved password (on a pooled connection, of a resume, with a master user) don't need a place.
//
// Networks with a recent login have as many places of their own: otherwise a user who knows the password would
// wait for the guessers of thousands of networks.

// loginAt logs in to a backend. If the backend is to prove the password, it first waits for the turn of the
// client's network. Its errors are those of Dialer.Login.
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
